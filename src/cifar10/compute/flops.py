"""What a network costs to compute."""

import math

import keras
from keras import layers


def flops(network: keras.Model) -> int:
    """Operations of a forward pass of one picture, in convolutions and dense layers; a multiply-add counts as two.

    What else a network does is small beside them. A training step costs three times as much.
    """
    return 2 * sum(_multiplications(layer) for layer in network._flatten_layers(include_self=False))


def _multiplications(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, layers.SeparableConv2D):
        pixels = math.prod(layer.output.shape[1:3])
        return pixels * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
    if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
        return math.prod(layer.output.shape[1:3]) * math.prod(layer.kernel.shape)
    return 0
