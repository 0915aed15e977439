"""Learning rate schedules by name. Imports no Keras, so that recipes can be checked without it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cifar10.training.options import Options

if TYPE_CHECKING:
    import keras


class Schedule(NamedTuple):
    """A row of the table.

    Attributes:
        make: from the recipe and the number of training steps to what a Keras optimizer takes as its learning rate.
        options: the recipe options that it uses; the recipe refuses them for other schedules.
    """

    make: "Callable[[Options, int], float | keras.optimizers.schedules.LearningRateSchedule]"
    options: frozenset[str] = frozenset()


def _peak(recipe: Options, steps: int) -> float:
    return recipe.peak_learning_rate


def _cosine(recipe: Options, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule":
    import keras

    peak, warmup_steps = recipe.peak_learning_rate, round(recipe.warmup * steps)
    return keras.optimizers.schedules.CosineDecay(
        peak * recipe.schedule_start if warmup_steps else peak,
        decay_steps=max(steps - warmup_steps, 1),
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
        alpha=recipe.schedule_end,
    )


def _triangular(recipe: Options, steps: int) -> "keras.optimizers.schedules.LearningRateSchedule":
    from cifar10.training.triangular import Triangular

    warmup_steps = round(recipe.warmup * steps)
    return Triangular(recipe.peak_learning_rate, warmup_steps, steps, recipe.schedule_start, recipe.schedule_end)


ONE_CYCLE = frozenset({"warmup", "schedule_start", "schedule_end"})
SCHEDULES = {
    "constant": Schedule(_peak),
    "plateau": Schedule(_peak, frozenset({"plateau_patience", "plateau_factor"})),  # lowered between epochs
    "cosine": Schedule(_cosine, ONE_CYCLE),
    "triangular": Schedule(_triangular, ONE_CYCLE),
}
