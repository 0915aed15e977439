"""Split the training examples, and measure and describe the splits."""

import hashlib
import itertools
import logging
from typing import Any

import numpy as np

from cifar10.contracts import CHANNELS, Examples, Statistics, check_labels
from cifar10.errors import InputError

logger = logging.getLogger(__name__)


def split(
    train_examples: Examples, class_names: list[str], val_fraction: float, split_seed: int
) -> tuple[Examples, Examples]:
    """Hold out a share of each class for validation.

    Returns:
        The train and the val split, each in random order. The same seed gives the same splits.

    Raises:
        InputError: there are too few images for each class to be in both splits, or fewer class names than classes.
    """
    from sklearn.model_selection import train_test_split

    check_labels(train_examples, "training", class_names)
    labels = train_examples.labels
    try:
        indices = train_test_split(
            np.arange(len(labels)), test_size=val_fraction, stratify=labels, random_state=split_seed
        )
    except ValueError as error:
        fewest = np.unique(labels, return_counts=True)[1].min()
        raise InputError(
            f"{len(labels)} training images, {fewest} of the rarest class, cannot be split with val_fraction "
            f"{val_fraction}: {error} Change val_fraction, or ingest more images."
        ) from error
    train, val = (train_examples.take(index) for index in indices)
    return train, val


def measure(train: Examples, val: Examples, test_examples: Examples) -> Statistics:
    """Compute the statistics of the train split, the digest of each split, and the data version.

    Raises:
        InputError: a colour channel is constant, so that it cannot be standardised.
    """
    # Counting how often each of the 256 values occurs is exact and needs no float copy of the images.
    counts = np.stack([np.bincount(train.images[..., channel].ravel(), minlength=256) for channel in range(3)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    for name, deviation, value in zip(CHANNELS, std, mean, strict=True):
        if not deviation > 0:
            raise InputError(
                f"The {name} channel of the training images is {value:g} in every pixel, so it cannot be standardised. "
                "Ingest other images."
            )
    digests = {"train": train.digest, "val": val.digest, "test": test_examples.digest}
    data_version = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    covariance = _patch_covariance(train.images, mean)
    return Statistics(
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        patch_covariance=tuple(map(tuple, covariance.tolist())),
        digests=digests,
        data_version=data_version,
    )


def _patch_covariance(images: np.ndarray, mean: np.ndarray, side: int = 2) -> np.ndarray:
    """Compute the covariance of all patches of `side` x `side` pixels, float64 (side * side * 3, side * side * 3).

    The vector of a patch holds the deviations of its pixel values from the means of their channels. The result is the
    mean, over all patches at all positions, of the outer product of that vector with itself.
    """
    total = np.zeros((side**2 * 3,) * 2)
    height, width = (size - side + 1 for size in images.shape[1:3])
    for batch in np.array_split(images, -(-len(images) // 1000)):  # at most 1000 at a time as floats
        centred = batch - mean.astype(np.float32)
        patches = [
            centred[:, row : row + height, column : column + width] for row in range(side) for column in range(side)
        ]
        flat = np.concatenate(patches, axis=-1).reshape(-1, len(total))
        total += flat.T @ flat
    return total / (len(images) * height * width)


def describe(
    train: Examples, val: Examples, test_examples: Examples, statistics: Statistics, class_names: list[str]
) -> dict[str, Any]:
    """Return the data card: the number of images per split and class, the statistics, and the data version.

    It also has the number of exact duplicates within and between splits; if there are any, they are logged.

    Raises:
        InputError: there are fewer class names than classes.
    """
    check_labels(test_examples, "test", class_names)
    splits = {"train": train, "val": val, "test": test_examples}
    duplicates = _count_duplicates(splits)
    if any(duplicates.values()):
        found = ", ".join(f"{count:,} {place}" for place, count in duplicates.items() if count)
        logger.warning("Images that occur more than once: %s.", found)
    return {
        "data_version": statistics.data_version,
        "images": {name: len(examples) for name, examples in splits.items()},
        "classes": {
            name: dict(zip(class_names, np.bincount(examples.labels, minlength=len(class_names)).tolist(), strict=True))
            for name, examples in splits.items()
        },
        "duplicates": duplicates,
        "train_mean": dict(zip(CHANNELS, statistics.mean, strict=True)),
        "train_std": dict(zip(CHANNELS, statistics.std, strict=True)),
    }


def _count_duplicates(splits: dict[str, Examples]) -> dict[str, int]:
    """Count the images of each split that occur in it before, and those that occur in a split before it.

    Images are equal if all their pixels are, whatever their labels.
    """
    digests = {name: examples.image_digests() for name, examples in splits.items()}
    distinct = {name: set(values) for name, values in digests.items()}
    within = {f"in {name}": len(digests[name]) - len(distinct[name]) for name in splits}
    between = {
        f"in {first} and {second}": sum(digest in distinct[first] for digest in digests[second])
        for first, second in itertools.combinations(splits, 2)
    }
    return within | between
