"""Split the training examples, and measure and picture what came of it."""

import hashlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.contracts import CHANNELS, Examples, Statistics, digest
from cifar10.errors import InputError


def split(train_examples: Examples, val_fraction: float, split_seed: int) -> tuple[Examples, Examples]:
    """Hold out a share of every class for validation.

    Returns:
        The training and the validation part, each in an order of its own. The same seed gives the same parts.

    Raises:
        InputError: there are too few pictures for a share of every class in both parts.
    """
    from sklearn.model_selection import train_test_split

    labels = train_examples.labels
    try:
        indices = train_test_split(
            np.arange(len(labels)), test_size=val_fraction, stratify=labels, random_state=split_seed
        )
    except ValueError as error:
        raise InputError(
            f"{len(labels)} training pictures, of the rarest class {np.unique(labels, return_counts=True)[1].min()}, "
            f"cannot be split with val_fraction {val_fraction}: {error} Change val_fraction, or ingest more pictures."
        ) from error
    train, val = (Examples(train_examples.images[index], train_examples.labels[index]) for index in indices)
    return train, val


def measure(train: Examples, val: Examples, test_examples: Examples) -> Statistics:
    """Statistics of the training part alone, and what identifies each part and all three."""
    # Counting the 256 values is exact, and needs no float copy of the pictures.
    counts = np.stack([np.bincount(train.images[..., channel].ravel(), minlength=256) for channel in range(3)])
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    digests = {"train": digest(train), "val": digest(val), "test": digest(test_examples)}
    data_version = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    covariance = _patch_covariance(train.images, mean)
    return Statistics(
        tuple(mean.tolist()), tuple(std.tolist()), tuple(map(tuple, covariance.tolist())), digests, data_version
    )


def _patch_covariance(images: np.ndarray, mean: np.ndarray, side: int = 2) -> np.ndarray:
    """Covariance of all patches of that side about the channel means, float64 (side * side * 3,) * 2."""
    total = np.zeros((side**2 * 3,) * 2)
    height, width = (size - side + 1 for size in images.shape[1:3])
    for batch in np.array_split(images, -(-len(images) // 1000)):  # a float copy of so many at a time
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
    """The data card: what is in each part, the statistics, and the version to tell these data from others."""
    parts = {"train": train, "val": val, "test": test_examples}
    return {
        "data_version": statistics.data_version,
        "pictures": {name: len(part.labels) for name, part in parts.items()},
        "classes": {
            name: dict(zip(class_names, np.bincount(part.labels, minlength=len(class_names)).tolist(), strict=True))
            for name, part in parts.items()
        },
        "train_mean": dict(zip(CHANNELS, statistics.mean, strict=True)),
        "train_std": dict(zip(CHANNELS, statistics.std, strict=True)),
    }


def draw_samples(train: Examples, class_names: list[str]) -> Figure:
    """The first pictures of each class of the training part."""
    return figures.samples(train, class_names)
