"""Optimizers and their schedules, from a recipe."""

import math
from typing import Any

import keras
from keras import ops

from cifar10.compute.device import jit_compile
from cifar10.training.recipe import Recipe

MUON_MOMENTUM = 0.6
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration, which takes all to about 1 ...
NEWTON_SCHULZ_STEPS = 3  # ... in so many steps, well enough
LOOKAHEAD_DECAY = 0.95


class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Up to the peak, and down again, in straight lines."""

    def __init__(self, peak: float, warmup_steps: int, steps: int, start: float = 0.0, end: float = 0.0) -> None:
        """Take the peak, the step at which it is reached, the number of steps, and the ends as shares of the peak."""
        self.peak, self.warmup_steps, self.steps, self.start, self.end = peak, warmup_steps, steps, start, end

    def __call__(self, step):
        """The learning rate of a step, which counts from 0."""
        step = ops.cast(step, "float32")
        rise = self.start + (1 - self.start) * step / self.warmup_steps if self.warmup_steps else ops.ones_like(step)
        fall = self.end + (1 - self.end) * (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rise, fall), self.end)

    def get_config(self) -> dict[str, Any]:
        """What the constructor takes."""
        names = ("peak", "warmup_steps", "steps", "start", "end")
        return {name: getattr(self, name) for name in names}


class SGD(keras.optimizers.SGD):
    """Nesterov momentum, with a learning rate of their own for biases and, by Muon, for kernels of convolutions.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) steps along the momentum with its singular values set
    to 1, and keeps each kernel at a norm of its own: the root of its number of filters.

    Lookahead (Zhang et al. 2019, arXiv 1907.08610), as in airbench94, goes back every few steps to a slow average of
    where it has been, which follows more slowly the nearer the end.
    """

    def __init__(
        self,
        *,
        decay: float,
        decay_biases: bool,
        bias_factor: float,
        muon_factor: float | None,
        lookahead: int | None,
        whitening_steps: int | None,
        steps: int,
        precision: str,
        **options: Any,
    ) -> None:
        """Take what others take, and what is said above.

        Args:
            decay: each step shrinks the weights by this times the learning rate.
            decay_biases: biases and batch norms, too.
            bias_factor: biases, those of batch norms too, learn at so many times the learning rate.
            muon_factor: kernels of convolutions learn by Muon at so many times the learning rate; None: as the others.
            lookahead: steps from one going back to the next; None: never.
            whitening_steps: in which the learning rate of the bias of a layer `whitening` falls to 0; None: all.
            steps: of the whole training.
            precision: `float32` or `bfloat16`, that Muon computes a direction in, which need not be exact.
            options: of `keras.optimizers.SGD`.
        """
        super().__init__(nesterov=True, **options)
        self.decay, self.decay_biases = decay, decay_biases
        self.bias_factor, self.muon_factor = bias_factor, muon_factor
        self.lookahead, self.whitening_steps, self.steps = lookahead, whitening_steps, steps
        self.precision = precision

    def build(self, variables):
        """Add the slow averages to the state."""
        super().build(variables)
        self.slow = [self.add_variable_from_reference(each, "slow", "zeros") for each in variables if self.lookahead]
        for slow, variable in zip(self.slow, variables, strict=False):
            slow.assign(ops.copy(variable))  # JAX would take one buffer for both

    def update_step(self, gradient, variable, learning_rate):
        """One variable's."""
        # On TensorFlow, Keras passes the variable inside its own one, which has another name.
        known = self._trainable_variables[self._get_variable_index(variable)]
        name = known.name
        if self.whitening_steps and known.path.endswith("whitening/bias"):
            done = ops.cast(self.iterations, "float32") / self.whitening_steps
            learning_rate = learning_rate * ops.maximum(1 - done, 0.0)
        if self.decay and (self.decay_biases or name not in ("bias", "gamma", "beta")):
            # Not left to Keras, which would go on shrinking what no longer learns.
            self.assign(variable, variable * (1 - self.decay * learning_rate))
        if self.muon_factor is not None and name == "kernel" and len(variable.shape) == 4:
            self._muon(gradient, variable, learning_rate * self.muon_factor)
        elif name in ("bias", "beta"):
            super().update_step(gradient, variable, learning_rate * self.bias_factor)
        else:
            super().update_step(gradient, variable, learning_rate)

    def apply(self, grads, trainable_variables=None):
        """All variables', and every so often back to the slow averages."""
        super().apply(grads, trainable_variables)
        if not self.lookahead:
            return
        done = ops.cast(self.iterations, "float32") / self.steps
        decay = LOOKAHEAD_DECAY**self.lookahead * done**3
        now = ops.equal(self.iterations % self.lookahead, 0)
        for slow, variable in zip(self.slow, self._trainable_variables, strict=True):
            before, value = ops.convert_to_tensor(slow), ops.convert_to_tensor(variable)
            average = ops.where(now, decay * before + (1 - decay) * value, before)
            variable.assign(ops.where(now, average, value))
            slow.assign(average)

    def _muon(self, gradient, kernel, learning_rate):
        momentum = self.momentums[self._get_variable_index(kernel)]
        self.assign(momentum, MUON_MOMENTUM * momentum + gradient)
        matrix = ops.reshape(gradient + MUON_MOMENTUM * momentum, (-1, kernel.shape[-1]))
        direction = ops.cast(orthogonalised(matrix, self.precision), kernel.dtype)
        norm = math.sqrt(kernel.shape[-1])
        scaled = kernel * (norm / ops.norm(ops.reshape(kernel, (-1,))))
        self.assign(kernel, scaled - learning_rate * ops.reshape(direction, kernel.shape))


class FusedAdam(keras.optimizers.Adam):
    """Adam as one of TensorFlow's kernels for each variable, instead of ten that each go through all of it."""

    def update_step(self, gradient, variable, learning_rate):
        """One variable's."""
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = ops.cast(self.iterations + 1, "float32")
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=ops.power(self.beta_1, step),
            beta2_power=ops.power(self.beta_2, step),
            lr=ops.cast(learning_rate, "float32"),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


def orthogonalised(matrix: Any, precision: str) -> Any:
    """The matrix, float32 (m, n), with all its singular values near 1 (0.7 to 1.2), by a Newton-Schulz iteration.

    In bfloat16, where that is the precision, of which the result then is, too.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = ops.cast(x / (ops.norm(x) + 1e-7), precision)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x


def make_optimizer(recipe: Recipe, examples: int, precision: str = "float32") -> keras.optimizers.Optimizer:
    """The optimizer of a recipe, with its schedule for an epoch of that many examples.

    Its state is float32; `precision` is what it may compute in where that does no harm.

    Weight decay is decoupled from the gradient (Loshchilov and Hutter 2017, arXiv 1711.05101) and leaves biases and
    batch norms alone, which it would not regularise (He et al. 2018, arXiv 1812.01187), unless the recipe wants it.
    """
    batches = math.ceil(examples / recipe.batch_size)
    steps = recipe.epochs * batches  # of which Keras counts each that accumulates, too
    peak, decay = peak_learning_rate(recipe), recipe.weight_decay
    if recipe.decoupled:
        # What a thousand pictures shrink a kernel by, here for each step and learning rate of 1.
        decay = decay * recipe.batch_size * recipe.accumulate / 1024 / peak
    options: dict[str, Any] = {
        "learning_rate": _learning_rate(recipe, peak, steps),
        "global_clipnorm": recipe.gradient_clip,
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
    }
    if recipe.optimizer in ("sgd", "muon"):
        return SGD(
            decay=decay,
            decay_biases=recipe.decay_biases,
            momentum=recipe.momentum,
            bias_factor=recipe.bias_learning_rate,
            muon_factor=recipe.muon_learning_rate / peak if recipe.optimizer == "muon" else None,
            lookahead=recipe.lookahead,
            # A step is here one that changes weights, whereas the schedule counts those that accumulate, too.
            whitening_steps=recipe.whitening_epochs and max(1, recipe.whitening_epochs * batches // recipe.accumulate),
            steps=steps,
            precision=precision,
            **options,
        )
    adam = keras.optimizers.Adam if jit_compile() else FusedAdam
    optimizer = adam(weight_decay=decay or None, **options)  # which makes it AdamW
    if decay and not recipe.decay_biases:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def peak_learning_rate(recipe: Recipe) -> float:
    """That of a step, at the peak of the schedule.

    A decoupled one is given for 1,024 pictures whatever batch size and momentum are: a gradient that does not change
    then moves a weight about as far in as many pictures (airbench94's definition).
    """
    if not recipe.decoupled:
        return recipe.learning_rate
    return recipe.learning_rate * recipe.batch_size * recipe.accumulate / 1024 / (1 + 1 / (1 - recipe.momentum))


def _learning_rate(recipe: Recipe, peak: float, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A function of the step, but for `plateau`, which is one of the validation accuracies so far."""
    warmup_steps = round(recipe.warmup * steps)
    if recipe.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            peak * recipe.schedule_start if warmup_steps else peak,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=peak if warmup_steps else None,
            warmup_steps=warmup_steps,
            alpha=recipe.schedule_end,
        )
    if recipe.schedule == "triangular":
        return Triangular(peak, warmup_steps, steps, recipe.schedule_start, recipe.schedule_end)
    return peak
