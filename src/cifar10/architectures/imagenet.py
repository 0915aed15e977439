"""Networks that keras.applications offers with weights from ImageNet, as backbones under a head for these pictures.

The small pictures are enlarged inside the network and put through the backbone's own preprocessing. Which of the
backbone's layers are trained is for the training to say.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from cifar10.architectures.common import BATCHNORM_MOMENTUM, picture
from cifar10.contracts import Statistics
from cifar10.errors import InputError

BACKBONE = "backbone"  # the name of that layer
FORMATS = (".weights.h5", ".keras", ".h5")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue, of pictures in 0-1

apps = keras.applications


def vgg16_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556)."""
    return _transfer("vgg16_imagenet", apps.VGG16, apps.vgg16.preprocess_input, num_classes, **knobs)


def vgg19_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """VGG19 (Simonyan and Zisserman 2014, arXiv 1409.1556)."""
    return _transfer("vgg19_imagenet", apps.VGG19, apps.vgg19.preprocess_input, num_classes, **knobs)


def resnet50_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """ResNet50 (He et al. 2015, arXiv 1512.03385)."""
    return _transfer("resnet50_imagenet", apps.ResNet50, apps.resnet.preprocess_input, num_classes, **knobs)


def resnet101_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """ResNet101 (He et al. 2015, arXiv 1512.03385)."""
    return _transfer("resnet101_imagenet", apps.ResNet101, apps.resnet.preprocess_input, num_classes, **knobs)


def densenet121_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """DenseNet121 (Huang et al. 2016, arXiv 1608.06993)."""
    return _transfer("densenet121_imagenet", apps.DenseNet121, apps.densenet.preprocess_input, num_classes, **knobs)


def efficientnetb0_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """EfficientNetB0 (Tan and Le 2019, arXiv 1905.11946), which has its preprocessing inside."""

    def preprocess(x: keras.KerasTensor) -> keras.KerasTensor:
        # The variance stored with its weights is the standard deviation, so dividing by its root divides by too little.
        # Keras divides by that root again, but only where it downloads the weights: with a file it must be done here.
        if knobs["weights"] == "imagenet":
            return x
        roots = [math.sqrt(std) for std in IMAGENET_STD]
        means = [255 * mean for mean in IMAGENET_MEAN]
        offsets = [mean * (1 - 1 / root) for mean, root in zip(means, roots, strict=True)]
        return layers.Rescaling([1 / root for root in roots], offsets, name="rescale")(x)

    return _transfer("efficientnetb0_imagenet", apps.EfficientNetB0, preprocess, num_classes, **knobs)


def nasnetmobile_imagenet(num_classes: int, statistics: Statistics, **knobs: Any) -> keras.Model:
    """NASNetMobile (Zoph et al. 2017, arXiv 1707.07012)."""
    return _transfer("nasnetmobile_imagenet", apps.NASNetMobile, apps.nasnet.preprocess_input, num_classes, **knobs)


def mobilenetv2_imagenet(num_classes: int, statistics: Statistics, *, alpha: float, **knobs: Any) -> keras.Model:
    """MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), `alpha` times as wide."""

    def backbone(**options: Any) -> keras.Model:
        return apps.MobileNetV2(alpha=alpha, **options)

    return _transfer("mobilenetv2_imagenet", backbone, apps.mobilenet_v2.preprocess_input, num_classes, **knobs)


def check_weights(builder: str, **knobs: Any) -> None:
    """See that a network of this module can be built; weights that are to be downloaded are, if they are not there.

    Raises:
        InputError: the weights cannot be had, or are not of that backbone.
    """
    globals()[builder](2, None, **knobs)


def _transfer(
    name: str,
    backbone: Callable[..., keras.Model],
    preprocess: Callable[[keras.KerasTensor], keras.KerasTensor],
    num_classes: int,
    *,
    weights: str | None,
    image_size: int,
    head_units: int,
    head_l2: float,
    head_dropout: float,
) -> keras.Model:
    """Enlarge, preprocess, backbone, average (the layer `features`), and the head.

    Args:
        name: of the network.
        backbone: its constructor.
        preprocess: from RGB 0-255 to what the backbone was trained on.
        num_classes: length of the logits.
        weights: `imagenet` to download them, or the path of a file; None for random ones, to measure speed with.
        image_size: side, in pixels, that the pictures are enlarged to.
        head_units: of the dense layer between features and logits.
        head_l2: L2 penalty on its kernel.
        head_dropout: share of its outputs that training leaves out.

    Raises:
        InputError: the weights cannot be had, or are not of that backbone.
    """
    inputs = picture()
    x = layers.Resizing(image_size, image_size, interpolation="bilinear", name="resize")(inputs)
    x = preprocess(x)
    # Without `training=False`, Keras runs a network inside a network in training mode when neither is told which mode.
    x = _load(name, backbone, weights, image_size)(x, training=False)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(
        head_units, activation="relu", kernel_regularizer=keras.regularizers.L2(head_l2), name="head_dense"
    )(x)
    x = layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, name="head_norm")(x)
    x = layers.Dropout(head_dropout, name="head_dropout")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def _load(name: str, backbone: Callable[..., keras.Model], weights: str | None, image_size: int) -> keras.Model:
    options = {"include_top": False, "input_shape": (image_size, image_size, 3), "name": BACKBONE}
    if weights is None:
        return backbone(weights=None, **options)
    file = f"Give {name}.weights the path of a file that holds them ({', '.join(FORMATS)})"
    if weights == "imagenet":
        problem, advice = "the ImageNet weights cannot be had", f"Connect to the internet, once. Or: g{file[1:]}."
    else:
        problem = f"{weights} does not hold the weights of this backbone, in this width and without its top"
        advice = f"{file}, or 'imagenet' to download them."
        if not Path(weights).is_file():
            raise InputError(f"{name}: there is no file {weights}. {advice}")
        if not weights.endswith(FORMATS):
            raise InputError(f"{name}: {weights} is not a file of weights. {advice}")
    try:
        with warnings.catch_warnings():
            # Keras only warns of layers that it found no weights for in a file; and, where it downloads them, of a size
            # of pictures that has none of its own, for which those of the usual size are taken.
            warnings.simplefilter("ignore" if weights == "imagenet" else "error", UserWarning)
            return backbone(weights=weights, **options)
    except UserWarning as error:
        raise InputError(f"{name}: {problem}. {advice}") from error
    except Exception as error:  # Keras and its readers have no kind of their own for this
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(f"{name}: {problem} ({reason}). {advice}") from error
