"""Random changes of the training images, drawn anew for each image and each epoch, on the device.

Written with `keras.ops` alone, so that they compile on every backend: the built-in layers either use one crop for a
whole batch or cannot be compiled at all.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from cifar10.training.options import SIZE
from cifar10.training.recipe import Recipe


class Augmentation(keras.layers.Layer):
    """Apply each of `AUGMENTATIONS` to each image by itself.

    With `flip: alternating` (Jordan 2024, arXiv 2404.00498) all images are flipped in every other epoch, so that two
    epochs show each image both ways; `flip_half` has flipped a random half of them before the first.
    """

    def __init__(self, recipe: Recipe, fill: tuple[float, float, float]) -> None:
        """Store the recipe, for its `AugmentationOptions` and `seed`, and the RGB colour of the cutout."""
        super().__init__(name="augmentation")
        self.recipe = recipe
        self.fill = fill
        self.generator = keras.random.SeedGenerator(recipe.seed)
        self.epoch = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="epoch")

    def call(self, images):
        """Convert images of any dtype (n, 32, 32, 3), 0-255, to augmented float32 of the same shape and range."""
        images = ops.cast(images, "float32")
        for augment in AUGMENTATIONS:
            images = augment(images, self)
        return images

    def uniform(self, images, low, high):
        """Draw one number per image, (n, 1, 1)."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1), low, high, seed=self.generator)


def flip_shift_rotate_zoom(images: Any, augmentation: Augmentation) -> Any:
    """Flip, shift, rotate and zoom each image in a single resampling.

    Shifts are by whole pixels and exact. Rotation and zoom interpolate bilinearly. Beyond the border, the image is
    reflected.
    """
    recipe = augmentation.recipe
    if recipe.rotation or recipe.zoom:
        return _bilinear(images, *_flip_shift(images, augmentation, *_rotate_zoom(images, augmentation)))
    if recipe.flip != "none" or recipe.shift:
        rows, columns = _flip_shift(images, augmentation, *grid())
        return _gather(images, ops.cast(rows, "int32"), ops.cast(columns, "int32"))
    return images


def cutout(images: Any, augmentation: Augmentation) -> Any:
    """Fill a square whose centre falls anywhere in the image (DeVries and Taylor 2017, arXiv 1708.04552)."""
    if not augmentation.recipe.cutout:
        return images
    rows, columns = grid()
    half = augmentation.recipe.cutout / 2
    # A pixel spans [i, i + 1); centres on its grid lines give squares of exactly `cutout` pixels.
    row, column = (ops.floor(augmentation.uniform(images, 0.0, SIZE)) + half % 1 for _ in range(2))
    inside = (ops.abs(rows + 0.5 - row) < half) & (ops.abs(columns + 0.5 - column) < half)
    return ops.where(inside[..., None], ops.convert_to_tensor(augmentation.fill, "float32"), images)


# In this order. Each takes the images, float32 (n, 32, 32, 3), and the layer, with its recipe and random numbers, and
# returns the images unchanged where its options are off. The options are declared in `options.AugmentationOptions`.
AUGMENTATIONS: tuple[Callable[[Any, Augmentation], Any], ...] = (
    flip_shift_rotate_zoom,
    cutout,
)


class Mixing(keras.layers.Layer):
    """Mix each image of a batch with another one of it, and their targets by the same ratio.

    Mixup (Zhang et al. 2017, arXiv 1710.09412) blends two images; cutmix (Yun et al. 2019, arXiv 1905.04899) pastes a
    square of one into the other. The weight of the first is drawn from Beta(a, a) once per batch, as in the code of
    both papers, where a is the value of the recipe option.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Store the recipe, for its `MixingOptions` and `seed`."""
        super().__init__(name="mixing")
        self.mixup = bool(recipe.mixup)
        alpha = recipe.mixup or recipe.cutmix
        # Drawn in advance, because XLA cannot draw from TensorFlow's beta distribution.
        self.weights_drawn = np.random.default_rng(recipe.seed).beta(alpha, alpha, 4096).astype("float32")
        self.generator = keras.random.SeedGenerator((recipe.seed + 1) % 2**32)
        # Written by `call` and read by `mix_targets` in the same step.
        self.weight = self.add_weight(shape=(), initializer="ones", trainable=False, name="weight")

    def call(self, images):
        """Mix each image with its counterpart from the other end of the batch, which is shuffled already."""
        others = ops.flip(images, axis=0)
        draw = keras.random.randint((), 0, len(self.weights_drawn), seed=self.generator)
        weight = ops.take(self.weights_drawn, draw)
        if self.mixup:
            self.weight.assign(weight)
            return weight * images + (1 - weight) * others
        rows, columns = grid()
        half = ops.sqrt(1 - weight) * SIZE / 2
        centre = keras.random.uniform((2,), 0, SIZE, seed=self.generator)
        inside = (ops.abs(rows + 0.5 - centre[0]) < half) & (ops.abs(columns + 0.5 - centre[1]) < half)
        self.weight.assign(1 - ops.mean(ops.cast(inside, "float32")))  # the square may extend over the border
        return ops.where(inside[..., None], others, images)

    def mix_targets(self, targets):
        """Mix the targets, (n, classes), as the images were mixed in this step."""
        return self.weight * targets + (1 - self.weight) * ops.flip(targets, axis=0)


def make_mixing(recipe: Recipe) -> Mixing | None:
    """Return what mixes images by the recipe, or None if it does not."""
    return Mixing(recipe) if recipe.mixup or recipe.cutmix else None


def reduce_size(images: Any, size: int) -> Any:
    """Reduce images, float32 (n, 32, 32, c), to (n, size, size, c); each pixel is the mean of the area it covers."""
    # Two matrix products, because TensorFlow has no resizing with averages that XLA compiles.
    ends = np.minimum.outer(np.arange(1, size + 1) * SIZE / size, np.arange(1, SIZE + 1))
    starts = np.maximum.outer(np.arange(size) * SIZE / size, np.arange(SIZE))
    weights = ops.convert_to_tensor((np.maximum(ends - starts, 0) * size / SIZE).astype("float32"))
    return ops.einsum("ri,sj,nijc->nrsc", weights, weights, images)


def flip_half(images: np.ndarray, seed: int) -> np.ndarray:
    """Return a copy of the images with a random half of them flipped horizontally."""
    flipped = np.random.default_rng(seed).random(len(images)) < 0.5
    return np.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def grid():
    """Return row and column of every pixel, float32 (1, 32, 32) each."""
    rows, columns = ops.meshgrid(ops.arange(SIZE, dtype="float32"), ops.arange(SIZE, dtype="float32"), indexing="ij")
    return rows[None], columns[None]


def _rotate_zoom(images, augmentation):
    """Return the place that each pixel comes from, rotated and zoomed about the centre: rows, columns (n, 32, 32)."""
    rows, columns = (axis - (SIZE - 1) / 2 for axis in grid())
    angle = augmentation.uniform(images, -1.0, 1.0) * math.radians(augmentation.recipe.rotation)
    zoom = augmentation.recipe.zoom
    scale = 1.0 / augmentation.uniform(images, 1.0 - zoom, 1.0 + zoom)
    sine, cosine = ops.sin(angle) * scale, ops.cos(angle) * scale
    turned = cosine * rows + sine * columns, cosine * columns - sine * rows
    return tuple(axis + (SIZE - 1) / 2 for axis in turned)


def _flip_shift(images, augmentation, rows, columns):
    """Return the places shifted and flipped; whole numbers stay whole."""
    recipe = augmentation.recipe
    if recipe.shift:
        span = recipe.shift
        rows = rows + ops.floor(augmentation.uniform(images, -span, span + 1))
        columns = columns + ops.floor(augmentation.uniform(images, -span, span + 1))
    if recipe.flip == "random":
        columns = ops.where(augmentation.uniform(images, 0.0, 1.0) < 0.5, SIZE - 1 - columns, columns)
    if recipe.flip == "alternating":
        columns = ops.where(augmentation.epoch % 2 == 1, SIZE - 1 - columns, columns)
    return rows, columns


def _gather(images, rows, columns):
    """Return the pixels at whole rows and columns, int32 (n, 32, 32), reflected beyond the border."""
    count = ops.shape(images)[0]
    first = ops.arange(count, dtype="int32")[:, None, None] * (SIZE * SIZE)
    index = first + _reflect(rows) * SIZE + _reflect(columns)
    return ops.take(ops.reshape(images, (count * SIZE * SIZE, 3)), index, axis=0)


def _reflect(index):
    """Reflect at the first and last pixel without repeating them: -1 becomes 1, 32 becomes 30; at any distance."""
    index = ops.mod(index, 2 * (SIZE - 1))
    return ops.minimum(index, 2 * (SIZE - 1) - index)


def _bilinear(images, rows, columns):
    """Return the pixels at fractional rows and columns, float32 (n, 32, 32)."""
    top, left = ops.floor(rows), ops.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    upper = _gather(images, top, left) * (1 - right) + _gather(images, top, left + 1) * right
    lower = _gather(images, top + 1, left) * (1 - right) + _gather(images, top + 1, left + 1) * right
    return upper * (1 - down) + lower * down
