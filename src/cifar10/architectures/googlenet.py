"""GoogLeNet (Szegedy et al. 2014, arXiv 1409.4842), adapted to 32x32 images.

Differences from the paper:

- The stem is a single 3x3 convolution with 192 filters, so that the three stages work at 32, 16 and 8 pixels.
- Batch norm follows every convolution and replaces local response normalization.
- There are no auxiliary classifiers: they were there to bring a gradient to the early modules, as batch norm does.
"""

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import classifier, convolution_norm, image_input, standardise
from cifar10.contracts import Statistics

# Table 1 of the paper, modules 3a to 5b: filters of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, and pool projection.
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
    """Build nine inception modules in three stages.

    An inception module applies filters of several sizes side by side and concatenates their outputs (Szegedy et al.
    2014). Here the stem keeps the full resolution of 32x32 images, batch norm follows every convolution, and there are
    no auxiliary classifiers. It has few parameters for its amount of computation. Many small branches in parallel take
    longer than their number of operations suggests (Ma et al. 2018, arXiv 1807.11164).
    """
    inputs = image_input()
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
    """Concatenate four branches: 1x1, 3x3 and 5x5 convolutions (the latter two on reduced channels) and max pooling."""
    reduced3 = convolution_norm(x, reduce3, 1, name=f"{name}_3x3_reduce")
    reduced5 = convolution_norm(x, reduce5, 1, name=f"{name}_5x5_reduce")
    pooled = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        convolution_norm(x, ones, 1, name=f"{name}_1x1"),
        convolution_norm(reduced3, threes, 3, name=f"{name}_3x3"),
        convolution_norm(reduced5, fives, 5, name=f"{name}_5x5"),
        convolution_norm(pooled, projection, 1, name=f"{name}_pool_projection"),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)
