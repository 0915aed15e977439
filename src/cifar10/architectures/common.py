"""What the networks share: raw pictures in, the pieces that every family is made of, logits out."""

import keras
from keras import KerasTensor, layers

from cifar10.contracts import Statistics

IMAGE_SHAPE = (32, 32, 3)
BATCHNORM_MOMENTUM = 0.9  # as in PyTorch; at the 0.99 of Keras, validation lags for the first thousand steps

# He initialisation where each filter sees one channel: Keras would count all of them as its inputs.
DEPTHWISE_INITIALIZER = keras.initializers.VarianceScaling(2.0, mode="fan_out")


def picture() -> KerasTensor:
    """Raw RGB 0-255, (n, 32, 32, 3)."""
    return keras.Input(IMAGE_SHAPE, name="picture")


def standardise(statistics: Statistics) -> layers.Layer:
    """Bring each channel to mean 0 and standard deviation 1 over the training part.

    `Rescaling` with lists rather than `Normalization`, whose variables stand in the way of an ONNX export.
    """
    scale = [1.0 / std for std in statistics.std]
    offset = [-mean / std for mean, std in zip(statistics.mean, statistics.std, strict=True)]
    return layers.Rescaling(scale, offset, name="standardise")


def convolution(x: KerasTensor, filters: int, kernel_size: int, strides: int = 1, *, name: str) -> KerasTensor:
    """A convolution without bias, for a batch norm comes with its own; He initialisation (2015, arXiv 1502.01852)."""
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)


def norm(x: KerasTensor, activation: str | None = None, *, name: str) -> KerasTensor:
    """Batch norm (Ioffe and Szegedy 2015, arXiv 1502.03167), then the activation, if there is one."""
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
    """Convolution, batch norm, activation."""
    return norm(convolution(x, filters, kernel_size, strides, name=name), activation, name=name)


def classifier(
    inputs: KerasTensor, x: KerasTensor, num_classes: int, *, dropout: float = 0.0, name: str
) -> keras.Model:
    """Average over the picture (the layer `features`), and one dense layer to the logits."""
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)
