"""NASNet-A (Zoph et al. 2017, arXiv 1707.07012), adapted to 32x32 images.

Difference from the paper's mobile network (4 @ 1056): as in its network for CIFAR-10, the stem is a 3x3 convolution
with stride 1, without the two reduction cells that shrink large images, so that the stages work at 32, 16 and 8 pixels.
"""

import keras
from keras import KerasTensor, layers

from cifar10.architectures.common import (
    classifier,
    convolution,
    depthwise_initializer,
    image_input,
    norm,
    standardise,
)
from cifar10.contracts import Statistics

STEM_FILTERS = 32
PENULTIMATE_FILTERS = 1056  # channels after the last cell
NORMAL_CELLS = 4  # per stage
STAGES = 3
BRANCHES = 6  # the number of tensors that a normal cell concatenates


def nasnetmobile(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build three stages of four normal cells each, with a reduction cell between stages.

    The mobile version of NASNet-A: small cells of separable convolutions and poolings, whose wiring comes from an
    automated search and which are stacked by hand (Zoph et al. 2017). The stem keeps the full resolution of 32x32
    images, as in the paper's own network for CIFAR-10. It needs few operations, but many small ones in parallel take
    longer than their number suggests (Ma et al. 2018, arXiv 1807.11164).
    """
    inputs = image_input()
    x = convolution(standardise(statistics)(inputs), STEM_FILTERS, 3, name="stem")
    x = previous = norm(x, name="stem")
    for stage in range(1, STAGES + 1):
        filters = PENULTIMATE_FILTERS // BRANCHES // 2 ** (STAGES - stage)
        if stage > 1:
            x, previous = _reduction_cell(x, previous, filters, name=f"stage{stage}_reduction"), x
        for block in range(1, NORMAL_CELLS + 1):
            x, previous = _normal_cell(x, previous, filters, name=f"stage{stage}_block{block}"), x
    x = layers.ReLU(name="last_relu")(x)
    return classifier(inputs, x, num_classes, name="nasnetmobile")


def _normal_cell(x: KerasTensor, previous: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Apply the left cell of the paper's Figure 4 to the outputs of the last two cells."""
    p = _fit(previous, x, filters, name=f"{name}_previous")
    h = _squeeze(x, filters, name=f"{name}_current")
    branches = [
        p,
        _add(_separable(h, filters, 5, name=f"{name}_1_left"), _separable(p, filters, 3, name=f"{name}_1_right")),
        _add(_separable(p, filters, 5, name=f"{name}_2_left"), _separable(p, filters, 3, name=f"{name}_2_right")),
        _add(_average(h), p),
        _add(_average(p), _average(p)),
        _add(_separable(h, filters, 3, name=f"{name}_5_left"), h),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def _reduction_cell(x: KerasTensor, previous: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Apply the right cell of the same figure, which halves height and width."""
    p = _fit(previous, x, filters, name=f"{name}_previous")
    h = _squeeze(x, filters, name=f"{name}_current")
    first = _add(
        _separable(h, filters, 5, 2, name=f"{name}_1_left"), _separable(p, filters, 7, 2, name=f"{name}_1_right")
    )
    pooled = layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(h)
    second = _add(pooled, _separable(p, filters, 7, 2, name=f"{name}_2_right"))
    branches = [
        second,
        _add(_average(h, 2), _separable(p, filters, 5, 2, name=f"{name}_3_right")),
        _add(_average(first), second),
        _add(_separable(first, filters, 3, name=f"{name}_5_left"), pooled),
    ]
    return layers.Concatenate(name=f"{name}_concat")(branches)


def _squeeze(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Apply ReLU, a 1x1 convolution to `filters` channels, and batch norm."""
    x = convolution(layers.ReLU(name=f"{name}_relu")(x), filters, 1, name=name)
    return norm(x, name=name)


def _fit(previous: KerasTensor, x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Give the previous cell's output the size of `x` and `filters` channels."""
    if previous.shape[1] != x.shape[1]:
        return _halve(previous, filters, name)
    if previous.shape[-1] != filters:
        return _squeeze(previous, filters, name)
    return previous


def _halve(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Halve height and width, using pixels of both parities.

    Half of the output channels are computed from the pixels with even indices, the other half from those with odd ones.
    """
    x = layers.ReLU(name=f"{name}_relu")(x)
    shifted = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(
        layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_crop")(x)
    )
    halves = [
        convolution(each, filters // 2, 1, 2, name=f"{name}_{half}") for half, each in (("even", x), ("odd", shifted))
    ]
    return norm(layers.Concatenate(name=f"{name}_concat")(halves), name=name)


def _separable(x: KerasTensor, filters: int, kernel_size: int, strides: int = 1, *, name: str) -> KerasTensor:
    """Apply ReLU, a separable convolution and batch norm, twice; the strides are those of the first convolution."""
    for half, step in (("first", strides), ("second", 1)):
        x = layers.ReLU(name=f"{name}_{half}_relu")(x)
        x = layers.SeparableConv2D(
            filters,
            kernel_size,
            step,
            padding="same",
            use_bias=False,
            depthwise_initializer=depthwise_initializer(),
            pointwise_initializer="he_normal",
            name=f"{name}_{half}_conv",
        )(x)
        x = norm(x, name=f"{name}_{half}")
    return x


def _average(x: KerasTensor, strides: int = 1) -> KerasTensor:
    """Apply 3x3 average pooling."""
    return layers.AveragePooling2D(3, strides, padding="same")(x)


def _add(left: KerasTensor, right: KerasTensor) -> KerasTensor:
    """Add two tensors."""
    return layers.Add()([left, right])
