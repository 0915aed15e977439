"""Images that the project draws itself, so that every pipeline can run without a download."""

from typing import Any

import numpy as np
from kedro.io import AbstractDataset

from cifar10.datasets.raw import PIXELS, RawBatch, RawImages
from cifar10.errors import InputError

SIZE = 32


class DrawnBatchesDataset(AbstractDataset):
    """Ten classes of drawn shapes, in the format of `BatchesDataset`. The same seed gives the same images.

    Position, size, rotation and colours vary between images, and noise is added, so that a network can learn the
    classes, but not perfectly.
    """

    def __init__(self, *, train: int, test: int, seed: int, metadata: dict | None = None) -> None:
        self.train, self.test, self.seed = train, test, seed
        self.metadata = metadata

    def load(self) -> RawImages:
        """Draw one training and one test batch."""
        generator = np.random.default_rng(self.seed)
        return RawImages(
            train=[_draw_batch("drawn training images", self.train, generator)],
            test=[_draw_batch("drawn test images", self.test, generator)],
        )

    def save(self, data: Any) -> None:
        """Refuse to write: the images are drawn each time."""
        raise InputError("Drawn images are raw data and cannot be overwritten. Let the node write to another dataset.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"train": self.train, "test": self.test, "seed": self.seed}


def _draw_batch(source: str, count: int, generator: np.random.Generator) -> RawBatch:
    """Draw a batch with equally many images of each class, in random order."""
    labels = generator.permutation(np.arange(count) % len(SHAPES))
    pixels = np.stack([_draw_image(SHAPES[label], generator) for label in labels])
    return RawBatch(source, pixels.reshape(count, PIXELS), labels)


def _draw_image(inside: Any, generator: np.random.Generator) -> np.ndarray:
    """Draw one image, uint8 (3, 32, 32): the red, green and blue plane.

    `inside` says whether the point (x, y) is inside the shape.
    """
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2 + generator.uniform(-5, 5, (2, 1, 1))
    angle, radius = generator.normal(0, 0.12), generator.uniform(7, 12)
    x = (columns * np.cos(angle) - rows * np.sin(angle)) / radius
    y = (columns * np.sin(angle) + rows * np.cos(angle)) / radius
    # The colours of shape and background are random; that of the shape is usually lighter.
    colours = generator.uniform(0, 130, (2, 3, 1, 1)) + np.array([90, 0]).reshape(2, 1, 1, 1)
    image = np.where(inside(x, y), colours[0], colours[1]) + generator.normal(0, 60, (3, SIZE, SIZE))
    return image.clip(0, 255).astype(np.uint8)


# Whether a point is inside the shape, which extends from -1 to 1; in the order of the demo's `class_names`.
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
