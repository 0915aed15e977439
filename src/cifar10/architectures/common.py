"""What the networks share: the input of raw images, common building blocks, and the output of logits."""

import keras
from keras import KerasTensor, layers

from cifar10.contracts import Statistics

IMAGE_SHAPE = (32, 32, 3)
BATCHNORM_MOMENTUM = 0.9  # as in PyTorch; with Keras's 0.99, validation lags behind for the first thousand steps


def image_input() -> KerasTensor:
    """Return the input: raw RGB images of 0-255, (n, 32, 32, 3)."""
    return keras.Input(IMAGE_SHAPE, name="image")


def standardise(statistics: Statistics) -> layers.Layer:
    """Return a layer that gives each channel mean 0 and standard deviation 1 over the train split.

    It is a `Rescaling` with one scale and offset per channel. `Normalization` would do the same, but its variables
    interfere with the ONNX export.
    """
    scale = [1.0 / std for std in statistics.std]
    offset = [-mean / std for mean, std in zip(statistics.mean, statistics.std, strict=True)]
    return layers.Rescaling(scale, offset, name="standardise")


def convolution(x: KerasTensor, filters: int, kernel_size: int, strides: int = 1, *, name: str) -> KerasTensor:
    """Apply a convolution with He initialisation (He et al. 2015, arXiv 1502.01852).

    It has no bias, because the batch norm that follows adds one.
    """
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def depthwise_initializer() -> keras.initializers.Initializer:
    """Return He initialisation for a depthwise convolution, of values of its own.

    Each of its filters sees only one channel, but Keras computes the fan-in from all channels, which would make the
    weights far too small; the fan-out is kernel size squared, as wanted.
    """
    # An initializer draws its seed when it is made: shared by layers, it would give them equal weights, and made before
    # the seed of a training is set, others in every process.
    return keras.initializers.VarianceScaling(2.0, mode="fan_out")


def norm(x: KerasTensor, activation: str | None = None, *, name: str) -> KerasTensor:
    """Apply batch norm (Ioffe and Szegedy 2015, arXiv 1502.03167), then the activation, if any."""
    x = layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def convolution_norm(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    *,
    activation: str | None = "relu",
    name: str,
) -> KerasTensor:
    """Apply convolution, batch norm and activation."""
    return norm(convolution(x, filters, kernel_size, strides, name=name), activation, name=name)


def classifier(
    inputs: KerasTensor, x: KerasTensor, num_classes: int, *, dropout: float = 0.0, name: str
) -> keras.Model:
    """Complete a network with its head: global average pooling (the layer `features`) and a dense layer to logits."""
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)
