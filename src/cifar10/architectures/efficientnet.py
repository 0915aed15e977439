"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), adapted to 32x32 images.

Difference from the paper: stride 1 in the stem and in the second stage, so that the last stage works at 4x4 pixels.
"""

import keras

from cifar10.architectures.common import classifier, convolution_norm, image_input, standardise
from cifar10.architectures.inverted_residual import inverted_residual
from cifar10.contracts import Statistics

# Table 1 of the paper: expansion, kernel size, filters and number of blocks; then the strides of the first block.
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 1),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
SQUEEZE = 0.25  # squeeze-and-excitation ratio: bottleneck channels / input channels
DROP = 0.2  # dropout rate before the logits; the rate of stochastic depth grows towards it from 0, block by block


def efficientnetb0(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build 16 inverted residuals with squeeze-and-excitation and stochastic depth, in seven stages.

    Inverted residual blocks with squeeze-and-excitation, whose widths, depths and kernel sizes come from an automated
    search for accuracy at few operations (Tan and Le 2019). Stem and second stage keep the resolution here, so that
    32x32 images end at 4x4 pixels rather than 1x1. It needs very few operations, but depthwise convolutions take longer
    than their number of operations suggests (Ma et al. 2018, arXiv 1807.11164).
    """
    inputs = image_input()
    x = convolution_norm(standardise(statistics)(inputs), 32, 3, activation="silu", name="stem")
    total, done = sum(depth for *_, depth, _ in STAGES), 0
    for stage, (expansion, kernel_size, filters, depth, first_strides) in enumerate(STAGES, start=1):
        for block in range(1, depth + 1):
            x = inverted_residual(
                x,
                filters,
                first_strides if block == 1 else 1,
                expansion=expansion,
                kernel_size=kernel_size,
                activation="silu",
                squeeze=SQUEEZE,
                drop=DROP * done / total,
                name=f"stage{stage}_block{block}",
            )
            done += 1
    x = convolution_norm(x, 1280, 1, activation="silu", name="last")
    return classifier(inputs, x, num_classes, dropout=DROP, name="efficientnetb0")
