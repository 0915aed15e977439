"""Optimizers and their schedules, from a recipe."""

import math
from typing import Any

import keras
from keras import ops

from cifar10.training.recipe import Recipe

SGD_MOMENTUM = 0.9


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Up from zero to the peak, and down to zero, in straight lines."""

    def __init__(self, peak: float, warmup_steps: int, steps: int) -> None:
        """Take the peak, the step at which it is reached, and the step at which it is zero again."""
        self.peak, self.warmup_steps, self.steps = peak, warmup_steps, steps

    def __call__(self, step):
        """The learning rate of a step, which counts from 0."""
        step = ops.cast(step, "float32")
        rise = step / max(self.warmup_steps, 1) if self.warmup_steps else ops.ones_like(step)
        fall = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rise, fall), 0.0)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "steps": self.steps}


def make_optimizer(recipe: Recipe, examples: int) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its schedule for an epoch of that many examples.

    Weight decay is decoupled (Loshchilov and Hutter 2017, arXiv 1711.05101) and leaves biases and batch norms alone,
    which it would not regularise (He et al. 2018, arXiv 1812.01187).
    """
    options: dict[str, Any] = {
        "learning_rate": _learning_rate(recipe, steps=recipe.epochs * math.ceil(examples / recipe.batch_size)),
        "weight_decay": recipe.weight_decay or None,
        "global_clipnorm": recipe.gradient_clip,
    }
    optimizer = {
        "sgd": lambda: keras.optimizers.SGD(momentum=SGD_MOMENTUM, nesterov=True, **options),
        "adam": lambda: keras.optimizers.Adam(**options),
        "adamw": lambda: keras.optimizers.AdamW(**options),
    }[recipe.optimizer]()
    if recipe.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _learning_rate(recipe: Recipe, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A function of the step, but for `plateau`, whose callback lowers the number."""
    peak, warmup_steps = recipe.learning_rate, round(recipe.warmup * steps)
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else peak,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    if recipe.schedule == "triangular":
        return Triangular(peak, warmup_steps, steps)
    return peak
