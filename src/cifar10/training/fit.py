"""Fit one architecture by its recipe, and keep the epoch that validation likes best."""

import logging
import sys
import time
from typing import Any

import keras
import pandas as pd

from cifar10.architectures import build
from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.errors import InputError
from cifar10.training.augmentation import Augmentation
from cifar10.training.batches import one_hot, shuffled_batches
from cifar10.training.device import jit_compile
from cifar10.training.provenance import provenance
from cifar10.training.recipe import Recipe

logger = logging.getLogger(__name__)

SGD_MOMENTUM = 0.9
VALIDATION_BATCH_SIZE = 500
MIN_LEARNING_RATE = 1e-6  # where the plateau schedule ends


class AugmentedTraining(keras.Model):
    """The network as it is trained: it sees augmented pictures in `fit`, and the pictures as they are elsewhere."""

    def __init__(self, network: keras.Model, augmentation: Augmentation) -> None:
        super().__init__(name=f"{network.name}_training")
        self.network = network
        self.augmentation = augmentation

    def build(self, input_shape):
        """Nothing is left to build: the network comes built, and the augmentation has no weights."""
        self.built = True

    def call(self, images, training=False):
        """Raw RGB 0-255, uint8 or float (n, 32, 32, 3), to logits."""
        images = self.augmentation(images) if training else keras.ops.cast(images, "float32")
        return self.network(images, training=training)


class EpochLog(keras.callbacks.Callback):
    """Add what Keras leaves out of the history: the learning rate that an epoch ended with, and its seconds."""

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add both to the epoch's logs, which the history and the progress bar read after this callback."""
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["seconds"] = time.perf_counter() - self.started


def fit(
    name: str, train: Examples, val: Examples, statistics: Statistics, num_classes: int, recipe: Recipe
) -> tuple[TrainedModel, pd.DataFrame]:
    """Fit, and restore the epoch with the best validation accuracy.

    Args:
        name: the architecture.
        train: the training part.
        val: the validation part, which chooses the epoch (and, with `schedule: plateau`, the learning rate).
        statistics: channel statistics of `train`, and the version of the data.
        num_classes: length of the logits.
        recipe: everything else.

    Returns:
        The trained model, and its history: a row an epoch with epoch (from 1), accuracy and loss (on the augmented
        pictures, while the weights still move), val_accuracy, val_loss, learning_rate and seconds.

    Raises:
        InputError: the parts are not those that `statistics` is of, or the loss is no longer a number.
    """
    verify(statistics.digests, train=train, val=val)
    origin = provenance()  # now: the code may be changed while it trains
    keras.utils.set_random_seed(recipe.seed)
    network = build(name, num_classes, statistics)
    model = AugmentedTraining(network, Augmentation(recipe, fill=statistics.mean))
    model.compile(
        optimizer=_optimizer(recipe, steps_per_epoch=-(-len(train.labels) // recipe.batch_size)),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=jit_compile(),
    )
    best = keras.callbacks.EarlyStopping(
        monitor="val_accuracy",
        mode="max",
        patience=recipe.early_stopping or recipe.epochs,
        restore_best_weights=True,
    )
    callbacks = [EpochLog(), keras.callbacks.TerminateOnNaN(raise_error=True), best]
    if recipe.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_accuracy",
                mode="max",
                patience=recipe.plateau_patience,
                factor=recipe.plateau_factor,
                min_lr=MIN_LEARNING_RATE,
            )
        )

    logger.info("%s: %s parameters, %d epochs at most", name, f"{network.count_params():,}", recipe.epochs)
    started = time.perf_counter()
    try:
        epochs = model.fit(
            shuffled_batches(train, num_classes, recipe.batch_size, recipe.seed),
            epochs=recipe.epochs,
            validation_data=(val.images, one_hot(val.labels, num_classes)),
            validation_batch_size=VALIDATION_BATCH_SIZE,
            shuffle=False,  # the batches come shuffled
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,  # a log file gets a line an epoch, not every redrawing of the bar
        )
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        raise InputError(
            f"{name}: the loss is no longer a number, so training stopped and nothing was saved. "
            f"Lower {name}.learning_rate (now {recipe.learning_rate:g}) or raise {name}.warmup."
        ) from error
    seconds = time.perf_counter() - started

    history = pd.DataFrame(epochs.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    chosen = history.iloc[best.best_epoch]
    logger.info(
        "%s: kept epoch %d of %d, validation accuracy %.4f, %.0f s",
        name,
        chosen.epoch,
        len(history),
        chosen.val_accuracy,
        seconds,
    )
    record = {
        "architecture": name,
        "recipe": recipe.model_dump(),
        "initialisation": "random",
        "image_size": network.input_shape[1],
        "data_version": statistics.data_version,
        "digests": statistics.digests,
        "parameters": network.count_params(),
        "epochs": len(history),
        "best_epoch": int(chosen.epoch),
        "val_accuracy": float(chosen.val_accuracy),
        "seconds": round(seconds, 1),
        **origin,
        "history": history.to_dict(orient="records"),
    }
    return TrainedModel(_with_softmax(network), record), history


def _optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    learning_rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":
        steps = recipe.epochs * steps_per_epoch
        warmup_steps = round(recipe.warmup * steps)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else recipe.learning_rate,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=recipe.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    weight_decay = recipe.weight_decay or None
    optimizer = {
        "adam": lambda: keras.optimizers.Adam(learning_rate, weight_decay=weight_decay),
        "sgd": lambda: keras.optimizers.SGD(
            learning_rate, momentum=SGD_MOMENTUM, nesterov=True, weight_decay=weight_decay
        ),
    }[recipe.optimizer]()
    if weight_decay:
        # Shrinking a bias or a batch norm's scale regularises nothing (He et al. 2018, arXiv 1812.01187).
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _with_softmax(network: keras.Model) -> keras.Model:
    """The network as others use it: raw picture in, probabilities out."""
    probabilities = keras.layers.Softmax(name="probabilities")(network.outputs[0])
    return keras.Model(network.inputs[0], probabilities, name=network.name)
