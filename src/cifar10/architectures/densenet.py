"""DenseNet-BC (Huang et al. 2016, arXiv 1608.06993), adapted to 32x32 images.

Difference from the paper's ImageNet network: the stem is a 3x3 convolution with stride 1, without pooling and without
batch norm (the first layer begins with one), so that the stages work at 32, 16, 8 and 4 pixels.
"""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution, image_input, norm, standardise
from cifar10.contracts import Statistics

GROWTH = 32  # growth rate: the number of channels that each layer adds
BOTTLENECK = 4  # output channels of the 1x1 convolution in a layer / growth rate
COMPRESSION = 0.5  # share of the channels that a transition keeps


def densenet121(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build 58 layers of two convolutions each, in four stages.

    Each layer takes the outputs of all previous layers of its stage as its input and adds 32 channels to them (Huang et
    al. 2016). Features are reused instead of learned again, so the network needs few parameters for its depth. The
    stem is adapted to 32x32 images. Concatenating all outputs takes memory that grows with the square of the depth
    unless it is shared (Pleiss et al. 2017, arXiv 1707.06990).
    """
    return _densenet("densenet121", (6, 12, 24, 16), num_classes, statistics)


def _densenet(name: str, depths: Sequence[int], num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a DenseNet with the given number of layers per stage."""
    inputs = image_input()
    x = convolution(standardise(statistics)(inputs), 2 * GROWTH, 3, name="stem")
    for stage, depth in enumerate(depths, start=1):
        if stage > 1:
            x = _transition(x, name=f"stage{stage}_transition")
        for block in range(1, depth + 1):
            x = _layer(x, name=f"stage{stage}_block{block}")
    x = norm(x, "relu", name="last")
    return classifier(inputs, x, num_classes, name=name)


def _layer(x: KerasTensor, name: str) -> KerasTensor:
    """Compute `GROWTH` new channels from all channels so far, and concatenate both."""
    new = norm(x, "relu", name=f"{name}_reduce")
    new = convolution(new, BOTTLENECK * GROWTH, 1, name=f"{name}_reduce")
    new = norm(new, "relu", name=f"{name}_spatial")
    new = convolution(new, GROWTH, 3, name=f"{name}_spatial")
    return layers.Concatenate(name=f"{name}_concat")([x, new])


def _transition(x: KerasTensor, name: str) -> KerasTensor:
    """Halve height and width and reduce the number of channels."""
    x = norm(x, "relu", name=name)
    x = convolution(x, int(COMPRESSION * x.shape[-1]), 1, name=name)
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)
