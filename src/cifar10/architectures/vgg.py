"""VGG (Simonyan and Zisserman 2014, arXiv 1409.1556), adapted to 32x32 images.

Differences from the paper: batch norm follows every convolution, because the deeper networks need it to train from
scratch; and one dense layer replaces three, because five max poolings reduce a 32x32 image to a single vector of 512.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cifar10.architectures.common import classifier, convolution_norm, image_input, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 128, 256, 512, 512)  # one number per stage


def vgg16(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build column D of the paper.

    Thirteen 3x3 convolutions in five stages, each of which ends in max pooling (Simonyan and Zisserman 2014). For 32x32
    images, batch norm follows every convolution and a single dense layer replaces the three of the paper. Plain
    networks without shortcuts become hard to train when they are much deeper (He et al. 2015, arXiv 1512.03385).
    """
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, statistics)


def vgg19(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build column E of the paper.

    VGG16 with one more convolution in each of its last three stages (Simonyan and Zisserman 2014). It needs about a
    quarter more computation than VGG16 and has a third more parameters.
    """
    return _vgg("vgg19", (2, 2, 4, 4, 4), num_classes, statistics)


def _vgg(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a VGG network with the given number of convolutions per stage."""
    inputs = image_input()
    x = standardise(statistics)(inputs)
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), start=1):
        for block in range(1, depth + 1):
            x = convolution_norm(x, filters, 3, name=f"stage{stage}_block{block}")
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
    return classifier(inputs, x, num_classes, name=name)
