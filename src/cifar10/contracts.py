"""What crosses from one node to the next: plain tuples of arrays, without Kedro and without Keras."""

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import keras

CHANNELS = ("red", "green", "blue")


class Examples(NamedTuple):
    """Labelled pictures.

    Attributes:
        images: uint8 (n, 32, 32, 3), RGB, 0-255. They stay bytes until they are on the device.
        labels: uint8 (n,), indices into `class_names`.
    """

    images: np.ndarray
    labels: np.ndarray


class Statistics(NamedTuple):
    """What preprocessing learnt from the data, so that nothing downstream needs the pictures to know it.

    Attributes:
        mean: per channel, of the training part, in units of 0-255.
        std: per channel, of the training part, in units of 0-255.
        data_version: SHA-256 over the training, validation and test arrays, hexadecimal.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    data_version: str


class TrainedModel(NamedTuple):
    """A network and how it came to be.

    Attributes:
        network: standard Keras layers in float32, uncompiled; raw RGB 0-255 (n, 32, 32, 3) in, probabilities out.
        record: architecture, recipe, data version, the history of its epochs, seconds, versions, hardware; and,
            once loaded from the catalog, the `version` it was loaded as.
    """

    network: "keras.Model"
    record: dict[str, Any]


class Predictions(NamedTuple):
    """One model's answers, and the record of the model that gave them.

    Attributes:
        val: float32 (n, classes), probabilities on the validation part.
        test: float32 (n, classes), probabilities on the test part.
        record: that of the model, its version included.
    """

    val: np.ndarray
    test: np.ndarray
    record: dict[str, Any]


def data_version(*parts: Examples) -> str:
    """SHA-256 over dtype, shape and bytes of every array, in the order given."""
    digest = hashlib.sha256()
    for array in (array for part in parts for array in part):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
