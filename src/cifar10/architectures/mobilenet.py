"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), adapted to 32x32 images.

Difference from the paper: stride 1 in the stem and in the second stage, so that the last stage works at 4x4 pixels.
"""

import keras

from cifar10.architectures.common import classifier, convolution_norm, image_input, standardise
from cifar10.architectures.inverted_residual import inverted_residual
from cifar10.contracts import Statistics

# Table 2 of the paper: expansion, filters and number of blocks; then the strides of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenetv2(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build 17 inverted residuals in seven stages.

    Designed for phones (Sandler et al. 2018): its blocks expand the channels, filter each channel by itself with a
    depthwise convolution, and project back to few channels, with a shortcut between the narrow ends. Stem and second
    stage keep the resolution here, so that 32x32 images end at 4x4 pixels rather than 1x1. It is small and needs few
    operations, but depthwise convolutions take longer than their number of operations suggests (Ma et al. 2018, arXiv
    1807.11164).
    """
    inputs = image_input()
    x = convolution_norm(standardise(statistics)(inputs), 32, 3, activation="relu6", name="stem")
    for stage, (expansion, filters, depth, first_strides) in enumerate(STAGES, start=1):
        for block in range(1, depth + 1):
            x = inverted_residual(
                x,
                filters,
                first_strides if block == 1 else 1,
                expansion=expansion,
                activation="relu6",
                name=f"stage{stage}_block{block}",
            )
    x = convolution_norm(x, 1280, 1, activation="relu6", name="last")
    return classifier(inputs, x, num_classes, name="mobilenetv2")
