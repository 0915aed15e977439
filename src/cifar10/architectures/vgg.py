"""VGG (Simonyan and Zisserman 2014, arXiv 1409.1556), fitted to 32x32 pictures.

Differences from the paper: batch norm after every convolution, which the deeper columns need to train from scratch,
and one dense layer in place of three: after five max-pools a 32x32 picture is a single vector of 512.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cifar10.architectures.common import classifier, convolution_norm, picture, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 128, 256, 512, 512)  # a stage


def vgg16(num_classes: int, statistics: Statistics) -> keras.Model:
    """Column D of the paper: thirteen 3x3 convolutions in five stages."""
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, statistics)


def vgg19(num_classes: int, statistics: Statistics) -> keras.Model:
    """Column E of the paper: sixteen 3x3 convolutions in five stages."""
    return _vgg("vgg19", (2, 2, 4, 4, 4), num_classes, statistics)


def _vgg(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    inputs = picture()
    x = standardise(statistics)(inputs)
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), start=1):
        for block in range(1, depth + 1):
            x = convolution_norm(x, filters, 3, name=f"stage{stage}_block{block}")
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
    return classifier(inputs, x, num_classes, name=name)
