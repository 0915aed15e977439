"""The cost of a recipe."""

from collections.abc import Callable

import keras

from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.flops import layer_flops, layer_values
from cifar10.compute.layers import at_resolution, walk_layers
from cifar10.training.options import SIZE
from cifar10.training.recipe import Recipe, TransferRecipe

# Of one core in a second, roughly, with AVX-512. Networks of many small layers spend more time on writing values than
# on computing them.
FLOPS_PER_CORE = {"float32": 1e11, "bfloat16": 2e11}
VALUES_PER_CORE = 1.2e9


def recipe_seconds(network: keras.Model, recipe: Recipe, images: int, compute_dtype: str, cores: int) -> float:
    """Return roughly how long all epochs on that number of training images take on a CPU.

    Raises:
        InputError: as `recipe_flops`.
    """

    def seconds(layer: keras.Layer) -> float:
        return layer_flops(layer) / FLOPS_PER_CORE[compute_dtype] + layer_values(layer) / VALUES_PER_CORE

    return _recipe_cost(network, recipe, images, seconds) / cores


def step_flops(network: keras.Model, recipe: Recipe) -> float:
    """Return the FLOPs per image of a training step at full resolution; in transfer learning, of the second phase."""
    return _step_cost(network, recipe, layer_flops)


def recipe_flops(network: keras.Model, recipe: Recipe, images: int) -> float:
    """Return the FLOPs of all epochs on that number of training images; validation is not counted.

    Raises:
        InputError: the network cannot be trained at one of the resolutions of the recipe.
    """
    return _recipe_cost(network, recipe, images, layer_flops)


def _recipe_cost(network: keras.Model, recipe: Recipe, images: int, cost: Callable[[keras.Layer], float]) -> float:
    """Return the sum of what all passes through all layers cost, from the cost of a forward pass of one image.

    A backward pass counts as two forward passes, of the layers that it goes through: in transfer learning, those of the
    head, and in the second phase also the last `unfreeze` layers of the backbone. The features for the head are one
    forward pass per copy of the images.
    """
    step = _step_cost(network, recipe, cost)
    if not isinstance(recipe, TransferRecipe):
        reduced = {side: at_resolution(network, side, layer=_copy) for side in {*recipe.sides} - {SIZE}}
        costs = {SIZE: step, **{side: _step_cost(each, recipe, cost) for side, each in reduced.items()}}
        return images * sum(costs[side] for side in recipe.sides)
    frozen = _total(network.get_layer(BACKBONE), cost)
    head = _total(network, cost) - frozen
    second = recipe.epochs * step if recipe.unfreeze else 0.0
    return images * (recipe.copies * (frozen + recipe.head_epochs * 3 * head) + second)


def _step_cost(network: keras.Model, recipe: Recipe, cost: Callable[[keras.Layer], float]) -> float:
    """Return what a training step costs per image; with `cache_gb`, taken to be enough, without the frozen layers."""
    forward = _total(network, cost)
    if not isinstance(recipe, TransferRecipe):
        return 3 * forward
    backbone = network.get_layer(BACKBONE)
    unfrozen = backbone.layers[-recipe.unfreeze :] if recipe.unfreeze else []
    trained = forward - _total(backbone, cost) + sum(map(cost, unfrozen))
    return 3 * trained if recipe.cache_gb else forward + 2 * trained


def _total(network: keras.Model, cost: Callable[[keras.Layer], float]) -> float:
    return sum(map(cost, walk_layers(network)))


def _copy(layer: keras.Operation) -> keras.Operation:
    return type(layer).from_config(layer.get_config())
