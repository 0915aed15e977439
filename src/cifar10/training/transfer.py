"""Train a network with an ImageNet backbone: first its head, on features computed once, then its last layers, too."""

import logging
import math
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.batches import inference_batch_size, one_hot
from cifar10.compute.inference import infer
from cifar10.compute.live import live
from cifar10.contracts import Examples
from cifar10.training.augmentation import Augmentation, make_mixing
from cifar10.training.model import TrainingModel
from cifar10.training.phase import enough_memory, optimise
from cifar10.training.progress import Progress
from cifar10.training.recipe import TransferRecipe

logger = logging.getLogger(__name__)

HEAD, FINE_TUNING = "head", "fine-tuning"


CHUNK = 1000  # images whose inputs of the trained layers are computed at once


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


def train_backbone(
    train: Examples, val: Examples, augmentation: Augmentation, recipe: TransferRecipe, progress: Progress
) -> None:
    """Train the head on the features of the frozen backbone, and then the last layers of the backbone, too."""
    cache = make_cache(train, val, augmentation, recipe, progress)
    if not progress.of(FINE_TUNING):
        train_head(train, val, augmentation, recipe, progress, cache)
    if recipe.unfreeze:
        fine_tune(train, val, augmentation, recipe, progress, cache)


def train_head(
    train: Examples,
    val: Examples,
    augmentation: Augmentation,
    recipe: TransferRecipe,
    progress: Progress,
    cache: Cache | None = None,
) -> None:
    """Train the head on the features of the frozen backbone.

    The features, which are the costly part, are computed once for each of `feature_copies` augmented copies of the
    training images; an epoch of the head goes over all copies.
    """
    started = time.perf_counter()
    network = progress.network
    num_classes = network.output_shape[-1]
    network.get_layer(BACKBONE).trainable = False
    if cache:
        inputs = [_features(cache.parts.features, copy, network.name, recipe.image_size) for copy in cache.train]
        val_inputs = _features(cache.parts.features, cache.val, network.name, recipe.image_size)
    else:
        features = keras.Model(network.input, network.get_layer("features").output, name="features")
        augmented = keras.Sequential([augmentation, features])
        inputs = []
        for copy in range(_copies(recipe)):
            augmentation.epoch.assign(copy)
            inputs.append(_features(augmented, train.images, network.name, recipe.image_size))
        val_inputs = _features(features, val.images, network.name, recipe.image_size)
    prepared = time.perf_counter() - started + (cache.seconds if cache else 0.0)
    count = sum(map(len, inputs))
    logger.info("%s: computed the features of %s images in %.0f s", network.name, f"{count:,}", prepared)

    phase_recipe = {"epochs": recipe.head_epochs, "learning_rate": recipe.head_learning_rate}
    optimise(
        TrainingModel(head(network), np.concatenate(inputs), val_inputs),
        np.tile(one_hot(train.labels, num_classes), (len(inputs), 1)),
        one_hot(val.labels, num_classes),
        recipe.model_copy(update=phase_recipe),
        progress,
        phase=HEAD,
        prepared=prepared,
        learning_rate="head_learning_rate",
    )


def fine_tune(
    train: Examples,
    val: Examples,
    augmentation: Augmentation,
    recipe: TransferRecipe,
    progress: Progress,
    cache: Cache | None = None,
) -> None:
    """Train the head and the last `unfreeze` layers of the backbone, except for its batch norms."""
    network = progress.network
    num_classes = network.output_shape[-1]
    unfreeze(network, recipe.unfreeze)
    if cache:
        model = TrainingModel(cache.parts.trained, cache.train[0], cache.val, copies=cache.train)
    else:
        model = TrainingModel(network, train.images, val.images, augmentation, make_mixing(recipe))
    optimise(
        model,
        one_hot(train.labels, num_classes),
        one_hot(val.labels, num_classes),
        recipe,
        progress,
        phase=FINE_TUNING,
        image_size=recipe.image_size,
    )
    if progress.best["phase"] != FINE_TUNING:
        logger.warning("%s: fine-tuning did not improve it, so the weights before it are kept", network.name)


def make_cache(
    train: Examples, val: Examples, augmentation: Augmentation, recipe: TransferRecipe, progress: Progress
) -> Cache | None:
    """Compute what enters the trained layers, for each of `feature_copies` augmented copies of the training images.

    Return None, and log why, if that is no single tensor or does not fit into `cache_gb`; both phases then compute the
    frozen layers again.
    """
    if not recipe.cache_gb:
        return None
    name, parts = progress.network.name, split(progress.network, recipe.unfreeze)
    if parts is None:
        logger.info("%s: cache_gb is not used, because its trained layers have no single input of their own", name)
        return None
    shape = parts.trained.input_shape[1:]
    gigabytes = 2e-9 * math.prod(shape) * (_copies(recipe) * len(train) + len(val))
    if gigabytes > recipe.cache_gb:
        logger.info("%s: cache_gb is not used, because %.1f GB would be needed", name, gigabytes)
        return None

    started = time.perf_counter()
    augmented = keras.Sequential([augmentation, parts.frozen])

    def compute_train(path: Path) -> None:
        array = np.lib.format.open_memmap(path, "w+", "float16", (_copies(recipe), len(train), *shape))
        for copy, outputs in enumerate(array):
            augmentation.epoch.assign(copy)
            _fill(outputs, augmented, train.images, f"{name}, frozen layers, copy {copy + 1} of {len(array)}", recipe)

    def compute_val(path: Path) -> None:
        array = np.lib.format.open_memmap(path, "w+", "float16", (len(val), *shape))
        _fill(array, parts.frozen, val.images, f"{name}, frozen layers, val", recipe)

    checkpoints, identity = progress.checkpoints, progress.identity
    cached_train = checkpoints.cached(identity, "frozen_train", compute_train)
    cached_val = checkpoints.cached(identity, "frozen_val", compute_val) if len(val) else cached_train[0][:0]
    return Cache(parts, cached_train, cached_val, time.perf_counter() - started)


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


def _entering(backbone: keras.Model, count: int) -> keras.KerasTensor | None:
    """Return what enters the last `count` layers, if that is a single tensor that other layers compute."""
    last = backbone.layers[max(len(backbone.layers) - count, 0) :]
    inner = {id(tensor) for layer in last for tensor in _tensors(layer.output)}
    entering = {id(tensor): tensor for layer in last for tensor in _tensors(layer.input)}
    outside = [tensor for key, tensor in entering.items() if key not in inner]
    return outside[0] if len(outside) == 1 and outside[0] is not backbone.input else None


def _tensors(given: keras.KerasTensor | list[keras.KerasTensor]) -> list[keras.KerasTensor]:
    return given if isinstance(given, list) else [given]


def _fill(outputs: np.ndarray, model: keras.Model, images: np.ndarray, progress: str, recipe: TransferRecipe) -> None:
    """Write what the model computes from the images into an array, float16."""
    with live(progress, len(images)) as show:
        for start in range(0, len(images), CHUNK):
            chunk = slice(start, start + CHUNK)
            with enough_memory(progress.split(",")[0], inference_batch_size(recipe.image_size), "image_size"):
                outputs[chunk] = infer(model, images[chunk], recipe.image_size)
            show(min(start + CHUNK, len(images)), "")


def _copies(recipe: TransferRecipe) -> int:
    """Return the number of copies of the training images, which are the same without augmentation."""
    return recipe.feature_copies if recipe.augments else 1


def unfreeze(network: keras.Model, count: int) -> None:
    """Make the last `count` layers of the backbone trainable, and no layer before them.

    Batch norms stay frozen: they keep working with the statistics of ImageNet.
    """
    backbone = network.get_layer(BACKBONE)
    backbone.trainable = True
    for place, layer in enumerate(reversed(backbone.layers)):
        layer.trainable = place < count and not isinstance(layer, keras.layers.BatchNormalization)


def head(network: keras.Model) -> keras.Model:
    """Return the layers after `features`, shared with the network: from features to logits."""
    return keras.Model(network.get_layer("features").output, network.output, name=f"{network.name}_head")


def _features(model: keras.Model, images: np.ndarray, name: str, image_size: int) -> np.ndarray:
    if not len(images):
        return np.zeros((0, *model.output_shape[1:]), "float32")
    with enough_memory(name, inference_batch_size(image_size), "image_size"):
        return infer(model, images, image_size, f"{name}, computing features").astype("float32")
