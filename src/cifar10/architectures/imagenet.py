"""Networks of keras.applications with ImageNet weights, used as backbones under a new head.

The images are enlarged inside the network and then pass through the preprocessing of the backbone. Training decides
which layers of the backbone are trained.

The backbone starts with weights pretrained on ImageNet, and the images are enlarged for it. A new head is trained
first, on the frozen backbone; then the last layers of the backbone are fine-tuned together with the head. Pretrained
networks need fewer steps to converge (Kornblith et al. 2018, arXiv 1805.08974), but each enlarged image costs more
computation. Compare with care: ImageNet contains some of the classes of CIFAR-10, so these networks have learned from
more data than those trained from scratch.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from cifar10.architectures.common import BATCHNORM_MOMENTUM, image_input
from cifar10.contracts import Statistics
from cifar10.errors import InputError, RecipeError

BACKBONE = "backbone"  # the name of that layer
FORMATS = (".weights.h5", ".keras", ".h5")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue, of images in 0-1

apps = keras.applications


def vgg16_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on VGG16 (Simonyan and Zisserman 2014, arXiv 1409.1556).

    VGG16 with ImageNet weights as the backbone (Simonyan and Zisserman 2014): thirteen 3x3 convolutions without batch
    norm, in five stages.
    """
    return _transfer("vgg16_imagenet", apps.VGG16, apps.vgg16.preprocess_input, num_classes, **options)


def vgg19_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on VGG19 (Simonyan and Zisserman 2014, arXiv 1409.1556).

    VGG19 with ImageNet weights as the backbone (Simonyan and Zisserman 2014): sixteen 3x3 convolutions without batch
    norm, in five stages. It needs the most operations of these backbones.
    """
    return _transfer("vgg19_imagenet", apps.VGG19, apps.vgg19.preprocess_input, num_classes, **options)


def resnet50_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on ResNet50 (He et al. 2015, arXiv 1512.03385).

    ResNet50 with ImageNet weights as the backbone (He et al. 2015): sixteen bottleneck blocks with shortcuts.
    """
    return _transfer("resnet50_imagenet", apps.ResNet50, apps.resnet.preprocess_input, num_classes, **options)


def resnet101_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on ResNet101 (He et al. 2015, arXiv 1512.03385).

    ResNet101 with ImageNet weights as the backbone (He et al. 2015): 33 bottleneck blocks with shortcuts, at about
    twice the computation of ResNet50.
    """
    return _transfer("resnet101_imagenet", apps.ResNet101, apps.resnet.preprocess_input, num_classes, **options)


def densenet121_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on DenseNet121 (Huang et al. 2016, arXiv 1608.06993).

    DenseNet121 with ImageNet weights as the backbone (Huang et al. 2016): each layer takes the outputs of all previous
    layers of its stage as its input, which needs few parameters and much memory.
    """
    return _transfer("densenet121_imagenet", apps.DenseNet121, apps.densenet.preprocess_input, num_classes, **options)


def efficientnetb0_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on EfficientNetB0 (Tan and Le 2019, arXiv 1905.11946), which contains its own preprocessing.

    EfficientNetB0 with ImageNet weights as the backbone (Tan and Le 2019): inverted residuals with
    squeeze-and-excitation. It needs few operations, but depthwise convolutions take longer than their number of
    operations suggests (Ma et al. 2018, arXiv 1807.11164).
    """

    def preprocess(x: keras.KerasTensor) -> keras.KerasTensor:
        # The weights file stores standard deviations where Keras's `Normalization` layer expects variances, so that
        # layer divides by the square root of the standard deviation. Keras corrects this with a second division by that
        # root, but only if it downloads the weights itself; with a weights file it is done here.
        if options["weights"] == "imagenet":
            return x
        roots = [math.sqrt(std) for std in IMAGENET_STD]
        means = [255 * mean for mean in IMAGENET_MEAN]
        offsets = [mean * (1 - 1 / root) for mean, root in zip(means, roots, strict=True)]
        return layers.Rescaling([1 / root for root in roots], offsets, name="rescale")(x)

    return _transfer("efficientnetb0_imagenet", apps.EfficientNetB0, preprocess, num_classes, **options)


def nasnetmobile_imagenet(num_classes: int, statistics: Statistics | None, **options: Any) -> keras.Model:
    """Build a network on NASNetMobile (Zoph et al. 2017, arXiv 1707.07012).

    NASNetMobile with ImageNet weights as the backbone (Zoph et al. 2017): cells of separable convolutions whose wiring
    comes from an automated search. It needs few operations, but many small ones in parallel take longer than their
    number suggests (Ma et al. 2018, arXiv 1807.11164).
    """
    return _transfer("nasnetmobile_imagenet", apps.NASNetMobile, apps.nasnet.preprocess_input, num_classes, **options)


def mobilenetv2_imagenet(
    num_classes: int, statistics: Statistics | None, *, alpha: float, **options: Any
) -> keras.Model:
    """Build a network on MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) with `alpha` times its usual width.

    MobileNetV2 with ImageNet weights as the backbone (Sandler et al. 2018): inverted residuals with depthwise
    convolutions, designed for phones. It has few parameters and needs few operations.
    """

    def backbone(**arguments: Any) -> keras.Model:
        return apps.MobileNetV2(alpha=alpha, **arguments)

    return _transfer("mobilenetv2_imagenet", backbone, apps.mobilenet_v2.preprocess_input, num_classes, **options)


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
    """Build a network that enlarges and preprocesses images and applies backbone, average pooling and head.

    Args:
        name: of the network.
        backbone: its constructor.
        preprocess: converts RGB images of 0-255 to what the backbone was trained on.
        num_classes: length of the logits.
        weights: `imagenet` to download them, or the path of a file; None for random ones, to measure speed.
        image_size: side in pixels that the images are enlarged to.
        head_units: of the dense layer between features and logits.
        head_l2: L2 penalty on its kernel.
        head_dropout: dropout rate after it.

    Raises:
        InputError: the weights are not available, or do not belong to this backbone.
    """
    inputs = image_input()
    x = layers.Resizing(image_size, image_size, interpolation="bilinear", name="resize")(inputs)
    x = preprocess(x)
    # Without `training=False`, Keras runs a nested network in training mode if no mode is given to the outer one.
    x = _load(name, backbone, weights, image_size)(x, training=False)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(
        head_units, activation="relu", kernel_regularizer=keras.regularizers.L2(head_l2), name="head_dense"
    )(x)
    x = layers.BatchNormalization(momentum=BATCHNORM_MOMENTUM, name="head_norm")(x)
    x = layers.Dropout(head_dropout, name="head_dropout")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def _load(name: str, backbone: Callable[..., keras.Model], weights: str | None, image_size: int) -> keras.Model:
    """Build the backbone and load its weights.

    Raises:
        RecipeError: the file is not one of weights of this backbone.
        InputError: the file is missing or cannot be read, or the weights could not be downloaded.
    """
    arguments = {"include_top": False, "input_shape": (image_size, image_size, 3), "name": BACKBONE}
    if weights is None:
        return backbone(weights=None, **arguments)
    option = f"{name}.weights to the path of a weights file ({', '.join(FORMATS)})"
    kind: type[InputError] = InputError
    if weights == "imagenet":
        problem, advice = "the ImageNet weights are not available", f"Connect to the internet once, or set {option}."
    else:
        problem = f"{weights} does not contain the weights of this backbone, of this width and without its top layers"
        advice = f"Set {option}, or to 'imagenet' to download them."
        if not Path(weights).is_file():
            raise InputError(f"{name}: there is no file {weights}. {advice}")
        kind = RecipeError
        if not weights.endswith(FORMATS):
            raise kind(f"{name}: {weights} is not a weights file. {advice}")
    try:
        with warnings.catch_warnings():
            # With a file, Keras only warns of layers for which it holds no weights; here that is an error. With a
            # download, it warns that an image size has no weights of its own and that those of 224 pixels are used.
            warnings.simplefilter("ignore" if weights == "imagenet" else "error", UserWarning)
            return backbone(weights=weights, **arguments)
    except UserWarning as error:
        raise kind(f"{name}: {problem}. {advice}") from error
    except Exception as error:  # Keras and the file readers raise many kinds of exceptions here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        unread = isinstance(error, OSError) and error.errno
        raise (InputError if unread else kind)(f"{name}: {problem} ({reason}). {advice}") from error
