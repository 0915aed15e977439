"""The table of architectures. Reading it imports no Keras; building a network does."""

import importlib
from typing import TYPE_CHECKING, Any

from cifar10.contracts import Statistics

if TYPE_CHECKING:
    import keras

# name -> module of this package that holds the builder of that name
ARCHITECTURES = {
    "simple_cnn": "plain",
    "batchnorm_cnn": "plain",
    "deep_cnn": "plain",
    "airbench94": "airbench",
    "vgg16": "vgg",
    "vgg19": "vgg",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "googlenet": "googlenet",
    "densenet121": "densenet",
    "efficientnetb0": "efficientnet",
    "nasnetmobile": "nasnet",
    "mobilenetv2": "mobilenet",
    "vgg16_imagenet": "imagenet",
    "vgg19_imagenet": "imagenet",
    "resnet50_imagenet": "imagenet",
    "resnet101_imagenet": "imagenet",
    "densenet121_imagenet": "imagenet",
    "efficientnetb0_imagenet": "imagenet",
    "nasnetmobile_imagenet": "imagenet",
    "mobilenetv2_imagenet": "imagenet",
}


def build(name: str, num_classes: int, statistics: Statistics, **knobs: Any) -> "keras.Model":
    """Build the network of that name, as it is before its training.

    Args:
        name: a key of `ARCHITECTURES`.
        num_classes: length of the logits.
        statistics: of the training part, for the scaling inside the network.
        knobs: what else its builder takes, of its recipe.

    Returns:
        A model from raw RGB 0-255 (n, 32, 32, 3) to logits (n, num_classes), a layer named `features` before
        its head.
    """
    module = importlib.import_module(f"{__name__}.{ARCHITECTURES[name]}")
    return getattr(module, name)(num_classes, statistics, **knobs)
