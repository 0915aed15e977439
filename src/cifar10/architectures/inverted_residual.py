"""The inverted residual block of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), also used by EfficientNet."""

from keras import KerasTensor, layers

from cifar10.architectures.common import convolution_norm, depthwise_initializer, norm


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
    """Expand the channels by a 1x1 convolution, filter each by itself, and project to fewer channels.

    The input is added to the result if both have the same shape.

    Args:
        x: (n, height, width, channels).
        filters: output channels.
        strides: of the depthwise convolution.
        expansion: channels of the depthwise convolution / input channels; with 1, the first convolution is left out.
        kernel_size: of the depthwise convolution.
        activation: after the first two convolutions. The last one has none, because it would lose information.
        squeeze: squeeze-and-excitation ratio: bottleneck channels / input channels; 0: none (Hu et al. 2017, arXiv
            1709.01507).
        drop: stochastic depth: share of the training images for which the block is skipped (Huang et al. 2016, arXiv
            1603.09382).
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
        depthwise_initializer=depthwise_initializer(),
        name=f"{name}_depthwise_conv",
    )(x)
    x = norm(x, activation, name=f"{name}_depthwise")
    if squeeze:
        x = _squeeze_and_excite(x, int(squeeze * channels), activation, name=f"{name}_squeeze")
    x = convolution_norm(x, filters, 1, activation=None, name=f"{name}_project")
    if strides > 1 or channels != filters:
        return x
    if drop:  # of one random number per image, so that the block is either dropped or kept for all of an image
        x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _squeeze_and_excite(x: KerasTensor, bottleneck: int, activation: str, name: str) -> KerasTensor:
    """Multiply each channel by a weight between 0 and 1, computed from the means of all channels."""
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(x)
    weights = layers.Conv2D(bottleneck, 1, activation=activation, name=f"{name}_reduce")(weights)
    weights = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_expand")(weights)
    return layers.Multiply(name=f"{name}_excite")([x, weights])
