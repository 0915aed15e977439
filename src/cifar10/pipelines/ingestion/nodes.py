"""Raw batches to examples: the same pictures give the same arrays, whichever layout they come in."""

from collections.abc import Iterable

import numpy as np

from cifar10.contracts import Examples
from cifar10.datasets.raw import PIXELS, RawBatch
from cifar10.errors import InputError


def read_batches(batches: dict[str, list[RawBatch]], class_names: list[str]) -> tuple[Examples, Examples]:
    """Make examples of the pickle batches.

    Returns:
        Training and test examples.

    Raises:
        InputError: a batch whose pixels or labels cannot be CIFAR-10's.
    """
    return _examples(batches["train"], len(class_names)), _examples(batches["test"], len(class_names))


def read_csv(train: Iterable[RawBatch], test: Iterable[RawBatch], class_names: list[str]) -> tuple[Examples, Examples]:
    """Make examples of the CSV pair.

    Returns:
        Training and test examples, equal to those of the batches of the same pictures.

    Raises:
        InputError: as `read_batches`, or for a cell that is no byte.
    """
    return _examples(train, len(class_names)), _examples(test, len(class_names))


def _examples(batches: Iterable[RawBatch], num_classes: int) -> Examples:
    parts = [_part(batch, num_classes) for batch in batches]
    return Examples(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _part(batch: RawBatch, num_classes: int) -> Examples:
    source, pixels, labels = batch
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise InputError(
            f"{source}: pixels are {pixels.dtype} {pixels.shape}, but should be uint8 (n, {PIXELS}). Replace the file."
        )
    if len(pixels) == 0:
        raise InputError(f"{source} has no rows. Replace the file.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(pixels),):
        raise InputError(
            f"{source}: {len(pixels)} pictures, but labels are {labels.dtype} {labels.shape}; there should be one "
            "whole number a picture. Replace the file."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise InputError(
            f"{source}: label {labels[wrong[0]]} of picture {wrong[0] + 1} is not between 0 and {num_classes - 1}. "
            "Replace the file."
        )
    images = np.stack(np.split(pixels, 3, axis=1), axis=-1)  # plane by plane: several times as fast as a transposition
    return Examples(images.reshape(-1, 32, 32, 3), labels.astype(np.uint8))
