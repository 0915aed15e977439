"""FLOPs of networks, against published tables and a layer worked by hand."""

import keras
import pytest

from cifar10.architectures import build
from cifar10.compute.flops import flops


@pytest.mark.parametrize(
    ("name", "published"),
    [  # multiply-adds, at 32 pixels without strides in the stem where the source has that; else by its layers' table
        ("vgg16", 313_201_664),  # 13 convolutions of the table: 14.7 million weights at 32, 16, 8, 4 and 2 pixels
        ("airbench94", 118_147_392),  # 0.36 PFLOP in 9.9 epochs of 50,000 images, whitening included
    ],
)
def test_flops_are_the_published_ones(statistics, name, published):
    assert flops(build(name, 10, statistics)) == pytest.approx(2 * published, rel=0.002)


@pytest.mark.parametrize(
    ("layer", "multiplications"),
    [
        (keras.layers.Conv2D(8, 3, 2, padding="same"), 4 * 5 * 3 * 3 * 6 * 8),
        (keras.layers.DepthwiseConv2D(3, padding="same"), 8 * 10 * 3 * 3 * 6),
        (keras.layers.SeparableConv2D(16, 5, padding="same"), 8 * 10 * (5 * 5 * 6 + 6 * 16)),
        (keras.layers.Dense(7), 6 * 7),  # of one pixel
        (keras.layers.BatchNormalization(), 0),
    ],
)
def test_flops_of_each_kind_of_layer(layer, multiplications):
    network = keras.Sequential([keras.Input((8, 10, 6)), layer])
    assert flops(network) == 2 * multiplications
    assert flops(keras.Sequential([keras.Input((8, 10, 6)), network])) == 2 * multiplications  # nested, too
