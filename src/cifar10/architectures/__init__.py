"""The table of architectures. Reading it imports no Keras; building a network does."""

import importlib
from typing import TYPE_CHECKING

from cifar10.contracts import Statistics

if TYPE_CHECKING:
    import keras

# name -> module of this package that holds the builder of that name
ARCHITECTURES = {
    "simple_cnn": "plain",
    "batchnorm_cnn": "plain",
    "vgg16": "vgg",
}


def build(name: str, num_classes: int, statistics: Statistics) -> "keras.Model":
    """Build the untrained network of that name.

    Args:
        name: a key of `ARCHITECTURES`.
        num_classes: length of the logits.
        statistics: channel statistics of the training part, for the scaling inside the network.

    Returns:
        A model from raw RGB 0-255 (n, 32, 32, 3) to logits (n, num_classes), a layer named `features` before
        its head.
    """
    module = importlib.import_module(f"{__name__}.{ARCHITECTURES[name]}")
    return getattr(module, name)(num_classes, statistics)
