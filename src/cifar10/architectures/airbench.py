"""The network of airbench94 (Jordan 2024, arXiv 2404.00498), designed to reach 94% on CIFAR-10 as fast as possible."""

import keras
import numpy as np
from keras import KerasTensor, layers

from cifar10.architectures.common import IMAGE_SHAPE, image_input, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 256, 256)  # one number per stage
PATCH = 2  # side of the patches that are whitened, in pixels
WHITENING_EPSILON = 5e-4  # added to the variances, so that directions of almost no variance are not magnified to noise
LOGITS_SCALE = 1 / 9


def airbench94(num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a fixed whitening convolution and three stages of two convolutions, with max pooling throughout.

    Designed to reach 94% test accuracy on CIFAR-10 in as little training time as possible (Jordan 2024). The first
    convolution is computed from the training images rather than learned: it whitens patches of 2x2 pixels, which means
    that its outputs are uncorrelated and have equal variance. Six 3x3 convolutions with GELU follow, which initially
    pass their input through unchanged. Network and recipe are tuned to each other and to CIFAR-10; whitening scales up
    the weak components of an image, and with them its noise.
    """
    inputs = image_input()
    whitening = _whitening(statistics)
    x = layers.Activation("gelu", name="whitening_gelu")(whitening(standardise(statistics)(inputs)))
    for stage, filters in enumerate(FILTERS, start=1):
        x = _dirac_convolution(x, filters, name=f"stage{stage}_block1")
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        x = _norm_gelu(x, name=f"stage{stage}_block1")
        x = _dirac_convolution(x, filters, name=f"stage{stage}_block2")
        x = _norm_gelu(x, name=f"stage{stage}_block2")
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(3, name="last_pool")(x))
    # Scaling the features scales the logits: with small logits, the probabilities start close to uniform, which suits
    # the high learning rates of the recipe. The factor is the paper's.
    x = layers.Rescaling(LOGITS_SCALE, name="features")(x)
    initial = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # PyTorch's default, smaller than Keras's
    logits = layers.Dense(num_classes, use_bias=False, kernel_initializer=initial, name="logits")(x)
    return keras.Model(inputs, logits, name="airbench94")


def _whitening(statistics: Statistics) -> layers.Conv2D:
    """Build the convolution that whitens the patches of the standardised training images.

    Neighbouring pixels are strongly correlated, which makes the first layer hard to train. A 2x2 patch of RGB pixels is
    a vector of 12 numbers. The eigenvectors of the covariance matrix of all patches are 12 directions along which the
    patches vary independently of each other, and the eigenvalues are the variances along them. A filter that is an
    eigenvector divided by the square root of its eigenvalue therefore has outputs of variance 1 that are uncorrelated
    with those of the other filters: this is principal component analysis, written as a convolution. Each filter is
    present a second time with its sign changed, because the activation that follows suppresses negative outputs.
    """
    # `patch_covariance` is in pixel values: dividing by both standard deviations converts it to standardised images.
    deviations = np.tile(statistics.std, PATCH**2)
    values, vectors = np.linalg.eigh(np.array(statistics.patch_covariance) / np.outer(deviations, deviations))
    filters = (vectors / np.sqrt(values + WHITENING_EPSILON)).T.reshape(-1, PATCH, PATCH, 3)  # eigenvectors are columns
    kernel = np.concatenate([filters, -filters]).transpose(1, 2, 3, 0)  # to Keras's rows, columns, channels, filters

    layer = layers.Conv2D(kernel.shape[-1], PATCH, name="whitening")
    layer.build((None, *IMAGE_SHAPE))
    layer.kernel.assign(kernel)
    # Only the bias is trained. Keras does not save this flag: after loading, both variables would be trainable.
    layer.kernel.trainable = False
    return layer


def _dirac_convolution(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """Apply a 3x3 convolution that initially passes its input through (Dirac initialisation).

    Filter i starts as 1 at the centre of channel i and 0 elsewhere, so its output is channel i itself. Signal and
    gradient thus pass through all layers from the first step on. Where there are more filters than input channels, the
    remaining filters keep their random initial values.
    """
    layer = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")
    result = layer(x)
    kernel = np.array(layer.kernel)
    passed = np.arange(min(x.shape[-1], filters))
    kernel[:, :, :, passed] = 0
    kernel[1, 1, passed, passed] = 1
    layer.kernel.assign(kernel)
    return result


def _norm_gelu(x: KerasTensor, name: str) -> KerasTensor:
    """Apply batch norm and GELU."""
    x = layers.BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False, name=f"{name}_norm")(x)
    return layers.Activation("gelu", name=f"{name}_gelu")(x)
