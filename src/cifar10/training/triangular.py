"""The triangular learning rate schedule."""

from typing import Any

import keras
from keras import ops


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly to the peak, then fall linearly (Smith 2015, arXiv 1506.01186, one cycle)."""

    def __init__(self, peak: float, warmup_steps: int, steps: int, start: float = 0.0, end: float = 0.0) -> None:
        """Store the shape.

        Args:
            peak: the highest learning rate.
            warmup_steps: the step at which it is reached.
            steps: the number of steps.
            start: the learning rate before the first step, as a fraction of the peak.
            end: the learning rate after the last step, as a fraction of the peak.
        """
        self.peak, self.warmup_steps, self.steps, self.start, self.end = peak, warmup_steps, steps, start, end

    def __call__(self, step):
        """Return the learning rate of a step, counted from 0."""
        step = ops.cast(step, "float32")
        rise = self.start + (1 - self.start) * step / self.warmup_steps if self.warmup_steps else ops.ones_like(step)
        fall = self.end + (1 - self.end) * (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rise, fall), self.end)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("peak", "warmup_steps", "steps", "start", "end")
        return {name: getattr(self, name) for name in names}
