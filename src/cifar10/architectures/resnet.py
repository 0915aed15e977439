"""ResNet (He et al. 2015, arXiv 1512.03385) with bottleneck blocks, fitted to 32x32 pictures.

Differences from the paper: a 3x3 stem with stride 1 and no pooling, so that the stages work at 32, 16, 8 and 4 pixels;
and a block halves the picture in its 3x3 convolution, where the paper's 1x1 would skip three pixels of four.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution_norm, picture, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 128, 256, 512)  # of the bottleneck, a stage
EXPANSION = 4  # a block gives so many times as many channels


def resnet50(num_classes: int, statistics: Statistics) -> keras.Model:
    """Sixteen bottleneck blocks."""
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, statistics)


def resnet101(num_classes: int, statistics: Statistics) -> keras.Model:
    """Thirty-three bottleneck blocks."""
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, statistics)


def _resnet(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    inputs = picture()
    x = convolution_norm(standardise(statistics)(inputs), 64, 3, name="stem")
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), start=1):
        for block in range(1, depth + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = _bottleneck(x, filters, strides, name=f"stage{stage}_block{block}")
    return classifier(inputs, x, num_classes, name=name)


def _bottleneck(x: KerasTensor, filters: int, strides: int, name: str) -> KerasTensor:
    shortcut = x
    if x.shape[-1] != EXPANSION * filters:
        shortcut = convolution_norm(x, EXPANSION * filters, 1, strides, activation=None, name=f"{name}_shortcut")
    x = convolution_norm(x, filters, 1, name=f"{name}_reduce")
    x = convolution_norm(x, filters, 3, strides, name=f"{name}_spatial")
    x = convolution_norm(x, EXPANSION * filters, 1, activation=None, name=f"{name}_expand")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)
