"""What crosses from one node to the next: plain tuples of arrays, without Kedro and without Keras."""

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cifar10.errors import InputError

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
        patch_covariance: (12, 12), of the 2x2 patches of the training part in units of 0-255 squared; its axes run over
            rows, columns and channels of a patch.
        digests: `digest` of the parts `train`, `val` and `test`.
        data_version: SHA-256 over the three digests: what tells these data from any others.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch_covariance: tuple[tuple[float, ...], ...]
    digests: dict[str, str]
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
        train: float32 (n, classes), probabilities on the training part, as it is.
        val: as `train`, on the validation part.
        test: as `train`, on the test part.
        record: that of the model, its version included.
        views: which test-time augmentation the following were made with, or `none`.
        val_averaged: as `val`, averaged over the views of each picture; None without test-time augmentation.
        test_averaged: as `test`, likewise.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    record: dict[str, Any]
    views: str = "none"
    val_averaged: np.ndarray | None = None
    test_averaged: np.ndarray | None = None


class Export(NamedTuple):
    """A model for those who know neither Kedro nor Keras.

    Attributes:
        name: of the architecture.
        files: path inside the folder of its version -> content.
        config: what Triton wants to know of all its versions.
    """

    name: str
    files: dict[str, bytes]
    config: str


def digest(examples: Examples) -> str:
    """SHA-256 over dtype, shape and bytes of images and labels, hexadecimal."""
    sha = hashlib.sha256()
    for array in examples:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def verify(digests: dict[str, str], **parts: Examples) -> None:
    """See that parts are those whose digests were taken: they lie in files of their own, which can be replaced singly.

    Raises:
        InputError: a part is another one.
    """
    for name, part in parts.items():
        if digest(part) != digests[name]:
            raise InputError(
                f"The {name} pictures have changed since preprocessing was last completed. Run it again, then train on "
                "what it makes: kedro run --pipelines=preprocessing (with the same --env and --params)"
            )
