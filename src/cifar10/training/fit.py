"""Fit one architecture by its recipe, and keep the epoch that validation likes best."""

import hashlib
import logging
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from cifar10.architectures import build
from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.errors import InputError
from cifar10.training.augmentation import Augmentation
from cifar10.training.batches import one_hot
from cifar10.training.model import AugmentedTraining
from cifar10.training.phase import Phase, optimise
from cifar10.training.provenance import provenance
from cifar10.training.recipe import Recipe, TransferRecipe
from cifar10.training.transfer import fine_tune, train_head

logger = logging.getLogger(__name__)


def fit(
    name: str, train: Examples, val: Examples, statistics: Statistics, num_classes: int, recipe: Recipe
) -> tuple[TrainedModel, pd.DataFrame]:
    """Fit, and restore the epoch with the best validation accuracy.

    Args:
        name: the architecture.
        train: the training part.
        val: the validation part, which chooses the epoch (and, with `schedule: plateau`, the learning rate).
        statistics: of `train`, and the version of the data.
        num_classes: length of the logits.
        recipe: everything else.

    Returns:
        The trained model, and its history: a row an epoch with phase, epoch (from 1), accuracy and loss (on the
        augmented pictures, while the weights still move), val_accuracy, val_loss, learning_rate and seconds.

    Raises:
        InputError: the parts are not those that `statistics` is of, there are fewer examples than the recipe asks for,
            the weights of a backbone cannot be had, or the loss is no longer a number.
    """
    verify(statistics.digests, train=train, val=val)
    # Now, for the code and the file of weights may be changed while it trains.
    origin = {"initialisation": _initialisation(recipe), **provenance()}
    keras.utils.set_random_seed(recipe.seed)
    train = _some(train, recipe, name)
    network = build(name, num_classes, statistics, **recipe.knobs())
    logger.info(
        "%s: %s parameters, %s training pictures", name, f"{network.count_params():,}", f"{len(train.labels):,}"
    )
    phases = _train(network, train, val, statistics, num_classes, recipe)

    history = pd.concat([phase.history for phase in phases], ignore_index=True)
    history["epoch"] = range(1, len(history) + 1)
    kept = max(range(len(phases)), key=lambda place: (phases[place].val_accuracy, place))
    best_epoch = phases[kept].best_epoch + sum(len(phase.history) for phase in phases[:kept])
    val_accuracy, seconds = phases[kept].val_accuracy, sum(phase.seconds for phase in phases)
    logger.info(
        "%s: kept epoch %d of %d, validation accuracy %.4f, %.0f s",
        name,
        best_epoch,
        len(history),
        val_accuracy,
        seconds,
    )
    record = {
        "architecture": name,
        "recipe": recipe.model_dump(),
        "image_size": recipe.image_size if isinstance(recipe, TransferRecipe) else network.input_shape[1],
        "training_pictures": len(train.labels),
        "data_version": statistics.data_version,
        "digests": statistics.digests,
        "parameters": network.count_params(),
        "epochs": len(history),
        "best_epoch": best_epoch,
        "val_accuracy": val_accuracy,
        "seconds": round(seconds, 1),
        "phases": {
            phase.history.phase[0]: {
                "epochs": len(phase.history),
                "val_accuracy": phase.val_accuracy,
                "seconds": round(phase.seconds, 1),
            }
            for phase in phases
        },
        **origin,
        "history": history.to_dict(orient="records"),
    }
    return TrainedModel(_with_softmax(network), record), history


def _train(
    network: keras.Model, train: Examples, val: Examples, statistics: Statistics, num_classes: int, recipe: Recipe
) -> list[Phase]:
    """All phases, one after the other; the network then has the weights of the best epoch of all."""
    augmentation = Augmentation(recipe, fill=statistics.mean)
    shown, chosen_by = ((part.images, one_hot(part.labels, num_classes)) for part in (train, val))
    if not isinstance(recipe, TransferRecipe):
        model = AugmentedTraining(network, augmentation, recipe)
        return [optimise(model, shown, chosen_by, recipe, name="training")]

    phases = [train_head(network, augmentation, shown, chosen_by, recipe)]
    if recipe.unfreeze:
        weights = network.get_weights()
        phases.append(fine_tune(network, augmentation, shown, chosen_by, recipe))
        if phases[1].val_accuracy < phases[0].val_accuracy:
            logger.warning("%s: fine-tuning did not better it, so the weights before it are kept", network.name)
            network.set_weights(weights)
    return phases


def _some(train: Examples, recipe: Recipe, name: str) -> Examples:
    """The examples to train on: all, or so many drawn at random."""
    if recipe.examples is None:
        return train
    if recipe.examples > len(train.labels):
        raise InputError(
            f"{name}.examples asks for {recipe.examples:,} training pictures, but there are {len(train.labels):,}."
        )
    index = np.random.default_rng(recipe.seed).permutation(len(train.labels))[: recipe.examples]
    return Examples(train.images[index], train.labels[index])


def _initialisation(recipe: Recipe) -> str:
    """Where the weights were before the training; a file by its name and the beginning of its SHA-256."""
    if not isinstance(recipe, TransferRecipe):
        return "random"
    if recipe.weights == "imagenet":
        return "imagenet"
    path = Path(recipe.weights)
    return f"{path.name} ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


def _with_softmax(network: keras.Model) -> keras.Model:
    """The network as others use it: raw picture in, probabilities out."""
    probabilities = keras.layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=network.name)
