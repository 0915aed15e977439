"""One optimisation of a network: from its current weights to the best it reaches."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from cifar10.compute.batches import batches, inference_batch_size, shuffled
from cifar10.compute.device import jit_compile, steps_per_execution
from cifar10.compute.energy import EnergyMeter
from cifar10.compute.layers import matrices
from cifar10.compute.live import Show, TrainingProgress, live
from cifar10.contracts import Epoch
from cifar10.errors import RecipeError
from cifar10.training.model import TrainingModel
from cifar10.training.optimizers import make_optimizer
from cifar10.training.options import SIZE
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe
from cifar10.training.schedules import SCHEDULES

logger = logging.getLogger(__name__)

MIN_LEARNING_RATE = 1e-6  # where the plateau schedule ends


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
    rate_option: str = "learning_rate",
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
        rate_option: the option that sets the learning rate, for the message of a loss that is not finite.

    Raises:
        RecipeError: the loss is not finite, or there is not enough memory.
    """
    optimizer = compile_by(recipe, model, len(targets), progress.facts["compute_dtype"])
    variables = [*model.state(), *optimizer.variables]
    progress.restore(variables)
    name, steps = progress.network.name, math.ceil(len(targets) / recipe.batch_size)
    dtype = progress.facts["compute_dtype"]
    epochs = _Epochs(model, optimizer, targets, val_targets, recipe, name, image_size, rate_option, dtype)
    with live(f"{name}, {phase}", recipe.epochs * steps, len(progress.of(phase)) * steps) as show:
        while not _finished(recipe, rows := progress.of(phase)):
            started, meter = time.perf_counter() - (0.0 if rows else prepared), EnergyMeter()
            logs, val_logs = epochs.run(rows, show, meter)
            epochs.check_finite(variables)
            row = Epoch(
                phase=phase,
                epoch=len(progress.history) + 1,
                accuracy=logs["accuracy"],
                loss=logs["loss"],
                val_accuracy=val_logs["accuracy"],
                val_loss=val_logs["loss"],
                learning_rate=epochs.rate(len(rows)),
                seconds=time.perf_counter() - started,
                joules=None if prepared and not rows else meter.joules(),  # that of the preparation is not known
            )
            progress.add(row, variables)
            _log(name, row, len(rows) + 1, recipe, len(targets) / logs["seconds"])
            progress.report(row)
    progress.network.set_weights(progress.best_weights)


@dataclass(frozen=True)
class _Epochs:
    """The epochs of a phase, each of which trains and validates."""

    model: TrainingModel
    optimizer: keras.optimizers.Optimizer
    targets: np.ndarray
    val_targets: np.ndarray
    recipe: Recipe
    name: str
    image_size: int
    rate_option: str
    compute_dtype: str

    def run(self, rows: list[Epoch], show: Show, meter: EnergyMeter) -> tuple[dict[str, float], dict[str, Any]]:
        """Run the epoch after these rows of the history.

        Returns:
            Accuracy and loss on the train inputs, with the seconds of training without validation; accuracy and loss on
            val.
        """
        recipe, model, epoch = self.recipe, self.model, len(rows)
        if recipe.schedule == "plateau":
            self.optimizer.learning_rate.assign(_plateau(recipe, [row["val_accuracy"] or 0.0 for row in rows]))
        order = shuffled(len(self.targets), recipe.seed, epoch)
        train_batches = batches(order, self.targets[order], batch_size=recipe.batch_size)
        costs = [float(side**2) for side in recipe.sides]
        steps = math.ceil(len(order) / recipe.batch_size)
        validation = SIZE**2 * len(self.val_targets) / len(order) / 3  # forward passes alone: see `flops`
        ticker = TrainingProgress(show, steps, costs, validation, [row["seconds"] for row in rows])
        metering = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: meter.update(), on_test_batch_end=lambda batch, logs: meter.update()
        )
        with enough_memory(self.name, recipe.batch_size, f"batch_size, and the {self.rate_option} with it"):
            model.start_epoch(epoch)
            started = time.perf_counter()
            history = model.fit(
                train_batches,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,  # the batches come shuffled
                callbacks=[_StopAtNaN(self.diverged), ticker, metering],
                verbose=0,
            ).history
            logs = {**{name: values[0] for name, values in history.items()}, "seconds": time.perf_counter() - started}
            val_logs = self._validate(metering)
        return logs, val_logs

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0: that of the middle one of its steps."""
        recipe, batches_per_epoch = self.recipe, math.ceil(len(self.targets) / self.recipe.batch_size)
        schedule = SCHEDULES[recipe.schedule].make(recipe, recipe.epochs * batches_per_epoch)
        if not callable(schedule):
            return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        done = epoch * batches_per_epoch
        # With gradient accumulation, only the last of `accumulate` batches changes the weights.
        steps = range(done + -(done + 1) % recipe.accumulate, done + batches_per_epoch, recipe.accumulate) or [done]
        return float(keras.ops.convert_to_numpy(schedule((steps[0] + steps[-1]) / 2)))

    def _validate(self, metering: keras.callbacks.Callback) -> dict[str, Any]:
        if not len(self.val_targets):
            return {"accuracy": None, "loss": None}
        index = np.arange(len(self.val_targets), dtype="int32")
        val_batches = batches(index, self.val_targets, batch_size=inference_batch_size(self.image_size))
        return self.model.evaluate(val_batches, verbose=0, return_dict=True, callbacks=[metering])

    def check_finite(self, variables: list[keras.Variable]) -> None:
        """Check the weights after the last step of an epoch, whose loss was computed before it changed them."""
        for variable in variables:
            if "float" in variable.dtype and not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise self.diverged("weights are not finite", self.model.steps)

    def diverged(self, what: str, step: keras.Variable) -> RecipeError:
        """Return the error for what is not finite since that step."""
        at = int(keras.ops.convert_to_numpy(step))
        remedies = [f"lower its {self.rate_option} (now {self.recipe.learning_rate:g})"]
        if "warmup" in SCHEDULES[self.recipe.schedule].options:
            remedies.append("give it a longer warmup")
        if not self.recipe.gradient_clip:
            remedies.append("give it a gradient_clip")
        if self.compute_dtype != "float32":
            remedies.append(f"set {self.name}.compute_dtype=float32")
        return RecipeError(
            f"{self.name}: the {what} since training step {at}. Training stopped, and the epochs before this one are "
            f"saved. What may help: {' or '.join(remedies)}."
        )


def compile_by(recipe: Recipe, model: TrainingModel, examples: int, compute_dtype: str) -> keras.optimizers.Optimizer:
    """Compile the model for training on that number of examples, and return its optimizer.

    Raises:
        RecipeError: there are fewer batches in all than gradients are accumulated over, so that nothing would change.
    """
    steps = recipe.epochs * math.ceil(examples / recipe.batch_size)
    if steps < recipe.accumulate:
        raise RecipeError(
            f"{model.network.name}: its weights would never change, because accumulate is {recipe.accumulate}, but "
            f"there are only {steps} batches in all its epochs. Lower its accumulate, or its batch_size."
        )
    optimizer = make_optimizer(recipe, examples, compute_dtype, matrices(model.network))
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
            lower = max(learning_rate * recipe.plateau_factor, MIN_LEARNING_RATE)
            learning_rate, waited = min(learning_rate, lower), 0
    return learning_rate


@contextmanager
def enough_memory(name: str, batch_size: int, option: str) -> Iterator[None]:
    """Say which option to lower when memory runs out, for which each backend has an error of its own.

    Raises:
        RecipeError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, _tensorflow_error()) as error:
        if not isinstance(error, MemoryError) and not any(
            sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "OOM when", "out of memory", "Out of memory")
        ):
            raise
        raise RecipeError(
            f"{name}: there is not enough memory for batches of {batch_size} images. Epochs that were complete "
            f"are saved. Lower its {option}."
        ) from error


class _StopAtNaN(keras.callbacks.Callback):
    """Stop at the first step whose loss is not finite, before anything is saved."""

    def __init__(self, diverged: Callable[[str, keras.Variable], RecipeError]) -> None:
        super().__init__()
        self.diverged = diverged

    def on_train_batch_end(self, batch, logs=None):
        """Check the mean loss of the epoch so far, which such a step makes not finite."""
        if not math.isfinite(logs["loss"]):
            raise self.diverged("loss is not finite", self.model.bad_step)


def _tensorflow_error() -> type[Exception]:
    """Return the base class of TensorFlow's errors, which do not derive from Python's."""
    if keras.backend.backend() != "tensorflow":
        return MemoryError
    import tensorflow as tf

    return tf.errors.OpError


def _log(name: str, row: Epoch, epoch: int, recipe: Recipe, speed: float) -> None:
    val = side = ""
    if recipe.resolutions:
        side = f" at {recipe.sides[epoch - 1]} pixels"
    if row["val_accuracy"] is not None:
        val = f", val_accuracy {row['val_accuracy']:.4f}, val_loss {row['val_loss']:.4f}"
    logger.info(
        "%s: %s, epoch %d of %d%s: accuracy %.4f, loss %.4f%s, %.0f s, trained %s images/s",
        name,
        row["phase"],
        epoch,
        recipe.epochs,
        side,
        row["accuracy"],
        row["loss"],
        val,
        row["seconds"],
        f"{speed:,.0f}",
    )
