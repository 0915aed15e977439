"""The block of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), which EfficientNet is made of too."""

from keras import KerasTensor, layers

from cifar10.architectures.common import DEPTHWISE_INITIALIZER, convolution_norm, norm


def inverted_residual(
    x: KerasTensor,
    filters: int,
    strides: int = 1,
    *,
    expansion: int,
    kernel_size: int = 3,
    activation: str,
    squeeze: float = 0.0,
    drop: float = 0.0,
    name: str,
) -> KerasTensor:
    """Widen by a 1x1 convolution, filter each channel by itself, narrow again; added to the input where that fits.

    Args:
        x: (n, height, width, channels).
        filters: channels of the result.
        strides: of the depthwise convolution.
        expansion: the block is so many times as wide inside; at 1 there is nothing to widen.
        kernel_size: of the depthwise convolution.
        activation: after the first two convolutions; the last one has none, for it would lose information.
        squeeze: weigh the channels by a bottleneck of so many times `channels` (Hu et al. 2017, arXiv 1709.01507).
        drop: share of the pictures for which training leaves the block out (Huang et al. 2016, arXiv 1603.09382).
        name: prefix of the layers' names.
    """
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        x = convolution_norm(x, expansion * channels, 1, activation=activation, name=f"{name}_expand")
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=DEPTHWISE_INITIALIZER,
        name=f"{name}_depthwise_conv",
    )(x)
    x = norm(x, activation, name=f"{name}_depthwise")
    if squeeze:
        x = _squeeze_and_excite(x, int(squeeze * channels), activation, name=f"{name}_squeeze")
    x = convolution_norm(x, filters, 1, activation=None, name=f"{name}_project")
    if strides > 1 or channels != filters:
        return x
    if drop:
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _squeeze_and_excite(x: KerasTensor, bottleneck: int, activation: str, name: str) -> KerasTensor:
    """Each channel times a weight between 0 and 1, made of the averages of all channels."""
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(x)
    weights = layers.Conv2D(bottleneck, 1, activation=activation, name=f"{name}_reduce")(weights)
    weights = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_expand")(weights)
    return layers.Multiply(name=f"{name}_excite")([x, weights])
