"""What all networks share: raw pictures in, standardised per channel; and how fast batch norm forgets."""

from keras import Input, KerasTensor, layers

from cifar10.contracts import Statistics

IMAGE_SHAPE = (32, 32, 3)
BATCHNORM_MOMENTUM = 0.9  # as in PyTorch; at the 0.99 of Keras, validation lags for the first thousand steps


def picture() -> KerasTensor:
    """Raw RGB 0-255, (n, 32, 32, 3)."""
    return Input(IMAGE_SHAPE, name="picture")


def standardise(statistics: Statistics) -> layers.Layer:
    """Bring each channel to mean 0 and standard deviation 1 over the training part.

    `Rescaling` with lists rather than `Normalization`, whose variables stand in the way of an ONNX export.
    """
    scale = [1.0 / std for std in statistics.std]
    offset = [-mean / std for mean, std in zip(statistics.mean, statistics.std, strict=True)]
    return layers.Rescaling(scale, offset, name="standardise")
