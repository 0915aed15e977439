"""The network of airbench94 (Jordan 2024, arXiv 2404.00498), made to reach 94% on CIFAR-10 in the least time."""

import keras
import numpy as np
from keras import KerasTensor, layers

from cifar10.architectures.common import IMAGE_SHAPE, picture, standardise
from cifar10.contracts import Statistics

FILTERS = (64, 256, 256)  # a stage
PATCH = 2  # side of the patches that are whitened
LOGITS_SCALE = 1 / 9


def airbench94(num_classes: int, statistics: Statistics) -> keras.Model:
    """A whitening convolution that is not trained, and three stages of two convolutions; max-pooled, not averaged."""
    inputs = picture()
    whitening = _whitening(statistics)
    x = layers.Activation("gelu", name="whitening_gelu")(whitening(standardise(statistics)(inputs)))
    for stage, filters in enumerate(FILTERS, start=1):
        x = _dirac_convolution(x, filters, name=f"stage{stage}_block1")
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
        x = _norm_gelu(x, name=f"stage{stage}_block1")
        x = _dirac_convolution(x, filters, name=f"stage{stage}_block2")
        x = _norm_gelu(x, name=f"stage{stage}_block2")
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(3, name="last_pool")(x))
    x = layers.Rescaling(LOGITS_SCALE, name="features")(x)
    initial = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # PyTorch's, smaller than Keras's here
    logits = layers.Dense(num_classes, use_bias=False, kernel_initializer=initial, name="logits")(x)
    return keras.Model(inputs, logits, name="airbench94")


def _whitening(statistics: Statistics) -> layers.Conv2D:
    """The eigenvectors of the patches of the standardised training pictures, scaled to unit variance, and negated."""
    deviations = np.tile(statistics.std, PATCH**2)
    values, vectors = np.linalg.eigh(np.array(statistics.patch_covariance) / np.outer(deviations, deviations))
    filters = (vectors / np.sqrt(values + 5e-4)).T.reshape(-1, PATCH, PATCH, 3)
    kernel = np.concatenate([filters, -filters]).transpose(1, 2, 3, 0)

    layer = layers.Conv2D(kernel.shape[-1], PATCH, name="whitening")
    layer.build((None, *IMAGE_SHAPE))
    layer.kernel.assign(kernel)
    layer.kernel.trainable = False  # its bias is trained. Keras does not save this: a loaded network would train both
    return layer


def _dirac_convolution(x: KerasTensor, filters: int, name: str) -> KerasTensor:
    """A 3x3 convolution that begins by passing its input on, as far as it has filters for it."""
    layer = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")
    result = layer(x)
    kernel = np.array(layer.kernel)
    passed = np.arange(min(x.shape[-1], filters))
    kernel[:, :, :, passed] = 0
    kernel[1, 1, passed, passed] = 1
    layer.kernel.assign(kernel)
    return result


def _norm_gelu(x: KerasTensor, name: str) -> KerasTensor:
    x = layers.BatchNormalization(momentum=0.6, epsilon=1e-12, scale=False, name=f"{name}_norm")(x)
    return layers.Activation("gelu", name=f"{name}_gelu")(x)
