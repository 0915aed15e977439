"""Pictures that the project draws itself, so that the whole road can be walked without a download."""

from typing import Any

import numpy as np
from kedro.io import AbstractDataset

from cifar10.datasets.raw import PIXELS, RawBatch
from cifar10.errors import InputError

SIZE = 32


class DrawnBatchesDataset(AbstractDataset):
    """Ten classes of drawn shapes, in the form that `BatchesDataset` reads: same seed, same pictures.

    Place, size, turn and colours vary from picture to picture, and noise covers them, so that a network has
    something to learn and something left to miss.
    """

    def __init__(self, *, train: int, test: int, seed: int, metadata: dict | None = None) -> None:
        self.train, self.test, self.seed = train, test, seed
        self.metadata = metadata

    def load(self) -> dict[str, list[RawBatch]]:
        """Draw one training and one test batch."""
        generator = np.random.default_rng(self.seed)
        return {
            "train": [_draw("drawn training pictures", self.train, generator)],
            "test": [_draw("drawn test pictures", self.test, generator)],
        }

    def save(self, data: Any) -> None:
        """Drawn pictures are never written."""
        raise InputError("Drawn pictures are raw data, which no node may write.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"train": self.train, "test": self.test, "seed": self.seed}


def _draw(source: str, count: int, generator: np.random.Generator) -> RawBatch:
    labels = generator.permutation(np.arange(count) % len(SHAPES))
    pixels = np.stack([_picture(SHAPES[label], generator) for label in labels])
    return RawBatch(source, pixels.reshape(count, PIXELS), labels)


def _picture(inside: Any, generator: np.random.Generator) -> np.ndarray:
    """One picture as planes, uint8 (3, 32, 32)."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2 + generator.uniform(-5, 5, (2, 1, 1))
    turn, radius = generator.normal(0, 0.12), generator.uniform(7, 12)
    x = (columns * np.cos(turn) - rows * np.sin(turn)) / radius
    y = (columns * np.sin(turn) + rows * np.cos(turn)) / radius
    # Both colours at random, the shape's mostly the lighter one.
    colours = generator.uniform(0, 130, (2, 3, 1, 1)) + np.array([90, 0]).reshape(2, 1, 1, 1)
    picture = np.where(inside(x, y), colours[0], colours[1]) + generator.normal(0, 60, (3, SIZE, SIZE))
    return picture.clip(0, 255).astype(np.uint8)


# What is inside each shape, in coordinates where it reaches from -1 to 1; in the order of the demo's `class_names`.
SHAPES = (
    lambda x, y: np.hypot(x, y) < 1,  # disc
    lambda x, y: np.abs(np.hypot(x, y) - 0.75) < 0.25,  # ring
    lambda x, y: np.maximum(abs(x), abs(y)) < 0.85,  # square
    lambda x, y: abs(np.maximum(abs(x), abs(y)) - 0.7) < 0.2,  # frame
    lambda x, y: abs(x) + abs(y) < 1,  # diamond
    lambda x, y: (abs(x) < (y + 1) / 2) & (y < 0.8),  # triangle
    lambda x, y: (np.minimum(abs(x), abs(y)) < 0.28) & (np.maximum(abs(x), abs(y)) < 1),  # plus
    lambda x, y: (abs(abs(x) - abs(y)) < 0.35) & (np.maximum(abs(x), abs(y)) < 0.9),  # saltire
    lambda x, y: (np.maximum(abs(x), abs(y)) < 1) & (np.floor((y + 1) * 2.5) % 2 == 0),  # bars
    lambda x, y: (np.maximum(abs(x), abs(y)) < 1) & (np.floor((x + 1) * 2.5) % 2 == 0),  # posts
)
