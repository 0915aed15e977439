"""DenseNet-BC (Huang et al. 2016, arXiv 1608.06993), fitted to 32x32 pictures.

Difference from the ImageNet network of the paper: a 3x3 stem with stride 1, no pooling and no batch norm, with which
the first layer begins anyway; so the stages work at 32, 16, 8 and 4 pixels.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution, norm, picture, standardise
from cifar10.contracts import Statistics

GROWTH = 32  # channels that each layer adds
BOTTLENECK = 4  # a layer's 1x1 convolution gives so many times the growth
COMPRESSION = 0.5  # share of the channels that pass on to the next stage


def densenet121(num_classes: int, statistics: Statistics) -> keras.Model:
    """Fifty-eight layers of two convolutions, in four stages."""
    return _densenet("densenet121", (6, 12, 24, 16), num_classes, statistics)


def _densenet(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    inputs = picture()
    x = convolution(standardise(statistics)(inputs), 2 * GROWTH, 3, name="stem")
    for stage, depth in enumerate(depths, start=1):
        if stage > 1:
            x = _transition(x, name=f"stage{stage}_transition")
        for block in range(1, depth + 1):
            x = _layer(x, name=f"stage{stage}_block{block}")
    x = norm(x, "relu", name="last")
    return classifier(inputs, x, num_classes, name=name)


def _layer(x: KerasTensor, name: str) -> KerasTensor:
    """All channels so far, and `GROWTH` new ones made of them."""
    new = norm(x, "relu", name=f"{name}_reduce")
    new = convolution(new, BOTTLENECK * GROWTH, 1, name=f"{name}_reduce")
    new = norm(new, "relu", name=f"{name}_spatial")
    new = convolution(new, GROWTH, 3, name=f"{name}_spatial")
    return layers.Concatenate(name=f"{name}_concat")([x, new])


def _transition(x: KerasTensor, name: str) -> KerasTensor:
    """Half the size, with fewer channels."""
    x = norm(x, "relu", name=name)
    x = convolution(x, int(COMPRESSION * x.shape[-1]), 1, name=name)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)
