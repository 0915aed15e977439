"""The cost of a recipe."""

import keras

from cifar10.compute.flops import flops
from cifar10.training.recipe import Recipe, TransferRecipe


def recipe_flops(network: keras.Model, recipe: Recipe, images: int) -> float:
    """Return the FLOPs of all epochs on that number of images; a backward pass counts as two forward passes.

    In transfer learning, the first phase is one forward pass per copy; the second goes backward only as far as it
    trains, but is counted as if it went all the way.
    """
    forward = flops(network) * images
    if not isinstance(recipe, TransferRecipe):
        return 3 * forward * recipe.epochs
    return forward * (recipe.feature_copies + (3 * recipe.epochs if recipe.unfreeze else 0))
