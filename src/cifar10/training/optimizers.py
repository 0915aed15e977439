"""Optimizers by name. Imports no Keras, so that recipes can be checked without it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cifar10.training.options import Options
from cifar10.training.schedules import SCHEDULES

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Plan:
    """What an optimizer is made from.

    Attributes:
        recipe: with all options.
        batches: the number of batches per epoch.
        compute_dtype: `float32` or `bfloat16`, for computations that need not be exact. The state is float32.
        matrices: kernels of the network that are matrices, as `compute.layers.matrices` returns them.
    """

    recipe: Options
    batches: int
    compute_dtype: str
    matrices: Mapping[str, int]

    @property
    def steps(self) -> int:
        """The number of training steps; Keras also counts those that only accumulate gradients."""
        return self.recipe.epochs * self.batches

    @property
    def weight_decay(self) -> float:
        """The fraction of a weight that a step removes, divided by the learning rate of that step."""
        recipe = self.recipe
        if not recipe.decoupled:
            return recipe.weight_decay
        return recipe.weight_decay * recipe.batch_size * recipe.accumulate / 1024 / recipe.peak_learning_rate

    @property
    def common_options(self) -> dict[str, Any]:
        """The arguments that every Keras optimizer takes."""
        recipe = self.recipe
        return {
            "learning_rate": SCHEDULES[recipe.schedule].make(recipe, self.steps),
            "global_clipnorm": recipe.gradient_clip,
            "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
        }


class Optimizer(NamedTuple):
    """A row of the table.

    Attributes:
        make: from the plan to the optimizer.
        options: the recipe options that it uses; the recipe refuses them for other optimizers.
    """

    make: "Callable[[Plan], keras.optimizers.Optimizer]"
    options: frozenset[str] = frozenset()


def make_optimizer(
    recipe: Options, examples: int, compute_dtype: str = "float32", matrices: Mapping[str, int] | None = None
) -> "keras.optimizers.Optimizer":
    """Make the optimizer of a recipe, with its schedule for epochs of that number of examples; see `Plan`.

    Weight decay is decoupled from the gradient (Loshchilov and Hutter 2017, arXiv 1711.05101) and skips biases and
    batch norms, which it would not regularise (He et al. 2018, arXiv 1812.01187), unless
    the recipe sets `decay_biases`.
    """
    plan = Plan(recipe, math.ceil(examples / recipe.batch_size), compute_dtype, matrices or {})
    return OPTIMIZERS[recipe.optimizer].make(plan)


def _sgd(plan: Plan) -> "keras.optimizers.Optimizer":
    from cifar10.training.sgd import SGD

    return SGD(**_sgd_options(plan))


def _muon(plan: Plan) -> "keras.optimizers.Optimizer":
    from cifar10.training.sgd import Muon

    factor = plan.recipe.muon_learning_rate / plan.recipe.peak_learning_rate
    return Muon(kernel_factor=factor, compute_dtype=plan.compute_dtype, matrices=plan.matrices, **_sgd_options(plan))


def _sgd_options(plan: Plan) -> dict[str, Any]:
    recipe = plan.recipe
    # Whitening steps are steps that change weights, whereas the schedule also counts those that only accumulate.
    whitening_steps = recipe.whitening_epochs and max(1, recipe.whitening_epochs * plan.batches // recipe.accumulate)
    return {
        "momentum": recipe.momentum,
        "decay": plan.weight_decay,
        "decay_biases": recipe.decay_biases,
        "bias_factor": recipe.bias_learning_rate,
        "lookahead": recipe.lookahead,
        "whitening_steps": whitening_steps,
        "steps": plan.steps,
        **plan.common_options,
    }


def _adam(plan: Plan) -> "keras.optimizers.Optimizer":
    import keras

    from cifar10.compute.device import uses_fast_layers
    from cifar10.training.accelerate import FusedAdam

    adam = FusedAdam if uses_fast_layers() else keras.optimizers.Adam
    optimizer = adam(weight_decay=plan.weight_decay or None, **plan.common_options)
    if plan.weight_decay and not plan.recipe.decay_biases:
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


SGD_OPTIONS = frozenset(
    {"momentum", "weight_decay", "decay_biases", "decoupled", "bias_learning_rate", "lookahead", "whitening_epochs"}
)
OPTIMIZERS = {
    "sgd": Optimizer(_sgd, SGD_OPTIONS),
    "muon": Optimizer(_muon, SGD_OPTIONS | {"muon_learning_rate"}),
    "adam": Optimizer(_adam),
    "adamw": Optimizer(_adam, frozenset({"weight_decay", "decay_biases"})),
}
