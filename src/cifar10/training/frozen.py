"""Cut a network with an ImageNet backbone where its trained layers begin, and compute once what enters them."""

import logging
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.batches import inference_batch_size
from cifar10.compute.inference import infer
from cifar10.compute.live import live
from cifar10.contracts import Examples
from cifar10.errors import InputError, RecipeError
from cifar10.keras_settings import several_processes
from cifar10.training.augmentation import Augmentation
from cifar10.training.phase import enough_memory
from cifar10.training.progress import Progress
from cifar10.training.recipe import TransferRecipe

logger = logging.getLogger(__name__)

CHUNK = 1000  # images for which this is computed at once


class Parts(NamedTuple):
    """The network in two, cut where its trained layers begin. Both share its layers.

    Attributes:
        frozen: from images to what enters the trained layers.
        trained: from there to the logits.
        features: from there to the features.
    """

    frozen: keras.Model
    trained: keras.Model
    features: keras.Model


class Cache(NamedTuple):
    """What enters the trained layers, computed once.

    Attributes:
        parts: of the network.
        train: float16 (copies, images, ...), mapped from disk.
        val: float16 (images, ...), mapped from disk.
        seconds: that this took now.
    """

    parts: Parts
    train: np.ndarray
    val: np.ndarray
    seconds: float


def make_cache(
    train: Examples, val: Examples, augmentation: Augmentation, recipe: TransferRecipe, progress: Progress
) -> Cache | None:
    """Compute what enters the trained layers, for each of `feature_copies` augmented copies of the training images.

    Return None, and log why, if there is no second phase, or if that is no single tensor or does not fit into
    `cache_gb`; each phase then computes the frozen layers again.

    Raises:
        RecipeError: what enters them exceeds the range of float16, or memory ran out.
        InputError: several processes train, or the disk is full.
    """
    if not recipe.cache_gb:
        return None
    name = progress.network.name
    if not recipe.unfreeze:
        logger.info("%s: cache_gb is not used, because unfreeze is 0: there is no second phase", name)
        return None
    parts = split(progress.network, recipe.unfreeze)
    if parts is None:
        logger.info("%s: cache_gb is not used, because its trained layers have no single input of their own", name)
        return None
    shape = parts.trained.input_shape[1:]
    gigabytes = 2e-9 * math.prod(shape) * (recipe.copies * len(train) + len(val))
    if gigabytes > recipe.cache_gb:
        logger.info("%s: cache_gb is not used, because %.1f GB would be needed", name, gigabytes)
        return None
    if several_processes():
        # Without the cache they would train on other images than one process, under the same identity.
        raise InputError(
            f"{name}: several processes cannot use cache_gb, because each would write the same file. Set "
            f"{name}.cache_gb=null, which makes another recipe, or train in one process."
        )

    started = time.perf_counter()
    augmented = keras.Sequential([augmentation, parts.frozen])

    def compute_train(path: Path) -> None:
        array = create_mapped(path, (recipe.copies, len(train), *shape))
        for copy, outputs in enumerate(array):
            augmentation.epoch.assign(copy)
            _fill(outputs, augmented, train.images, name, f"copy {copy + 1} of {len(array)}", recipe)

    def compute_val(path: Path) -> None:
        array = create_mapped(path, (len(val), *shape))
        _fill(array, parts.frozen, val.images, name, "val", recipe)

    checkpoints, identity = progress.checkpoints, progress.identity
    dtype = progress.facts["compute_dtype"]  # a run that was killed before its first epoch may have had another
    cached_train = checkpoints.cached(identity, f"frozen_train_{dtype}", compute_train)
    cached_val = checkpoints.cached(identity, f"frozen_val_{dtype}", compute_val) if len(val) else cached_train[0][:0]
    return Cache(parts, cached_train, cached_val, time.perf_counter() - started)


def create_mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Create a float16 array that is mapped from disk, and reserve its space.

    Otherwise the system would end the process, without any error, where the disk is full.
    """
    array = np.lib.format.open_memmap(path, "w+", "float16", shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def split(network: keras.Model, count: int) -> Parts | None:
    """Cut the network before the last `count` layers of its backbone; None if that cuts through several tensors."""
    backbone = network.get_layer(BACKBONE)
    tensor = _entering(backbone, count)
    if tensor is None:
        return None
    operations = network.operations
    prepared = operations[operations.index(backbone) - 1].output  # what precedes the backbone is a chain
    frozen = keras.Model(network.input, keras.Model(backbone.input, tensor)(prepared, training=False))
    inputs = keras.Input(tensor.shape[1:])
    features = network.get_layer("features")(keras.Model(tensor, backbone.output)(inputs, training=False))
    return Parts(
        frozen,
        keras.Model(inputs, head(network)(features), name=network.name),
        keras.Model(inputs, features, name="features"),
    )


def head(network: keras.Model) -> keras.Model:
    """Return the layers after `features`, shared with the network: from features to logits."""
    return keras.Model(network.get_layer("features").output, network.output, name=f"{network.name}_head")


def _entering(backbone: keras.Model, count: int) -> keras.KerasTensor | None:
    """Return what enters the last `count` layers, if that is a single tensor that other layers compute."""
    last = backbone.layers[max(len(backbone.layers) - count, 0) :]
    inner = {id(tensor) for layer in last for tensor in _tensors(layer.output)}
    entering = {id(tensor): tensor for layer in last for tensor in _tensors(layer.input)}
    outside = [tensor for key, tensor in entering.items() if key not in inner]
    return outside[0] if len(outside) == 1 and outside[0] is not backbone.input else None


def _tensors(given: keras.KerasTensor | list[keras.KerasTensor]) -> list[keras.KerasTensor]:
    return given if isinstance(given, list) else [given]


def _fill(
    outputs: np.ndarray, model: keras.Model, images: np.ndarray, name: str, which: str, recipe: TransferRecipe
) -> None:
    """Write what the model computes from the images into an array, float16.

    Raises:
        RecipeError: it exceeds the range of float16, or memory ran out.
    """
    with live(f"{name}, frozen layers, {which}", len(images)) as show:
        for start in range(0, len(images), CHUNK):
            chunk = slice(start, start + CHUNK)
            with enough_memory(name, inference_batch_size(recipe.image_size), "image_size"), np.errstate(over="ignore"):
                outputs[chunk] = infer(model, images[chunk], recipe.image_size)
            if not np.isfinite(outputs[chunk]).all():
                raise RecipeError(
                    f"{name}: what enters its trained layers exceeds the range of float16, in which cache_gb keeps it. "
                    f"Set {name}.cache_gb=null."
                )
            show(min(start + CHUNK, len(images)), "")
