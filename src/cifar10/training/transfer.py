"""Train a network with a backbone from ImageNet: first its head, on features computed once, then its last layers."""

import logging
import time

import keras
import numpy as np

from cifar10.architectures.imagenet import BACKBONE
from cifar10.training.augmentation import Augmentation
from cifar10.training.batches import inference_batch_size, ordered_batches
from cifar10.training.device import jit_compile
from cifar10.training.model import AugmentedTraining
from cifar10.training.phase import Phase, optimise
from cifar10.training.recipe import TransferRecipe

logger = logging.getLogger(__name__)


def train_head(
    network: keras.Model,
    augmentation: Augmentation,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    recipe: TransferRecipe,
) -> Phase:
    """Train the head on the features of the frozen backbone.

    They are computed once for each of `feature_copies` augmented copies of the training pictures, for they are what
    costs; an epoch of the head goes over all copies.
    """
    started = time.perf_counter()
    network.get_layer(BACKBONE).trainable = False
    features = keras.Model(network.input, network.get_layer("features").output, name="features")
    copies = recipe.feature_copies if recipe.augments() else 1
    augmented = keras.Sequential([augmentation, features])
    inputs = np.concatenate([_predict(augmented, train[0], recipe) for _ in range(copies)])
    val_inputs = _predict(features, val[0], recipe)
    prepared = time.perf_counter() - started
    logger.info("%s: features of %s pictures in %.0f s", network.name, f"{len(inputs) + len(val_inputs):,}", prepared)

    phase = optimise(
        head(network),
        (inputs, np.tile(train[1], (copies, 1))),
        (val_inputs, val[1]),
        recipe.model_copy(update={"epochs": recipe.head_epochs, "learning_rate": recipe.head_learning_rate}),
        name="head",
    )
    return phase._replace(seconds=phase.seconds + prepared)


def fine_tune(
    network: keras.Model,
    augmentation: Augmentation,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    recipe: TransferRecipe,
) -> Phase:
    """Train the head and the last `unfreeze` layers of the backbone, its batch norms excepted.

    A batch norm that is not trained works with the statistics of ImageNet and keeps them.
    """
    backbone = network.get_layer(BACKBONE)
    backbone.trainable = True
    for place, layer in enumerate(reversed(backbone.layers)):
        layer.trainable = place < recipe.unfreeze and not isinstance(layer, keras.layers.BatchNormalization)
    model = AugmentedTraining(network, augmentation, recipe)
    return optimise(model, train, val, recipe, name="fine-tuning", image_size=recipe.image_size)


def head(network: keras.Model) -> keras.Model:
    """The layers after `features`, which the network shares with it: features in, logits out."""
    return keras.Model(network.get_layer("features").output, network.output, name=f"{network.name}_head")


def _predict(model: keras.Model, images: np.ndarray, recipe: TransferRecipe) -> np.ndarray:
    model.compile(jit_compile=jit_compile())
    batches = ordered_batches(images, batch_size=inference_batch_size(recipe.image_size))
    return model.predict(batches, verbose=0)
