"""Which images a recipe trains on, so that whoever evaluates the model can find them again."""

import numpy as np

from cifar10.contracts import Examples
from cifar10.errors import InputError


def training_images(
    name: str, train: Examples, val: Examples, *, train_on: str, examples: int | None, seed: int
) -> tuple[Examples, Examples]:
    """Return the images to train on, and those for validation, which may be none.

    Args:
        name: the architecture, for the message.
        train: the train split.
        val: the val split.
        train_on: `train`, or `all` for both splits.
        examples: the number of images, drawn at random; None: all.
        seed: of that choice.

    Raises:
        InputError: there are fewer images.
    """
    check_examples(name, train_on=train_on, examples=examples, train=len(train), val=len(val))
    if train_on == "all":
        train = Examples(np.concatenate([train.images, val.images]), np.concatenate([train.labels, val.labels]))
        val = val.take(slice(0))
    if examples is None:
        return train, val
    return train.take(np.random.default_rng(seed).permutation(len(train))[:examples]), val


def check_examples(name: str, *, train_on: str, examples: int | None, train: int, val: int) -> None:
    """Check that a recipe asks for no more images than there are: `train` and `val` are the sizes of the splits.

    Raises:
        InputError: it does.
    """
    available = train + val if train_on == "all" else train
    if examples is not None and examples > available:
        raise InputError(
            f"{name}.examples is {examples:,}, but there are only {available:,} training images. Lower it, or set "
            "it to null for all."
        )
