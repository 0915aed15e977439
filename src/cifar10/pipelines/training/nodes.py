"""Train a network, and show how it went and what it is made of."""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.contracts import Examples, Statistics, TrainedModel
from cifar10.training.checkpoint import Checkpoint
from cifar10.training.recipe import RECIPES, Recipe


def trainer(architecture: str) -> Callable:
    """The node function that trains this architecture: a node is told its inputs, but not whose they are."""

    def train(
        train: Examples,
        val: Examples,
        statistics: Statistics,
        recipe: Recipe,
        class_names: list[str],
        checkpoint: Checkpoint,
    ) -> tuple[TrainedModel, pd.DataFrame]:
        """Fit, and keep the epoch that validation chooses. Returns the trained model and a row an epoch."""
        from cifar10.training.fit import fit

        return fit(architecture, train, val, statistics, len(class_names), recipe, checkpoint)

    train.__annotations__["recipe"] = RECIPES[architecture]  # by which Kedro makes one of the parameters
    return train


def list_layers(trained: TrainedModel) -> pd.DataFrame:
    """A row a layer: name, type, output shape without the batch, parameters, and how many of them are trained."""
    return pd.DataFrame(
        {
            "layer": layer.name,
            "type": type(layer).__name__,
            "output_shape": "x".join(str(size) for size in layer.output.shape[1:]),
            "parameters": layer.count_params(),
            "trained": sum(math.prod(weight.shape) for weight in layer.trainable_weights),
        }
        for layer in trained.network.layers
    )


def draw_learning_curves(trained: TrainedModel) -> Figure:
    """Accuracy and loss over the epochs, the kept epoch marked."""
    return figures.learning_curves(trained.record)
