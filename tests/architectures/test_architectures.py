"""The contract that every architecture keeps."""

import keras
import numpy as np
import pytest
import yaml

from cifar10.architectures import ARCHITECTURES, build
from cifar10.architectures.inverted_residual import inverted_residual
from cifar10.architectures.nasnet import _separable
from cifar10.compute.inference import grad_cam
from cifar10.compute.layers import walk_layers
from cifar10.pipeline_registry import register_pipelines
from cifar10.training.fit import _with_softmax
from cifar10.training.optimizers import make_optimizer
from cifar10.training.recipe import Recipe
from tests.helpers import LARGE, PROJECT, slow


def values(network):
    return [keras.ops.convert_to_numpy(variable) for variable in network.variables]


def test_table_blocks_and_pipelines_agree():
    """In any order."""
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    recipes = [name for name in blocks if not name.startswith("_")]
    trainings = [name.removeprefix("train_") for name in register_pipelines() if name.startswith("train_")]
    assert sorted(recipes) == sorted(ARCHITECTURES) == sorted(trainings)


@pytest.mark.parametrize("stage", ["train", "tune"])
def test_no_training_reads_the_test_split_or_another_recipe(stage):
    pipelines = register_pipelines()
    for name in ARCHITECTURES:
        inputs = pipelines[f"{stage}_{name}"].inputs()
        assert {"train", "val", "statistics"} <= inputs
        assert not [each for each in inputs if each.startswith("test")]
        assert {each for each in inputs if each.removeprefix("params:") in ARCHITECTURES} == {f"params:{name}"}


def test_depthwise_kernels_start_with_values_of_their_own_that_depend_on_the_seed():
    def kernels(seed):
        keras.utils.set_random_seed(seed)
        inputs = x = keras.Input((8, 8, 4))
        for name in ("first", "second"):
            x = inverted_residual(x, 4, expansion=2, activation="relu", name=name)
        x = _separable(x, 8, 3, name="third")
        return [
            keras.ops.convert_to_numpy(variable)
            for variable in keras.Model(inputs, _separable(x, 8, 3, name="fourth")).trainable_variables
            if variable.shape[-1] == 1
        ]

    found = kernels(0)
    assert len(found) == 6
    for place, one in enumerate(found):
        assert not any(np.array_equal(one, other) for other in found[:place])
    assert all(np.array_equal(one, again) for one, again in zip(found, kernels(0), strict=True))
    assert not any(np.array_equal(one, other) for one, other in zip(found, kernels(1), strict=True))


@pytest.mark.parametrize("name", slow(LARGE, ARCHITECTURES))
def test_contract(name, statistics, builder_options, drawn, tmp_path):
    keras.utils.set_random_seed(0)
    network = build(name, 7, statistics, **builder_options(name))
    images, labels = drawn[0].images[:8], drawn[0].labels[:8] % 7

    # Raw images in, logits out; the input of the head is `features`.
    assert network.name == name
    assert (network.input_shape, network.output_shape) == ((None, 32, 32, 3), (None, 7))
    order = [layer.name for layer in network.layers]
    assert order.index("features") < order.index("logits") == len(order) - 1

    # Scaling is inside.
    if ARCHITECTURES[name] != "imagenet":
        standardised = keras.ops.convert_to_numpy(network.get_layer("standardise")(images.astype("float32")))
        expected = (images - np.array(statistics.mean)) / np.array(statistics.std)
        np.testing.assert_allclose(standardised, expected, atol=1e-5)

    # Calling it changes nothing.
    before = values(network)
    logits = keras.ops.convert_to_numpy(network(images))
    np.testing.assert_allclose(logits, keras.ops.convert_to_numpy(network(images, training=False)), atol=1e-5)
    assert all(np.array_equal(old, new) for old, new in zip(before, values(network), strict=True))
    assert (logits < 0).any()

    # Once saved, it consists of standard Keras layers in float32 and returns the softmax of these logits.
    _with_softmax(network).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    probabilities = keras.ops.convert_to_numpy(loaded(images))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities, keras.ops.convert_to_numpy(keras.ops.softmax(logits)), atol=1e-5)
    assert loaded.compute_dtype == "float32"
    kinds = [type(layer) for layer in walk_layers(loaded)]
    assert all(kind.__module__.startswith("keras.") for kind in kinds)
    assert not any("Lambda" in kind.__name__ or "Random" in kind.__name__ for kind in kinds)

    # Its predictions can be explained.
    maps = grad_cam(loaded, images[:2], labels[:2])
    assert maps.shape == (2, 32, 32)
    assert np.isfinite(maps).all()
    assert 0 <= maps.min() <= maps.max() <= 1 + 1e-6

    # It learns; with a backbone, only the head is trained. Eager, because compilation would take longer than the steps.
    learning_rate = 2e-3
    if "backbone" in order:
        network.get_layer("backbone").trainable = False
        learning_rate = 2e-2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    recipe = Recipe(epochs=1, batch_size=8, optimizer="adam", learning_rate=learning_rate, schedule="constant", seed=0)
    network.compile(make_optimizer(recipe, len(images)), loss, run_eagerly=True, jit_compile=False)
    losses = [network.train_on_batch(images, labels) for _ in range(4)]
    assert losses[-1] < 0.95 * losses[0]
