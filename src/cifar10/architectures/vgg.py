"""VGG (Simonyan and Zisserman 2014, arXiv 1409.1556), fitted to 32x32 pictures.

Differences from the paper: batch norm after every convolution (Ioffe and Szegedy 2015, arXiv 1502.03167), which
the deeper columns need to train from scratch, and one dense layer in place of three: after five max-pools a 32x32
picture is a single vector of 512.
"""

from collections.abc import Sequence

import keras
from keras import layers

from cifar10.architectures.common import BATCHNORM_MOMENTUM, picture, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 128, 256, 512, 512)


def vgg16(num_classes: int, statistics: Statistics) -> keras.Model:
    """Column D of the paper: thirteen 3x3 convolutions in five stages."""
    return _vgg("vgg16", (2, 2, 3, 3, 3), num_classes, statistics)


def _vgg(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    network = [picture(), standardise(statistics)]
    for stage, (filters, depth) in enumerate(zip(FILTERS, depths, strict=True), start=1):
        for block in range(1, depth + 1):
            network += [
                layers.Conv2D(
                    filters,
                    3,
                    padding="same",
                    use_bias=False,  # the batch norm that follows has its own
                    kernel_initializer="he_normal",
                    name=f"stage{stage}_conv{block}",
                ),
                layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, name=f"stage{stage}_norm{block}"),
                layers.ReLU(name=f"stage{stage}_relu{block}"),
            ]
        network.append(layers.MaxPooling2D(name=f"stage{stage}_pool"))
    network += [
        layers.GlobalAveragePooling2D(name="features"),
        layers.Dense(num_classes, name="logits"),
    ]
    return keras.Sequential(network, name=name)
