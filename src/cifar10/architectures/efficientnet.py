"""EfficientNet (Tan and Le 2019, arXiv 1905.11946), fitted to 32x32 pictures.

Difference from the paper: stride 1 in the stem and in the second stage, so that 32x32 pictures end at 4x4.
"""

import keras

from cifar10.architectures.common import classifier, convolution_norm, picture, standardise
from cifar10.architectures.inverted_residual import inverted_residual
from cifar10.contracts import Statistics

# The paper's Table 1: expansion, kernel size, filters, blocks; and the strides of the first block.
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 1),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
SQUEEZE = 0.25
DROP = 0.2  # of the logits' dropout; a block's share of pictures to leave it out for grows towards it from 0


def efficientnetb0(num_classes: int, statistics: Statistics) -> keras.Model:
    """Sixteen inverted residuals with squeeze and excitation and stochastic depth, in seven stages."""
    inputs = picture()
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
