"""Plain convolutional networks: convolutions, pooling, and dense layers on the flattened result."""

import keras
from keras import layers

from cifar10.architectures.common import (
    BATCHNORM_MOMENTUM,
    classifier,
    convolution_norm,
    picture,
    standardise,
)
from cifar10.contracts import Statistics


def simple_cnn(num_classes: int, statistics: Statistics) -> keras.Model:
    """Three convolutions, each followed by max-pooling, and two dense layers: the network of every first lesson."""
    return keras.Sequential(
        [
            picture(),
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
    """Three blocks of convolution, batch norm, max-pooling and dropout that grows with depth, and two dense layers."""
    network = [picture(), standardise(statistics)]
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
    """Seven convolutions with batch norm in four stages, max-pooling between them, averaged at the end."""
    inputs = picture()
    x = standardise(statistics)(inputs)
    for stage, (filters, depth) in enumerate(((32, 1), (64, 2), (128, 2), (256, 2)), start=1):
        if stage > 1:
            x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        for block in range(1, depth + 1):
            x = convolution_norm(x, filters, 3, name=f"stage{stage}_block{block}")
    return classifier(inputs, x, num_classes, dropout=0.2, name="deep_cnn")
