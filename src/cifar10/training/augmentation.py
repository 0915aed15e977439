"""Random views of the training pictures, drawn anew for each picture and each epoch, on the device.

Written with `keras.ops` alone, so that it compiles on every backend: the built-in layers either take one crop for
a whole batch or cannot be compiled at all.
"""

import math

import keras
import numpy as np
from keras import ops

from cifar10.training.recipe import Recipe

SIZE = 32


class Augmentation(keras.layers.Layer):
    """Flip, shift, rotate and zoom each picture in one resampling, then cut a square out of it.

    Shift is by whole pixels and exact. Rotation and zoom, where they are asked for, interpolate bilinearly. What
    lies beyond the border is the picture mirrored at it. Cutout (DeVries and Taylor 2017, arXiv 1708.04552) puts
    the channel means of the training part in a square whose centre falls anywhere in the picture.

    With `flip: alternating` (Jordan 2024, arXiv 2404.00498) all pictures are mirrored in every other epoch, so that in
    two epochs a picture is seen both ways; `mirror_some` has mirrored a random half of them before the first.
    """

    def __init__(self, recipe: Recipe, fill: tuple[float, float, float]) -> None:
        """Take the recipe's `flip`, `shift`, `cutout`, `rotation`, `zoom` and `seed`, and the cutout's RGB fill."""
        super().__init__(name="augmentation")
        self.recipe = recipe
        self.fill = fill
        self.generator = keras.random.SeedGenerator(recipe.seed)
        self.epoch = self.add_weight(shape=(), initializer="zeros", dtype="int", trainable=False, name="epoch")

    def call(self, images):
        """Images of any dtype (n, 32, 32, 3), 0-255, to float32 of the same shape and range."""
        images = ops.cast(images, "float32")
        recipe = self.recipe
        if recipe.rotation or recipe.zoom:
            images = _bilinear(images, *self._geometry(images, *self._turn(images)))
        elif recipe.flip != "none" or recipe.shift:
            rows, columns = self._geometry(images, *grid())
            images = _pixels(images, ops.cast(rows, "int32"), ops.cast(columns, "int32"))
        return self._cutout(images) if recipe.cutout else images

    def _uniform(self, images, low, high):
        """One number a picture, (n, 1, 1)."""
        return keras.random.uniform((ops.shape(images)[0], 1, 1), low, high, seed=self.generator)

    def _turn(self, images):
        """Where each pixel comes from, rotated and zoomed about the centre: rows, columns, (n, 32, 32)."""
        rows, columns = (axis - (SIZE - 1) / 2 for axis in grid())
        angle = self._uniform(images, -1.0, 1.0) * math.radians(self.recipe.rotation)
        scale = 1.0 / self._uniform(images, 1.0 - self.recipe.zoom, 1.0 + self.recipe.zoom)
        sine, cosine = ops.sin(angle) * scale, ops.cos(angle) * scale
        turned = cosine * rows + sine * columns, cosine * columns - sine * rows
        return tuple(axis + (SIZE - 1) / 2 for axis in turned)

    def _geometry(self, images, rows, columns):
        """The same with shift and flip: whole numbers stay whole."""
        if self.recipe.shift:
            span = self.recipe.shift
            rows = rows + ops.floor(self._uniform(images, -span, span + 1))
            columns = columns + ops.floor(self._uniform(images, -span, span + 1))
        if self.recipe.flip == "random":
            columns = ops.where(self._uniform(images, 0.0, 1.0) < 0.5, SIZE - 1 - columns, columns)
        if self.recipe.flip == "alternating":
            columns = ops.where(self.epoch % 2 == 1, SIZE - 1 - columns, columns)
        return rows, columns

    def _cutout(self, images):
        rows, columns = grid()
        half = self.recipe.cutout / 2
        # A pixel spans [i, i + 1); centres on its grid lines give squares of exactly `cutout` pixels.
        row, column = (ops.floor(self._uniform(images, 0.0, SIZE)) + half % 1 for _ in range(2))
        inside = (ops.abs(rows + 0.5 - row) < half) & (ops.abs(columns + 0.5 - column) < half)
        return ops.where(inside[..., None], ops.convert_to_tensor(self.fill, "float32"), images)


def mirror_some(images: np.ndarray, seed: int) -> np.ndarray:
    """A copy of the pictures, a random half of them mirrored left to right."""
    mirrored = np.random.default_rng(seed).random(len(images)) < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def grid():
    """Row and column of every pixel, float32 (1, 32, 32) each."""
    rows, columns = ops.meshgrid(ops.arange(SIZE, dtype="float32"), ops.arange(SIZE, dtype="float32"), indexing="ij")
    return rows[None], columns[None]


def _pixels(images, rows, columns):
    """Gather the pixels at whole rows and columns, int32 (n, 32, 32); beyond the border, its mirror image."""
    count = ops.shape(images)[0]
    first = ops.arange(count, dtype="int32")[:, None, None] * (SIZE * SIZE)
    index = first + _mirrored(rows) * SIZE + _mirrored(columns)
    return ops.take(ops.reshape(images, (count * SIZE * SIZE, 3)), index, axis=0)


def _mirrored(index):
    """Reflect at the first and last pixel without repeating them: -1 is 1, 32 is 30; any distance."""
    index = ops.mod(index, 2 * (SIZE - 1))
    return ops.minimum(index, 2 * (SIZE - 1) - index)


def _bilinear(images, rows, columns):
    top, left = ops.floor(rows), ops.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    upper = _pixels(images, top, left) * (1 - right) + _pixels(images, top, left + 1) * right
    lower = _pixels(images, top + 1, left) * (1 - right) + _pixels(images, top + 1, left + 1) * right
    return upper * (1 - down) + lower * down
