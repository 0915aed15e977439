"""Plain convolutional networks: convolutions, pooling and dense layers, without branches or shortcuts."""

import keras
from keras import layers

from cifar10.architectures.common import (
    BATCHNORM_MOMENTUM,
    classifier,
    convolution_norm,
    image_input,
    standardise,
)
from cifar10.contracts import Statistics


def simple_cnn(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a small network without batch norm.

    The network of many introductory tutorials: three convolutions, each followed by max pooling, and two dense layers
    with dropout between them. It has no batch norm, and most of its weights are in the first dense layer. With
    its few operations, it is a baseline for the deeper networks.
    """
    return keras.Sequential(
        [
            image_input(),
            standardise(statistics),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(128, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5, name="features"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="simple_cnn",
    )


def batchnorm_cnn(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a small network with batch norm and dropout.

    Three convolutions, each followed by batch norm, max pooling and dropout, and two dense layers. Batch norm
    allows higher learning rates (Ioffe and Szegedy 2015, arXiv 1502.03167); the dropout rate, which limits overfitting
    at the price of capacity, grows with depth from 25 to 50%. Most of the weights are in the first dense layer.
    """
    network = [image_input(), standardise(statistics)]
    for filters, dropout in ((32, 0.25), (96, 0.4), (192, 0.5)):
        network += [
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM),
            layers.MaxPooling2D(),
            layers.Dropout(dropout),
        ]
    network += [
        layers.Flatten(),
        layers.Dense(512, activation="relu", name="features"),
        layers.Dense(num_classes, name="logits"),
    ]
    return keras.Sequential(network, name="batchnorm_cnn")


def deep_cnn(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a small network in the style of VGG.

    Seven 3x3 convolutions with batch norm in four stages, with max pooling between the stages. Global average pooling
    replaces the large dense layers of the simpler networks, so nearly all weights are in convolutions. It
    resembles VGG16, with far fewer parameters and much less computation.
    """
    inputs = image_input()
    x = standardise(statistics)(inputs)
    for stage, (filters, depth) in enumerate(((32, 1), (64, 2), (128, 2), (256, 2)), start=1):
        if stage > 1:
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        for block in range(1, depth + 1):
            x = convolution_norm(x, filters, 3, name=f"stage{stage}_block{block}")
    return classifier(inputs, x, num_classes, dropout=0.2, name="deep_cnn")
