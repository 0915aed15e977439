"""GoogLeNet (Szegedy et al. 2014, arXiv 1409.4842), fitted to 32x32 pictures.

Differences from the paper: one 3x3 convolution of 192 as the stem, so that the three stages work at 32, 16 and 8
pixels; batch norm after every convolution, in place of the local response norm; and no auxiliary classifiers, which
were there to bring a gradient to the early modules: batch norm does.
"""

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution_norm, picture, standardise
from cifar10.contracts import Statistics

# The paper's Table 1, modules 3a to 5b: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, and projection after the pool.
STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def googlenet(num_classes: int, statistics: Statistics) -> keras.Model:
    """Nine inception modules in three stages."""
    inputs = picture()
    x = convolution_norm(standardise(statistics)(inputs), 192, 3, name="stem")
    for stage, modules in enumerate(STAGES, start=1):
        if stage > 1:
            x = layers.MaxPooling2D(3, 2, padding="same", name=f"stage{stage}_pool")(x)
        for block, filters in enumerate(modules, start=1):
            x = _inception(x, *filters, name=f"stage{stage}_block{block}")
    return classifier(inputs, x, num_classes, dropout=0.4, name="googlenet")


def _inception(
    x: KerasTensor, ones: int, reduce3: int, threes: int, reduce5: int, fives: int, projection: int, *, name: str
) -> KerasTensor:
    """Four branches side by side: 1x1; 3x3 and 5x5, each on fewer channels; and a pool."""
    narrow3 = convolution_norm(x, reduce3, 1, name=f"{name}_3x3_reduce")
    narrow5 = convolution_norm(x, reduce5, 1, name=f"{name}_5x5_reduce")
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        convolution_norm(x, ones, 1, name=f"{name}_1x1"),
        convolution_norm(narrow3, threes, 3, name=f"{name}_3x3"),
        convolution_norm(narrow5, fives, 5, name=f"{name}_5x5"),
        convolution_norm(pooled, projection, 1, name=f"{name}_pool_projection"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)
