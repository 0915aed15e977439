"""Blocks compute what those of keras.applications compute, with the same weights.

Equal are the blocks that this project has not changed; the differences of whole networks are named in test_families.py.
"""

import zlib

import keras
import numpy as np
import pytest
from keras.src.applications import densenet as their_densenet
from keras.src.applications import efficientnet as their_efficientnet
from keras.src.applications import mobilenet_v2 as their_mobilenet
from keras.src.applications import nasnet as their_nasnet
from keras.src.applications import resnet as their_resnet

from cifar10.architectures import build, densenet, inverted_residual, nasnet, resnet
from cifar10.architectures.common import convolution_norm

SIZE = 8


def fill(network):
    """Give every weight values that depend on its name and shape alone, so that two networks agree in any order."""
    for weight in network.weights:
        generator = np.random.default_rng(zlib.crc32(f"{weight.name} {tuple(weight.shape)}".encode()))
        values = generator.normal(size=weight.shape)
        if "kernel" in weight.name:
            receptive = weight.shape[:2] if weight.name == "depthwise_kernel" else weight.shape[:-1]
            values *= np.sqrt(2 / np.prod(receptive))
        elif weight.name in ("gamma", "moving_variance"):
            values = np.exp(0.2 * values)
        else:
            values *= 0.0 if weight.name == "bias" else 0.2
        weight.assign(values)


def run(make, *channels, sizes=None):
    """Return what a block makes of random inputs with these numbers of channels."""
    sizes = sizes or [SIZE] * len(channels)
    inputs = [keras.Input((size, size, each)) for size, each in zip(sizes, channels, strict=True)]
    generator = np.random.default_rng(0)
    given = [generator.normal(size=(2, size, size, each)) for size, each in zip(sizes, channels, strict=True)]
    network = keras.Model(inputs[0] if len(inputs) == 1 else inputs, make(*inputs))
    fill(network)
    return keras.ops.convert_to_numpy(network(given[0] if len(given) == 1 else given, training=False))


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=0.03 * theirs.std())  # their batch norms have another epsilon


@pytest.mark.parametrize("channels", [64, 32])
def test_bottleneck_is_that_of_resnet(channels):
    """With and without a convolution in its shortcut."""
    assert_same(
        run(lambda x: resnet._bottleneck(x, 16, 1, "block"), channels),
        run(lambda x: their_resnet.residual_block_v1(x, 16, conv_shortcut=channels != 64, name="block"), channels),
    )


def test_layer_and_transition_are_those_of_densenet():
    assert_same(
        run(lambda x: densenet._transition(densenet._layer(x, "a"), "b"), 64),
        run(lambda x: their_densenet.transition_block(their_densenet.conv_block(x, 32, "a"), 0.5, "b"), 64),
    )


@pytest.mark.parametrize(
    ("channels", "filters", "strides", "expansion"), [(16, 16, 1, 6), (16, 24, 1, 6), (16, 24, 2, 6), (32, 16, 1, 1)]
)
def test_inverted_residual_is_that_of_mobilenet(channels, filters, strides, expansion):
    def ours(x):
        return inverted_residual.inverted_residual(
            x, filters, strides, expansion=expansion, activation="relu6", name="block"
        )

    def theirs(x):
        return their_mobilenet._inverted_res_block(
            x, filters=filters, alpha=1.0, stride=strides, expansion=expansion, block_id=int(expansion > 1)
        )

    assert_same(run(ours, channels), run(theirs, channels))


@pytest.mark.parametrize(
    ("channels", "filters", "strides", "expansion", "kernel_size"),
    [(16, 16, 1, 6, 3), (16, 24, 2, 6, 5), (32, 16, 1, 1, 3)],
)
def test_inverted_residual_with_squeeze_and_excitation_is_that_of_efficientnet(
    channels, filters, strides, expansion, kernel_size
):
    def ours(x):
        return inverted_residual.inverted_residual(
            x, filters, strides, expansion=expansion, kernel_size=kernel_size, activation="silu", squeeze=0.25,
            drop=0.1, name="block",
        )  # fmt: skip

    def theirs(x):
        return their_efficientnet.block(
            x, filters_in=channels, filters_out=filters, kernel_size=kernel_size, strides=strides,
            expand_ratio=expansion, se_ratio=0.25, drop_rate=0.1, name="block",
        )  # fmt: skip

    assert_same(run(ours, channels), run(theirs, channels))


def test_stochastic_depth_drops_whole_images():
    """Of half of them, and the others count twice as much, as in the paper after rescaling."""
    inputs = keras.Input((SIZE, SIZE, 4))
    network = keras.Model(
        inputs,
        inverted_residual.inverted_residual(inputs, 4, expansion=2, activation="relu", drop=0.5, name="block"),
    )
    fill(network)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False  # uses its moving statistics in training, too
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).normal(size=(200, SIZE, SIZE, 4))
    added, full = (keras.ops.convert_to_numpy(network(images, training=each)) - images for each in (True, False))
    dropped = abs(added).max(axis=(1, 2, 3)) < 1e-6
    assert 60 < dropped.sum() < 140
    np.testing.assert_allclose(added[~dropped], 2 * full[~dropped], atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels"), [(SIZE, 24), (SIZE, 16), (2 * SIZE, 32)], ids=["squeezed", "as it is", "halved"]
)
def test_normal_cell_is_that_of_nasnet(size, channels):
    assert_same(
        run(lambda x, p: nasnet._normal_cell(x, p, 16, "cell"), 32, channels, sizes=[SIZE, size]),
        run(lambda x, p: their_nasnet._normal_a_cell(x, p, 16, "cell")[0], 32, channels, sizes=[SIZE, size]),
    )


def test_reduction_cell_is_that_of_nasnet():
    """Except in the last row and column, where theirs averages over the padding, too."""
    ours = run(lambda x, p: nasnet._reduction_cell(x, p, 16, "cell"), 32, 24)
    theirs = run(lambda x, p: their_nasnet._reduction_a_cell(x, p, 16, "cell")[0], 32, 24)
    assert_same(ours[:, :-1, :-1], theirs[:, :-1, :-1])


@pytest.mark.slow
def test_nasnet_stacks_its_cells_as_keras_does(statistics):
    """Each cell takes the outputs of the last two; after a reduction cell, the second is the input of that cell."""
    ours = build("nasnetmobile", 10, statistics)
    inputs = keras.Input((32, 32, 3))
    x = p = convolution_norm(ours.get_layer("standardise")(inputs), 32, 3, activation=None, name="stem")
    for stage, filters in enumerate((44, 88, 176)):
        if stage:
            x, p = nasnet._reduction_cell(x, p, filters, f"reduction{stage}"), x
        for block in range(4):
            x, p = their_nasnet._normal_a_cell(x, p, filters, f"{stage}_{block}")
    theirs = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x)))
    ours = keras.Model(ours.input, ours.get_layer("features").output)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    for network in (ours, theirs):
        fill(network)
    assert_same(*(keras.ops.convert_to_numpy(each(images, training=False)) for each in (ours, theirs)))
