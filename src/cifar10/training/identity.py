"""What makes a training this one and no other. Imports Keras only where a network or the backend is needed."""

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

from cifar10.training.recipe import RECIPES

if TYPE_CHECKING:
    import keras

    from cifar10.contracts import Record
    from cifar10.training.recipe import Recipe

# Raise it when the arithmetic of training changes: the same network and recipe then give another result. Checkpoints of
# another engine are not resumed, and models of several engines not averaged. New options that are off do not count.
ENGINE_VERSION = 1
# Architectures of which that arithmetic alone has changed, and how often.
CHANGES = {
    "airbench94": 1,  # its whitening is in float32 where other layers are in bfloat16
    # Each depthwise convolution starts from weights of its own, which depend on the seed.
    "mobilenetv2": 1,
    "efficientnetb0": 1,
    "nasnetmobile": 1,
    "efficientnetb0_imagenet": 1,  # trained with the mean of ImageNet's images, and nothing dropped in frozen layers
}

DIGITS = 12  # of a SHA-256, hexadecimal
# Options of layers that say nothing about what is computed. Initial values do not, either: their suffixes are below.
IGNORED = frozenset({"name", "dtype", "trainable", "seed", "sparse", "ragged"})
IGNORED_SUFFIXES = ("_initializer", "_regularizer", "_constraint")
CALL_OPTIONS = frozenset({"training", "mask"})  # which Keras passes itself


def engine_version(architecture: str) -> int:
    """Return the version of the arithmetic by which this architecture is trained."""
    return ENGINE_VERSION + CHANGES.get(architecture, 0)


def recorded(recipe: "Recipe", name: str, data_version: str, class_names: list[str]) -> dict[str, Any]:
    """Return the fields of a record by which its training was the same one, as far as no network need be built."""
    return {
        "recipe_hash": recipe.hash,
        "seed": recipe.seed,
        "data_version": data_version,
        "class_names": class_names,
        "engine_version": engine_version(name),
    }


def is_recorded(record: "Record", fields: dict[str, Any]) -> bool:
    """Return whether a record has these values, as `recorded` returns them."""
    return all(getattr(record, name) == value for name, value in fields.items())


def identify(
    name: str, recipe: "Recipe", data_version: str, class_names: list[str], network_fingerprint: str
) -> dict[str, Any]:
    """Return what checkpoints of a training have in common with no other's, as JSON values.

    Args:
        name: the architecture.
        recipe: options at their default are left out, so that a new option changes no identity.
        data_version: that of `Statistics`.
        class_names: in the order of the labels.
        network_fingerprint: `fingerprint` of the network as it was built.
    """
    return _identity(
        architecture=name,
        recipe=recipe.described(exclude_defaults=True),
        data_version=data_version,
        class_names=class_names,
        initial_weights=recipe.initial_weights,
        fingerprint=network_fingerprint,
        engine_version=engine_version(name),
    )


def identity_of(record: "Record") -> dict[str, Any]:
    """Return the identity of the training that made a model, if it was trained on this backend."""
    # A recorded recipe has the origin of a weights file in place of its path, so that file is not looked for.
    recipe = RECIPES[record.architecture].model_validate(record.recipe)
    return _identity(
        architecture=record.architecture,
        recipe=recipe.model_dump(exclude_defaults=True),
        data_version=record.data_version,
        class_names=record.class_names,
        initial_weights=record.initial_weights,
        fingerprint=record.fingerprint,
        engine_version=record.engine_version,
    )


def _identity(**values: Any) -> dict[str, Any]:
    import keras

    return {**values, "backend": keras.backend.backend()}


def fingerprint(network: "keras.Model") -> str:
    """Return what a network computes, apart from the values of its weights, as 12 hexadecimal digits of a SHA-256.

    It covers the layers in their order, those of nested networks included: their classes, options and shapes of
    weights, and on which outputs each is called. Names, and options at the default of their layer, are left out, so it
    is the same in every process and with every version of Keras from 3.4 on.
    """
    text = json.dumps(_graph(network), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _graph(network: "keras.Model") -> dict[str, Any]:
    """Return a network as JSON values, with layers named by their place in it."""
    import keras

    # A Sequential does not say what each layer is called on; a functional model does.
    functional = keras.Model(network.inputs, network.outputs)
    config = functional.get_config()
    places = {layer["name"]: place for place, layer in enumerate(config["layers"])}
    layers = {layer.name: layer for layer in functional.operations}
    return {
        "layers": [
            {
                "kind": each["class_name"],
                **_computation(layers[each["name"]], each["config"]),
                "calls": [_call(node, places) for node in each["inbound_nodes"]],
            }
            for each in config["layers"]
        ],
        "outputs": _plain(config["output_layers"], places),
    }


def _computation(layer: "keras.Operation", config: dict[str, Any]) -> dict[str, Any]:
    """Return what a layer computes: its own graph, or its options and the shapes of its weights."""
    import keras

    if isinstance(layer, keras.Model):
        return {"graph": _graph(layer)}
    parameters = inspect.signature(type(layer).__init__).parameters
    defaults = {name: _plain(parameter.default) for name, parameter in parameters.items()}
    options = {
        name: plain
        for name, value in config.items()
        if name not in IGNORED and not name.endswith(IGNORED_SUFFIXES) and value is not None
        if (plain := _plain(value)) != defaults.get(name)
    }
    return {"options": options, "weights": [list(weight.shape) for weight in getattr(layer, "weights", ())]}


def _call(node: dict[str, Any], places: dict[str, int]) -> list[Any]:
    """Return the arguments of a call of a layer, in which outputs of other layers stand for their tensors."""
    options = {name: value for name, value in node["kwargs"].items() if name not in CALL_OPTIONS}
    return _plain([node["args"], options], places)


def _plain(value: Any, places: dict[str, int] | None = None) -> Any:
    """Return a value of a configuration as JSON values: numbers to 6 digits, names of layers as their places."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return _plain(value["config"]["keras_history"], places)
        return {key: _plain(each, places) for key, each in value.items() if key not in IGNORED and each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each, places) for each in value]
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, str):
        return (places or {}).get(value, value)
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return str(value)
