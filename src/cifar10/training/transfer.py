"""Train a network with an ImageNet backbone: first its head, on features computed once, then its last layers, too."""

import logging
import time

import keras
import numpy as np

from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.batches import inference_batch_size, one_hot
from cifar10.compute.inference import infer
from cifar10.contracts import Examples
from cifar10.training.augmentation import Augmentation, make_mixing
from cifar10.training.frozen import Cache, head, make_cache
from cifar10.training.model import TrainingModel
from cifar10.training.phase import enough_memory, optimise
from cifar10.training.progress import Progress
from cifar10.training.recipe import TransferRecipe

logger = logging.getLogger(__name__)

HEAD, FINE_TUNING = "head", "fine-tuning"


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
        for copy in range(recipe.copies):
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
        rate_option="head_learning_rate",
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
        with enough_memory(network.name, recipe.batch_size, "image_size, or set its cache_gb to null"):
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


def unfreeze(network: keras.Model, count: int) -> None:
    """Make the last `count` layers of the backbone trainable, and no layer before them.

    Batch norms stay frozen: they keep working with the statistics of ImageNet. Layers before the last ones drop nothing
    any more, as when what they compute is cached: in a training step, Keras runs them in training mode, too.
    """
    backbone = network.get_layer(BACKBONE)
    backbone.trainable = True
    for place, layer in enumerate(reversed(backbone.layers)):
        layer.trainable = place < count and not isinstance(layer, keras.layers.BatchNormalization)
        if place >= count and isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def _features(model: keras.Model, images: np.ndarray, name: str, image_size: int) -> np.ndarray:
    if not len(images):
        return np.zeros((0, *model.output_shape[1:]), "float32")
    with enough_memory(name, inference_batch_size(image_size), "image_size"):
        return infer(model, images, image_size, f"{name}, computing features").astype("float32")
