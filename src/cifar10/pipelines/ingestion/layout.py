"""Find out in which order the values of an image are stored, by the likeness of neighbouring pixels."""

from typing import Literal

import numpy as np

Layout = Literal["channels_first", "channels_last"]
LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
SAMPLE = 200  # images that are enough to tell
# The mean difference of neighbours is a quarter of that of arbitrary pixels of a photograph, and eight tenths of it in
# the noisy drawings of the demo.
UNLIKE = 0.95


def as_images(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """Arrange the values of each image.

    Args:
        pixels: uint8 (n, 3072).
        layout: `channels_first`: channel, row, column, as in the batches; `channels_last`: row, column, channel, as
            in Keras's arrays.

    Returns:
        The images, uint8 (n, 32, 32, 3).
    """
    if layout == "channels_last":
        return pixels.reshape(-1, 32, 32, 3)
    images = np.stack(np.split(pixels, 3, axis=1), axis=-1)  # several times faster than transposing
    return images.reshape(-1, 32, 32, 3)


def find_layout(pixels: np.ndarray) -> Layout | None:
    """Return the layout in which neighbouring pixels are alike, or None if there is none.

    Neighbours, across and down, have to differ less than arbitrary pixels of an image do. They also have to differ less
    than pixels on a diagonal or three apart, which excludes orders that are only nearly right, such as that of numbers
    sorted as text, or row, channel, column.

    Args:
        pixels: uint8 (n, 3072).
    """
    sample = pixels[:: -(-len(pixels) // SAMPLE)]
    arbitrary = _difference(sample, sample[:, np.random.default_rng(0).permutation(sample.shape[1])])
    if arbitrary == 0:  # each image has one value
        return "channels_first"

    def neighbours(layout: Layout) -> tuple[float, float]:
        images = as_images(sample, layout)
        return _shifted(images, 0, 1), _shifted(images, 1, 0)

    best = min(LAYOUTS, key=lambda layout: sum(neighbours(layout)))
    near, images = neighbours(best), as_images(sample, best)
    farther = [_shifted(images, down, right) for down, right in ((1, 1), (1, -1), (0, 3), (3, 0))]
    alike = sum(near) / 2 < UNLIKE * arbitrary and max(near) < min(farther)
    return best if alike else None


def _shifted(images: np.ndarray, down: int, right: int) -> float:
    """Return the mean difference of pixels that are that far apart; `right` may be negative."""
    if right < 0:
        images, right = images[:, :, ::-1], -right
    size = images.shape[1]
    return _difference(images[:, down:, right:], images[:, : size - down, : size - right])


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of two arrays of bytes."""
    return float(np.abs(one.astype(np.int16) - other).mean())
