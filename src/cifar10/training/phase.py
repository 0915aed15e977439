"""One optimisation of a network: from its current weights to the best it reaches."""

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
from cifar10.contracts import Epoch
from cifar10.errors import InputError
from cifar10.training.model import TrainingModel
from cifar10.training.optimizers import make_optimizer
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe

logger = logging.getLogger(__name__)

MIN_LEARNING_RATE = 1e-6  # where the plateau schedule ends

Diverged = Callable[[str, keras.Variable], InputError]  # from what is not finite, and since which step


def optimise(
    model: TrainingModel,
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
    """Compile the model by the recipe, fit it, and restore the best weights that the network has had.

    Whatever the next epoch depends on is a function of seed and history, or saved with them: an interrupted run
    continues as if nothing had happened.

    Args:
        model: returns logits.
        targets: one-hot, of the train inputs.
        val_targets: one-hot, of the inputs that choose the epoch (and, with `schedule: plateau`, the learning rate).
        recipe: epochs, batch size, optimizer, schedule, label smoothing, early stopping, seed.
        progress: so far; each epoch is added.
        phase: its name, for the history.
        image_size: side in pixels at which the network computes, which determines the batch size of validation.
        prepared: seconds already spent on this phase, which are added to its first epoch.
        learning_rate: the option that sets it, for the message of a loss that is not finite.

    Raises:
        InputError: the loss is not finite, or there is not enough memory.
    """
    optimizer = compile_by(recipe, model, len(targets), progress.facts["compute_dtype"])
    variables = [*model.state(), *optimizer.variables]
    progress.restore(variables)
    name = progress.network.name
    diverged = partial(_diverged, name, learning_rate, recipe)

    index = np.arange(len(val_targets), dtype="int32")
    val_batches = batches(index, val_targets, batch_size=inference_batch_size(image_size))
    while not _finished(recipe, rows := progress.of(phase)):
        epoch = len(rows)
        started = time.perf_counter() - (prepared if epoch == 0 else 0.0)
        if recipe.schedule == "plateau":
            optimizer.learning_rate.assign(_plateau(recipe, [row["val_accuracy"] or 0.0 for row in rows]))
        if model.augmentation:
            model.augmentation.epoch.assign(epoch)
        counters = read_counters()
        order = shuffled(len(targets), recipe.seed, epoch)
        val_logs = {"accuracy": None, "loss": None}
        with enough_memory(name, recipe.batch_size, f"batch_size, and the {learning_rate} with it"):
            logs = _fit(model, batches(order, targets[order], batch_size=recipe.batch_size), epoch, diverged)
            if len(val_targets):
                val_logs = model.evaluate(val_batches, verbose=0, return_dict=True)
        _check_finite(variables, model, diverged)
        row = Epoch(
            phase=phase,
            epoch=len(progress.history) + 1,
            accuracy=logs["accuracy"],
            loss=logs["loss"],
            val_accuracy=val_logs["accuracy"],
            val_loss=val_logs["loss"],
            learning_rate=float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            seconds=time.perf_counter() - started,
            joules=joules(counters, read_counters()),
        )
        progress.add(row, variables)
        _log(name, row, epoch + 1, recipe.epochs, len(targets))
    progress.network.set_weights(progress.best_weights)


def compile_by(recipe: Recipe, model: TrainingModel, examples: int, compute_dtype: str) -> keras.optimizers.Optimizer:
    """Compile the model for training on that number of examples, and return its optimizer."""
    optimizer = make_optimizer(recipe, examples, compute_dtype)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        jit_compile=jit_compile(),
        steps_per_execution=steps_per_execution(),
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def _finished(recipe: Recipe, rows: list[Epoch]) -> bool:
    """Whether a phase has run all its epochs, or stops early because too many were not better than the best."""
    if recipe.early_stopping is None or not rows:
        return len(rows) >= recipe.epochs
    accuracies = [row["val_accuracy"] or 0.0 for row in rows]
    waited = len(rows) - 1 - accuracies.index(max(accuracies))
    return len(rows) >= recipe.epochs or waited >= recipe.early_stopping


def _plateau(recipe: Recipe, accuracies: list[float]) -> float:
    """Return the learning rate after these epochs: lowered whenever `plateau_patience` epochs were not better."""
    learning_rate, best, waited = recipe.peak_learning_rate, -math.inf, 0
    for accuracy in accuracies:
        if accuracy > best:
            best, waited = accuracy, 0
            continue
        waited += 1
        if waited >= recipe.plateau_patience:
            learning_rate, waited = max(learning_rate * recipe.plateau_factor, MIN_LEARNING_RATE), 0
    return learning_rate


def _fit(model: TrainingModel, epoch_batches: object, epoch: int, diverged: Diverged) -> dict[str, float]:
    """Run one epoch, and return its mean accuracy and loss."""
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
def enough_memory(name: str, batch_size: int, option: str) -> Iterator[None]:
    """Say which option to lower when memory runs out, for which each backend has an error of its own.

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
            f"{name}: there is not enough memory for batches of {batch_size} images. The epochs before this one are "
            f"saved. Lower its {option}."
        ) from error


def _check_finite(variables: list[keras.Variable], model: TrainingModel, diverged: Diverged) -> None:
    """Check the weights after the last step of an epoch, whose loss was computed before it changed them."""
    for variable in variables:
        if "float" in variable.dtype and not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise diverged("weights are not finite", model.steps)


class _StopAtNaN(keras.callbacks.Callback):
    """Stop at the first step whose loss is not finite, before anything is saved."""

    def __init__(self, diverged: Diverged) -> None:
        super().__init__()
        self.diverged = diverged

    def on_train_batch_end(self, batch, logs=None):
        """Check the mean loss of the epoch so far, which such a step makes not finite."""
        if not math.isfinite(logs["loss"]):
            raise self.diverged("loss is not finite", self.model.bad_step)


def _diverged(name: str, learning_rate: str, recipe: Recipe, what: str, step: keras.Variable) -> InputError:
    at = int(keras.ops.convert_to_numpy(step))
    return InputError(
        f"{name}: the {what} since training step {at}. Training stopped, and the epochs before this one are saved. "
        f"Lower its {learning_rate} (now {recipe.learning_rate:g}), give it a longer warmup or a gradient_clip, or set "
        f"{name}.compute_dtype=float32."
    )


def _tensorflow_error() -> type[Exception]:
    """Return the base class of TensorFlow's errors, which do not derive from Python's."""
    if keras.backend.backend() != "tensorflow":
        return MemoryError
    import tensorflow as tf

    return tf.errors.OpError


def _log(name: str, row: Epoch, epoch: int, epochs: int, images: int) -> None:
    val = ""
    if row["val_accuracy"] is not None:
        val = f", val_accuracy {row['val_accuracy']:.4f}, val_loss {row['val_loss']:.4f}"
    logger.info(
        "%s: %s, epoch %d of %d: accuracy %.4f, loss %.4f%s, %.0f s, %s images/s",
        name,
        row["phase"],
        epoch,
        epochs,
        row["accuracy"],
        row["loss"],
        val,
        row["seconds"],
        f"{images / row['seconds']:,.0f}",
    )
