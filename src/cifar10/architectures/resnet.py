"""ResNet (He et al. 2015, arXiv 1512.03385) with bottleneck blocks, adapted to 32x32 images.

Differences from the paper: the stem is a 3x3 convolution with stride 1 and without pooling, so that the stages work at
32, 16, 8 and 4 pixels; and a block that halves the resolution does so in its 3x3 convolution, because a 1x1 convolution
with stride 2, as in the paper, ignores three of four pixels.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution_norm, image_input, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 128, 256, 512)  # of the bottleneck, one number per stage
EXPANSION = 4  # output channels of a block / filters of its bottleneck


def resnet50(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build 16 bottleneck blocks in four stages.

    Bottleneck blocks of 1x1, 3x3 and 1x1 convolutions, each with a shortcut that adds its input to its output (He et
    al. 2015). The shortcuts let gradients reach the early layers, so that networks of this depth can be trained. The
    stem keeps the full resolution of 32x32 images, which multiplies the operations of the first stage.
    """
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, statistics)


def resnet101(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build 33 bottleneck blocks in four stages.

    ResNet50 with 23 instead of 6 bottleneck blocks in its third stage (He et al. 2015). It has nearly twice as
    many parameters as ResNet50 and needs about twice as much computation.
    """
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, statistics)


def _resnet(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a ResNet with the given number of blocks per stage."""
    inputs = image_input()
    x = convolution_norm(standardise(statistics)(inputs), 64, 3, name="stem")
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), start=1):
        for block in range(1, depth + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _bottleneck(x, filters, strides, name=f"stage{stage}_block{block}")
    return classifier(inputs, x, num_classes, name=name)


def _bottleneck(x: KerasTensor, filters: int, strides: int, name: str) -> KerasTensor:
    """Add 1x1, 3x3 and 1x1 convolutions to a shortcut, which is itself a 1x1 convolution where the shape changes."""
    shortcut = x
    if x.shape[-1] != EXPANSION * filters:
        shortcut = convolution_norm(x, EXPANSION * filters, 1, strides, activation=None, name=f"{name}_shortcut")
    x = convolution_norm(x, filters, 1, name=f"{name}_reduce")
    x = convolution_norm(x, filters, 3, strides, name=f"{name}_spatial")
    x = convolution_norm(x, EXPANSION * filters, 1, activation=None, name=f"{name}_expand")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)
