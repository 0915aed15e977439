"""When two networks are the same, and when two trainings are."""

import keras
import pytest
from keras import layers

from cifar10.training import identity
from cifar10.training.identity import fingerprint


def network(
    activation="relu", strides=1, padding="same", epsilon=1e-3, momentum=0.9, rate=0.25, scale=1 / 255, offset=0.0,
    filters=4, dense=True, swapped=False, backbone_units=3, names=True, frozen=False, shared=False, **options,
):  # fmt: skip
    """Return a small network with branches and a nested one."""

    def name(text):
        return {"name": text} if names else {}

    inputs = keras.Input((8, 8, 3), **name("image"))
    x = layers.Rescaling(scale, offset, **name("scaling"))(inputs)
    left = layers.Conv2D(filters, 3, strides, padding, activation=activation, **name("left"), **options)(x)
    right = layers.Conv2D(filters, 3, strides, padding, activation=activation, **name("right"), **options)(x)
    right = layers.BatchNormalization(momentum=momentum, epsilon=epsilon, **name("norm"))(right)
    x = layers.Subtract(**name("subtract"))([right, left] if swapped else [left, right])
    x = layers.Dropout(rate, **name("dropout"))(layers.GlobalAveragePooling2D(**name("features"))(x))
    nested = keras.Sequential([keras.Input((filters,)), layers.Dense(backbone_units, activation="relu"),
                               layers.Dense(filters)], **name("nested"))  # fmt: skip
    nested.trainable = not frozen
    x = nested(nested(x)) if shared else nested(x)
    outputs = layers.Dense(5, **name("logits"))(x) if dense else x
    return keras.Model(inputs, outputs, **name("small"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"names": False},
        {"kernel_initializer": "he_normal"},
        {"kernel_regularizer": "l2"},
        {"kernel_constraint": "max_norm"},
        {"groups": 1},  # the default
        {"dtype": "mixed_bfloat16"},
        {"frozen": True},
        {"scale": 1 / 255 + 1e-12},
    ],
    ids=str,
)
def test_same_computation_has_the_same_fingerprint(changes):
    assert fingerprint(network(**changes)) == fingerprint(network())


def test_weights_do_not_count():
    small = network()
    before = fingerprint(small)
    small.set_weights([value + 1 for value in small.get_weights()])
    assert fingerprint(small) == before
    assert len(before) == 12
    assert set(before) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "tanh"},
        {"strides": 2},
        {"padding": "valid"},
        {"epsilon": 1e-5},
        {"momentum": 0.6},
        {"rate": 0.3},
        {"scale": 1 / 128},
        {"scale": 1 / 255 * 1.0001},
        {"offset": -1.0},
        {"filters": 8},
        {"dense": False},
        {"backbone_units": 4},
        {"swapped": True},  # the same layers in another order
        {"shared": True},  # the same layers, one called twice
        {"use_bias": False},
        {"dilation_rate": 2},
    ],
    ids=str,
)
def test_another_computation_has_another_fingerprint(changes):
    assert fingerprint(network(**changes)) != fingerprint(network())


def test_sequential_network_is_the_functional_one_of_the_same_layers():
    stack = [layers.Flatten(), layers.Dense(4, activation="relu"), layers.Dense(2)]
    inputs = keras.Input((4, 4, 3))
    functional = keras.Model(inputs, stack[2](stack[1](stack[0](inputs))))
    assert fingerprint(keras.Sequential([keras.Input((4, 4, 3)), *stack])) == fingerprint(functional)


def test_operations_between_layers_count_with_their_constants():
    """As in the preprocessing of some backbones."""

    def shifted(by, axis=2):
        inputs = keras.Input((4, 4, 3))
        return keras.Model(inputs, keras.ops.stack([inputs[..., axis], inputs[..., 0]], -1) - by)

    assert fingerprint(shifted(103.9)) == fingerprint(shifted(103.9))
    assert len({fingerprint(each) for each in (shifted(103.9), shifted(104.9), shifted(103.9, axis=1))}) == 3


@pytest.mark.parametrize("place", range(5))
def test_everything_that_a_training_depends_on_is_part_of_its_identity(recipe, place):
    """The architecture, the recipe, the version of the data, the class names, and the network."""
    given = ["simple_cnn", recipe(seed=1), "data", ["cat", "dog"], "network"]
    other = ["batchnorm_cnn", recipe(seed=2), "other data", ["dog", "cat"], "another network"]
    changed = [*given[:place], other[place], *given[place + 1 :]]
    before, after = (identity.identify(*each) for each in (given, changed))
    assert len([name for name in before if before[name] != after[name]]) == 1
    assert before["backend"] == keras.backend.backend()


def test_engine_versions_are_raised_for_all_or_some_architectures(monkeypatch):
    monkeypatch.setattr(identity, "CHANGES", {"vgg16": 2})
    assert [identity.engine_version(name) for name in ("vgg16", "vgg19")] == [
        identity.ENGINE_VERSION + 2,
        identity.ENGINE_VERSION,
    ]


def test_engine_version_is_part_of_the_identity(recipe, monkeypatch):
    before = identity.identify("simple_cnn", recipe(), "data", ["cat"], "network")
    monkeypatch.setattr(identity, "ENGINE_VERSION", identity.ENGINE_VERSION + 1)
    after = identity.identify("simple_cnn", recipe(), "data", ["cat"], "network")
    assert {name for name in before if before[name] != after[name]} == {"engine_version"}
