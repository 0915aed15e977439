"""Stochastic gradient descent as airbench94 uses it (Jordan 2024, arXiv 2404.00498), and Muon on top of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

MUON_MOMENTUM = 0.6
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic iteration
NEWTON_SCHULZ_STEPS = 3  # bring all singular values close enough to 1
LOOKAHEAD_DECAY = 0.95


class SGD(keras.optimizers.SGD):
    """Nesterov momentum with decoupled weight decay, a separate learning rate for biases, and optional Lookahead."""

    def __init__(
        self,
        *,
        decay: float,
        decay_biases: bool,
        bias_factor: float,
        lookahead: int | None,
        whitening_steps: int | None,
        steps: int,
        **options: Any,
    ) -> None:
        """Store the options.

        Args:
            decay: each step multiplies the weights by 1 - decay x learning rate.
            decay_biases: whether that includes biases and batch norms.
            bias_factor: learning rate of biases, including those of batch norms, divided by the learning rate.
            lookahead: steps between two returns to the slow average of the weights; None: never.
            whitening_steps: steps over which the learning rate of the bias of a layer named `whitening` falls to 0;
                None: it follows the schedule.
            steps: length of the whole training.
            options: those of `keras.optimizers.SGD`.
        """
        super().__init__(nesterov=True, **options)
        self.decay, self.decay_biases = decay, decay_biases
        self.bias_factor, self.whitening_steps = bias_factor, whitening_steps
        self.lookahead = Lookahead(lookahead, steps) if lookahead else None

    def build(self, variables):
        """Create the state for these variables."""
        super().build(variables)
        if self.lookahead:
            self.lookahead.build(self, variables)

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable."""
        # On TensorFlow, Keras passes the backend's variable, whose name differs from that of the Keras variable.
        known = self._trainable_variables[self._get_variable_index(variable)]
        if self.whitening_steps and known.path.endswith("whitening/bias"):
            done = ops.cast(self.iterations, "float32") / self.whitening_steps
            learning_rate = learning_rate * ops.maximum(1 - done, 0.0)
        if self.decay and (self.decay_biases or known.name not in ("bias", "gamma", "beta")):
            # Keras would decay by the global learning rate, and so shrink variables that no longer learn.
            self.assign(variable, variable * (1 - self.decay * learning_rate))
        self.step(gradient, variable, learning_rate, known)

    def step(self, gradient: Any, variable: Any, learning_rate: Any, known: keras.Variable) -> None:
        """Move one variable along its momentum; `known` is the Keras variable."""
        factor = self.bias_factor if known.name in ("bias", "beta") else 1.0
        super().update_step(gradient, variable, learning_rate * factor)

    def apply(self, grads, trainable_variables=None):
        """Update all variables."""
        super().apply(grads, trainable_variables)
        if self.lookahead:
            self.lookahead.apply(self._trainable_variables, self.iterations)


class Muon(SGD):
    """SGD that updates kernels by Muon where they are matrices (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The momentum of a kernel is a matrix with one column per filter. Plain SGD moves mostly along its largest singular
    vectors. Muon replaces all singular values by 1 and keeps their vectors, so that every direction learns at the same
    speed. The norm of each matrix is kept at the square root of its number of filters.
    """

    def __init__(
        self, *, kernel_factor: float, compute_dtype: str, matrices: Mapping[str, int], **options: Any
    ) -> None:
        """Store the options.

        Args:
            kernel_factor: learning rate of these kernels, divided by the learning rate.
            compute_dtype: `float32` or `bfloat16`, in which the singular values are replaced; approximate either way.
            matrices: path of a kernel -> the number of matrices side by side in it, each of which is updated by itself.
            options: those of `SGD`.
        """
        super().__init__(**options)
        self.kernel_factor, self.compute_dtype, self.matrices = kernel_factor, compute_dtype, matrices

    def build(self, variables):
        """Create the state for these variables; with a momentum of 0 for the others, kernels still have theirs."""
        super().build(variables)
        if not self.momentum:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def step(self, gradient: Any, variable: Any, learning_rate: Any, known: keras.Variable) -> None:
        """Move one variable, by Muon if it is a kernel of matrices; `known` is the Keras variable."""
        if known.path not in self.matrices:
            super().step(gradient, variable, learning_rate, known)
            return
        momentum = self.momentums[self._get_variable_index(variable)]
        self.assign(momentum, MUON_MOMENTUM * momentum + gradient)
        direction = gradient + MUON_MOMENTUM * momentum
        count = self.matrices[known.path]
        parts = zip(ops.split(variable, count, axis=-1), ops.split(direction, count, axis=-1), strict=True)
        moved = [self._move(kernel, part, learning_rate) for kernel, part in parts]
        self.assign(variable, ops.concatenate(moved, axis=-1))

    def _move(self, kernel: Any, direction: Any, learning_rate: Any) -> Any:
        """Return a kernel, (..., filters), after a step in that direction, its norm restored before."""
        matrix = ops.reshape(direction, (-1, kernel.shape[-1]))
        matrix = ops.cast(orthogonalise(matrix, self.compute_dtype), kernel.dtype)
        norm = math.sqrt(kernel.shape[-1])
        scaled = kernel * (norm / ops.norm(ops.reshape(kernel, (-1,))))
        return scaled - learning_rate * self.kernel_factor * ops.reshape(matrix, kernel.shape)


class Lookahead:
    """Return every few steps to a slow average of the weights (Zhang et al. 2019, arXiv 1907.08610).

    As in airbench94, the average follows more slowly towards the end of the training.
    """

    def __init__(self, every: int, steps: int) -> None:
        """Store the number of steps between two returns, and of the whole training."""
        self.every, self.steps = every, steps
        self.slow: list[keras.Variable] = []

    def build(self, optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
        """Add the slow averages to the state of the optimizer."""
        self.slow = [optimizer.add_variable_from_reference(each, "slow", "zeros") for each in variables]
        for slow, variable in zip(self.slow, variables, strict=True):
            slow.assign(ops.copy(variable))  # without the copy, JAX would use one buffer for both

    def apply(self, variables: Sequence[keras.Variable], step: Any) -> None:
        """Update averages and variables, if it is time."""
        done = ops.cast(step, "float32") / self.steps
        decay = LOOKAHEAD_DECAY**self.every * done**3
        now = ops.equal(step % self.every, 0)
        for slow, variable in zip(self.slow, variables, strict=True):
            before, value = ops.convert_to_tensor(slow), ops.convert_to_tensor(variable)
            average = ops.where(now, decay * before + (1 - decay) * value, before)
            variable.assign(ops.where(now, average, value))
            slow.assign(average)


def orthogonalise(matrix: Any, compute_dtype: str) -> Any:
    """Return the matrix, float32 (m, n), with its singular values moved to about 1 (0.7 to 1.2).

    The Newton-Schulz iteration applies an odd polynomial to the singular values without computing them: after division
    by its norm all of them lie between 0 and 1, and each step of x -> a x + b x^3 + c x^5 moves them towards 1.

    Returns:
        The result in `compute_dtype`.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = ops.cast(x / (ops.norm(x) + 1e-7), compute_dtype)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
