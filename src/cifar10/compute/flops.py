"""The FLOPs of a network, and the values that its layers write."""

import math

import keras
from keras import layers

from cifar10.compute.layers import walk_layers


def flops(network: keras.Model) -> int:
    """Return the FLOPs of a forward pass of one image in convolutions and dense layers; a multiply-add counts as two.

    All other layers are negligible. A training step costs about three times as much.
    """
    return sum(map(layer_flops, walk_layers(network)))


def layer_flops(layer: keras.Layer) -> int:
    """Return the FLOPs of one layer, as `flops` counts them; none for a nested network, whose layers count."""
    return 2 * _multiplications(layer)


def layer_values(layer: keras.Layer) -> int:
    """Return how many values one layer writes for one image; none for a nested network, whose layers count."""
    if isinstance(layer, keras.Model):
        return 0
    return sum(math.prod(each.shape[1:]) for each in keras.tree.flatten(layer.output))


def _multiplications(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, layers.SeparableConv2D):
        pixels = math.prod(layer.output.shape[1:3])
        return pixels * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    return 0
