"""The table of architectures. Importing it does not import Keras; building a network does."""

import importlib
from typing import TYPE_CHECKING, Any

from cifar10.contracts import Statistics

if TYPE_CHECKING:
    import keras

# name -> module of this package that defines the builder of the same name
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


def build(name: str, num_classes: int, statistics: Statistics | None, **options: Any) -> "keras.Model":
    """Build an untrained network.

    Args:
        name: a key of `ARCHITECTURES`.
        num_classes: length of the logits.
        statistics: of the train split, to standardise the images inside the network. The `*_imagenet` networks do not
            need them, because they use the preprocessing of their backbone.
        options: further arguments of the builder, taken from the recipe.

    Returns:
        A model from raw RGB images of 0-255 (n, 32, 32, 3) to logits (n, num_classes). The input of its head is the
        output of a layer named `features`.
    """
    module = importlib.import_module(f"{__name__}.{ARCHITECTURES[name]}")
    return getattr(module, name)(num_classes, statistics, **options)
