"""What a recipe costs to compute."""

import keras

from cifar10.compute.flops import flops
from cifar10.training.recipe import Recipe, TransferRecipe


def recipe_flops(network: keras.Model, recipe: Recipe, pictures: int) -> float:
    """Operations of all epochs on so many pictures, a backward pass counted as two forward passes.

    In a transfer, the first phase is a forward pass for each copy; the second goes backward only as far as it trains,
    but is counted as if that were all the way.
    """
    forward = flops(network) * pictures
    if not isinstance(recipe, TransferRecipe):
        return 3 * forward * recipe.epochs
    return forward * (recipe.feature_copies + (3 * recipe.epochs if recipe.unfreeze else 0))
