"""Fit one architecture by its recipe, and keep the epoch that validation likes best."""

import hashlib
import logging
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from cifar10.architectures import build
from cifar10.compute.batches import one_hot
from cifar10.compute.device import choose_precision, cores, describe, has_gpu, make_deterministic
from cifar10.compute.provenance import provenance
from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.errors import InputError
from cifar10.training.accelerate import accelerate, take_over
from cifar10.training.augmentation import Augmentation, mirror_some
from cifar10.training.checkpoint import Checkpoint
from cifar10.training.cost import recipe_flops
from cifar10.training.model import Training
from cifar10.training.phase import optimise
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe, TransferRecipe
from cifar10.training.transfer import FINE_TUNING, fine_tune, train_head

logger = logging.getLogger(__name__)

FLOPS_PER_CORE = {"float32": 1e11, "bfloat16": 2e11}  # about, with AVX-512; small networks make less of it


def fit(
    name: str,
    train: Examples,
    val: Examples,
    statistics: Statistics,
    num_classes: int,
    recipe: Recipe,
    checkpoint: Checkpoint,
) -> tuple[TrainedModel, pd.DataFrame]:
    """Fit, and restore the epoch with the best validation accuracy.

    A training that was cut off, by whatever, continues after its last whole epoch, and ends as if it had not been. What
    it leaves in the checkpoint is for whoever saves the model to clear.

    Args:
        name: the architecture.
        train: the training part.
        val: the validation part, which chooses the epoch (and, with `schedule: plateau`, the learning rate).
        statistics: of `train`, and the version of the data.
        num_classes: length of the logits.
        recipe: everything else. With `train_on: all` the validation part is trained on too, and the last epoch kept.
        checkpoint: where unfinished trainings of this architecture are kept.

    Returns:
        The trained model, and its history: a row an epoch with phase, epoch (from 1), accuracy and loss (on the
        augmented pictures, while the weights still move), val_accuracy, val_loss, learning_rate and seconds.

    Raises:
        InputError: the parts are not those that `statistics` is of, there are fewer examples than the recipe asks for,
            the weights of a backbone cannot be had, the same training runs elsewhere, the loss is no longer a number,
            or memory or disk are full.
    """
    verify(statistics.digests, train=train, val=val)
    identity = identify(name, recipe, statistics)
    with checkpoint.lock(identity):
        train, val = _parts(train, val, recipe, name)
        bundle = checkpoint.latest(identity)
        # Asked now, for the code may be changed while it trains. A run that continues another takes over its answers.
        facts: dict[str, Any] = {"compute": choose_precision(recipe), "origin": provenance()}
        if bundle:
            before = {key: bundle.facts[key] for key in facts}
            if before["origin"] != facts["origin"]:
                logger.warning(
                    "%s: was begun by other code or on another machine than it continues with; its record names those "
                    "it was begun with",
                    name,
                )
            facts = before
        precision = facts["compute"]

        if recipe.deterministic:
            make_deterministic()
        keras.utils.set_random_seed(recipe.seed)
        network = build(name, num_classes, statistics, **recipe.knobs())
        _announce(network, recipe, len(train.labels), precision)
        parameters, pictures = network.count_params(), len(train.labels)
        logger.info("%s: %s parameters, %s training pictures", name, f"{parameters:,}", f"{pictures:,}")

        accelerated = accelerate(network, precision, recipe.accumulate)
        progress = Progress(accelerated, checkpoint, identity, facts)
        if bundle:
            progress.resume(bundle)
        _train(train, val, statistics, num_classes, recipe, progress)
        take_over(network, progress.network)

        best, history = progress.best, pd.DataFrame(progress.history)
        seconds = float(history.seconds.sum())
        if best["val_accuracy"] is None:
            logger.info("%s: kept epoch %d, the last one, %.0f s", name, best["epoch"], seconds)
        else:
            logger.info(
                "%s: kept epoch %d of %d, validation accuracy %.4f, %.0f s",
                name,
                best["epoch"],
                len(history),
                best["val_accuracy"],
                seconds,
            )
        record = {
            "architecture": name,
            "recipe": recipe.model_dump(),
            "recipe_hash": recipe_hash(recipe),
            "image_size": recipe.image_size if isinstance(recipe, TransferRecipe) else network.input_shape[1],
            "training_pictures": pictures,
            "data_version": statistics.data_version,
            "digests": statistics.digests,
            "parameters": parameters,
            "epochs": len(history),
            "best_epoch": best["epoch"],
            "val_accuracy": best["val_accuracy"],
            "seconds": round(seconds, 1),
            "joules": float(history.joules.sum()) if "joules" in history and history.joules.notna().all() else None,
            "phases": {
                phase: {
                    "epochs": len(rows),
                    "val_accuracy": rows.val_accuracy.max() if len(val.labels) else None,
                    "seconds": round(float(rows.seconds.sum()), 1),
                }
                for phase, rows in history.groupby("phase", sort=False)
            },
            "initialisation": identity["initialisation"],
            **facts["origin"],
            "precision": precision,
            "history": progress.history,
        }
        return TrainedModel(_with_softmax(network), record), history


def identify(name: str, recipe: Recipe, statistics: Statistics) -> dict[str, Any]:
    """What makes a training this one and no other."""
    return {
        "architecture": name,
        "recipe": recipe.model_dump(),
        "data_version": statistics.data_version,
        "initialisation": _initialisation(recipe),
        "backend": keras.backend.backend(),
    }


def _announce(network: keras.Model, recipe: Recipe, pictures: int, precision: str) -> None:
    """Say what it is computed on; without a GPU, how long that will take, so that nobody waits in vain."""
    logger.info("%s: on %s", network.name, describe(precision))
    if not has_gpu():
        operations = recipe_flops(network, recipe, pictures)
        logger.info(
            "%s: no GPU was found. The recipe is %.2g PFLOP, some %s on this processor; to measure it: "
            "kedro run --pipelines=benchmark",
            network.name,
            operations / 1e15,
            _duration(operations / (FLOPS_PER_CORE[precision] * cores())),
        )


def _duration(seconds: float) -> str:
    """A rough one, in words."""
    return f"{math.ceil(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.0f} hours"


def _train(
    train: Examples, val: Examples, statistics: Statistics, num_classes: int, recipe: Recipe, progress: Progress
) -> None:
    """All phases, one after the other; the network then has the weights of the best epoch of all."""
    if recipe.flip == "alternating":
        train = train._replace(images=mirror_some(train.images, recipe.seed))
    augmentation = Augmentation(recipe, fill=statistics.mean)
    if not isinstance(recipe, TransferRecipe):
        model = Training(progress.network, train.images, val.images, augmentation, recipe)
        targets, val_targets = (one_hot(part.labels, num_classes) for part in (train, val))
        optimise(model, targets, val_targets, recipe, progress, phase="training")
        return
    if not progress.of(FINE_TUNING):
        train_head(train, val, augmentation, recipe, progress)
    if recipe.unfreeze:
        fine_tune(train, val, augmentation, recipe, progress)


def _parts(train: Examples, val: Examples, recipe: Recipe, name: str) -> tuple[Examples, Examples]:
    """The examples to train on, all or so many drawn at random, and those to judge by, which may be none."""
    if recipe.train_on == "all":
        train = Examples(*(np.concatenate(arrays) for arrays in zip(train, val, strict=True)))
        val = Examples(val.images[:0], val.labels[:0])
    if recipe.examples is None:
        return train, val
    if recipe.examples > len(train.labels):
        raise InputError(
            f"{name}.examples asks for {recipe.examples:,} training pictures, but there are {len(train.labels):,}."
        )
    index = np.random.default_rng(recipe.seed).permutation(len(train.labels))[: recipe.examples]
    return Examples(train.images[index], train.labels[index]), val


def recipe_hash(recipe: Recipe) -> str:
    """What recipes that differ in nothing but their seed have in common: SHA-256, the first 12 digits."""
    return hashlib.sha256(recipe.model_dump_json(exclude={"seed"}).encode()).hexdigest()[:12]


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
