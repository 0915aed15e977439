"""One optimisation of a model: from its weights as they are to those of its best epoch."""

import sys
import time
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from cifar10.errors import InputError
from cifar10.training.batches import inference_batch_size, ordered_batches, shuffled_batches
from cifar10.training.device import jit_compile
from cifar10.training.optimizers import make_optimizer
from cifar10.training.recipe import Recipe

MIN_LEARNING_RATE = 1e-6  # where the plateau schedule ends


class Phase(NamedTuple):
    """How an optimisation went.

    Attributes:
        history: a row an epoch, as `fit` gives it, but that the epochs of each phase count from 1.
        best_epoch: the epoch whose weights the model has, from 1.
        val_accuracy: that epoch's.
        seconds: of all epochs, and of whatever the phase had to prepare.
    """

    history: pd.DataFrame
    best_epoch: int
    val_accuracy: float
    seconds: float


class EpochLog(keras.callbacks.Callback):
    """Add what Keras leaves out of the history: the learning rate that an epoch ended with, and its seconds."""

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Add both to the epoch's logs, which the history and the progress bar read after this callback."""
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs["seconds"] = time.perf_counter() - self.started


def optimise(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    recipe: Recipe,
    *,
    name: str,
    image_size: int = 32,
) -> Phase:
    """Compile the model by the recipe, fit it, and restore the epoch with the best validation accuracy.

    Args:
        model: gives logits.
        train: inputs and one-hot targets to train on.
        val: inputs and one-hot targets that choose the epoch (and, with `schedule: plateau`, the learning rate).
        recipe: epochs, batch size, optimizer, schedule, label smoothing, early stopping, seed.
        name: the phase, for its history.
        image_size: side of the pictures in the network, by which validation chooses its batch size.

    Raises:
        InputError: the loss is no longer a number.
    """
    model.compile(
        optimizer=make_optimizer(recipe, len(train[1])),
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

    started = time.perf_counter()
    try:
        epochs = model.fit(
            shuffled_batches(*train, recipe.batch_size, recipe.seed),
            epochs=recipe.epochs,
            validation_data=ordered_batches(*val, batch_size=inference_batch_size(image_size)),
            shuffle=False,  # the batches come shuffled
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,  # a log file gets a line an epoch, not every redrawing of the bar
        )
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        raise InputError(
            f"{model.name}: the loss is no longer a number, so training stopped and nothing was saved. Lower its "
            f"learning rate (now {recipe.learning_rate:g}), or set a gradient_clip."
        ) from error
    seconds = time.perf_counter() - started

    history = pd.DataFrame(epochs.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    history.insert(0, "phase", name)
    return Phase(history, best.best_epoch + 1, float(history.val_accuracy[best.best_epoch]), seconds)
