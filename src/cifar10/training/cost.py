"""The cost of a recipe."""

import keras

from cifar10.architectures.imagenet import BACKBONE
from cifar10.compute.flops import flops, layer_flops
from cifar10.compute.layers import at_resolution
from cifar10.training.options import SIZE
from cifar10.training.recipe import Recipe, TransferRecipe


def recipe_flops(network: keras.Model, recipe: Recipe, images: int) -> float:
    """Return the FLOPs of all epochs on that number of training images; validation is not counted.

    A backward pass counts as two forward passes, of the layers that it goes through: in transfer learning, those of the
    head, and in the second phase also the last `unfreeze` layers of the backbone. The features for the head are one
    forward pass per copy of the images; with `cache_gb`, taken to be enough, the second phase needs no other one
    through the frozen layers.

    Raises:
        InputError: the network cannot be trained at one of the resolutions of the recipe.
    """
    forward = flops(network)
    if not isinstance(recipe, TransferRecipe):
        costs = {side: flops(at_resolution(network, side, layer=_copy)) for side in {*recipe.sides} - {SIZE}}
        return images * 3 * sum(costs.get(side, forward) for side in recipe.sides)
    backbone = network.get_layer(BACKBONE)
    head = forward - flops(backbone)
    cost = images * recipe.copies * (flops(backbone) + recipe.head_epochs * 3 * head)
    if recipe.unfreeze:
        trained = head + sum(map(layer_flops, backbone.layers[-recipe.unfreeze :]))
        cost += images * recipe.epochs * (3 * trained if recipe.cache_gb else forward + 2 * trained)
    return cost


def _copy(layer: keras.Operation) -> keras.Operation:
    return type(layer).from_config(layer.get_config())
