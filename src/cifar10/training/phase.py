"""One optimisation of a network: from its weights as they are to the best that it has had."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import keras
import numpy as np

from cifar10.compute.batches import batches, inference_batch_size, shuffled
from cifar10.compute.device import jit_compile, steps_per_execution
from cifar10.compute.energy import joules, read_counters
from cifar10.errors import InputError
from cifar10.training.model import Training
from cifar10.training.optimizers import make_optimizer, peak_learning_rate
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe

logger = logging.getLogger(__name__)

MIN_LEARNING_RATE = 1e-6  # where the plateau schedule ends

Diverged = Callable[[str, keras.Variable], InputError]  # of what is no number, and the step as of which


def optimise(
    model: Training,
    targets: np.ndarray,
    val_targets: np.ndarray,
    recipe: Recipe,
    progress: Progress,
    *,
    phase: str,
    image_size: int = 32,
    prepared: float = 0.0,
    learning_rate: str = "learning_rate",
) -> None:
    """Compile the model by the recipe, fit it, and give the network the best weights that it has had.

    Whatever the next epoch depends on is either a function of the seed and the epochs so far or saved with them: a run
    that was cut off goes on as if nothing had happened.

    Args:
        model: gives logits.
        targets: one-hot, of the inputs that it trains on.
        val_targets: one-hot, of those that choose the epoch (and, with `schedule: plateau`, the learning rate).
        recipe: epochs, batch size, optimizer, schedule, label smoothing, early stopping, seed.
        progress: so far; each epoch is added.
        phase: its name, for the history.
        image_size: side of the pictures in the network, by which validation chooses its batch size.
        prepared: seconds already spent on this phase, which its first epoch is charged with.
        learning_rate: the option that has set it, for the message of a loss that is no number.

    Raises:
        InputError: the loss is no longer a number, or there is no memory for it.
    """
    optimizer = compile_by(recipe, model, len(targets), progress.facts["compute"])
    variables = [*model.state(), *optimizer.variables]
    progress.put_in_place(variables)
    name = progress.network.name
    diverged = partial(_diverged, name, learning_rate, recipe)

    index = np.arange(len(val_targets), dtype="int32")
    judged = batches(index, val_targets, batch_size=inference_batch_size(image_size))
    while not _finished(recipe, rows := progress.of(phase)):
        epoch = len(rows)
        started = time.perf_counter() - (prepared if epoch == 0 else 0.0)
        if recipe.schedule == "plateau":
            optimizer.learning_rate.assign(_plateau(recipe, [row["val_accuracy"] for row in rows]))
        if model.augmentation:
            model.augmentation.epoch.assign(epoch)
        counters = read_counters()
        order = shuffled(len(targets), recipe.seed, epoch)
        judgement = {"accuracy": None, "loss": None}
        with enough_memory(name, recipe.batch_size, f"batch_size, and the {learning_rate} with it"):
            logs = _fit(model, batches(order, targets[order], batch_size=recipe.batch_size), epoch, diverged)
            if len(val_targets):
                judgement = model.evaluate(judged, verbose=0, return_dict=True)
        _check_finite(variables, model, diverged)
        row = {
            "phase": phase,
            "epoch": len(progress.history) + 1,
            "accuracy": logs["accuracy"],
            "loss": logs["loss"],
            "val_accuracy": judgement["accuracy"],
            "val_loss": judgement["loss"],
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            "seconds": time.perf_counter() - started,
        }
        if (energy := joules(counters, read_counters())) is not None:
            row["joules"] = energy
        progress.add(row, variables)
        _log(name, row, epoch + 1, recipe.epochs, len(targets))
    progress.network.set_weights(progress.best_weights)


def compile_by(recipe: Recipe, model: Training, examples: int, precision: str) -> keras.optimizers.Optimizer:
    """Compile the model to be trained on so many examples, in that precision. Returns its optimizer."""
    optimizer = make_optimizer(recipe, examples, precision)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=jit_compile(),
        steps_per_execution=steps_per_execution(),
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def _finished(recipe: Recipe, rows: list[dict]) -> bool:
    """Whether a phase has run all its epochs, or so many without a better one that it ends early."""
    accuracies = [row["val_accuracy"] for row in rows]
    waited = len(rows) - 1 - accuracies.index(max(accuracies)) if rows and recipe.early_stopping else 0
    return len(rows) >= recipe.epochs or (recipe.early_stopping is not None and waited >= recipe.early_stopping)


def _plateau(recipe: Recipe, accuracies: list[float]) -> float:
    """The learning rate after these epochs: lower by a factor each time that so many of them have not been better."""
    learning_rate, best, waited = peak_learning_rate(recipe), -math.inf, 0
    for accuracy in accuracies:
        if accuracy > best:
            best, waited = accuracy, 0
            continue
        waited += 1
        if waited >= recipe.plateau_patience:
            learning_rate, waited = max(learning_rate * recipe.plateau_factor, MIN_LEARNING_RATE), 0
    return learning_rate


def _fit(model: Training, epoch_batches: object, epoch: int, diverged: Diverged) -> dict[str, float]:
    """One epoch; its mean accuracy and loss."""
    history = model.fit(
        epoch_batches,
        initial_epoch=epoch,
        epochs=epoch + 1,
        shuffle=False,  # the batches come shuffled
        callbacks=[_StopAtNaN(diverged)],
        verbose=1 if sys.stdout.isatty() else 0,
    ).history
    return {name: values[0] for name, values in history.items()}


@contextmanager
def enough_memory(name: str, batch_size: int, knob: str) -> Iterator[None]:
    """Say what to lower where there is not enough, for which each backend has an error of its own.

    Raises:
        InputError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, _tensorflow_error()) as error:
        if not isinstance(error, MemoryError) and not any(
            sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "OOM when", "out of memory", "Out of memory")
        ):
            raise
        raise InputError(
            f"{name}: there is no memory left for batches of {batch_size} pictures. The epochs before this one are "
            f"kept. Lower its {knob}."
        ) from error


def _check_finite(variables: list[keras.Variable], model: Training, diverged: Diverged) -> None:
    """Of the last step of an epoch, only what it made of the weights tells: its loss came before."""
    for variable in variables:
        if "float" in variable.dtype and not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise diverged("weights are no longer numbers", model.steps)


class _StopAtNaN(keras.callbacks.Callback):
    """Stop at the first step whose loss is no number, before anything is saved."""

    def __init__(self, diverged: Diverged) -> None:
        super().__init__()
        self.diverged = diverged

    def on_train_batch_end(self, batch, logs=None):
        """Look at the mean loss of the epoch so far, which such a step spoils."""
        if not math.isfinite(logs["loss"]):
            raise self.diverged("loss is no longer a number", self.model.bad_step)


def _diverged(name: str, learning_rate: str, recipe: Recipe, what: str, step: keras.Variable) -> InputError:
    at = int(keras.ops.convert_to_numpy(step))
    return InputError(
        f"{name}: the {what}, as of training step {at}. Training stopped, and the epochs before this one are kept. "
        f"Lower its {learning_rate} (now {recipe.learning_rate:g}), give it a longer warmup or a gradient_clip, or set "
        f"{name}.precision=float32."
    )


def _tensorflow_error() -> type[Exception]:
    """What TensorFlow raises; not an error of Python's own."""
    if keras.backend.backend() != "tensorflow":
        return MemoryError
    import tensorflow as tf

    return tf.errors.OpError


def _log(name: str, row: dict, epoch: int, epochs: int, pictures: int) -> None:
    val = ""
    if row["val_accuracy"] is not None:
        val = f", val_accuracy {row['val_accuracy']:.4f}, val_loss {row['val_loss']:.4f}"
    logger.info(
        "%s: %s, epoch %d of %d: accuracy %.4f, loss %.4f%s, %.0f s, %s pictures a second",
        name,
        row["phase"],
        epoch,
        epochs,
        row["accuracy"],
        row["loss"],
        val,
        row["seconds"],
        f"{pictures / row['seconds']:,.0f}",
    )
