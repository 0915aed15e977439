"""Train a network, and list its layers."""

from collections.abc import Callable
from typing import Any, Literal

import pandas as pd

from cifar10.contracts import Examples, Statistics, TrainedModel
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.recipe import RECIPES


def trainer(architecture: str) -> Callable:
    """Return the node function that trains this architecture: a node gets its inputs, but not their names."""

    def train(
        train: Examples,
        val: Examples,
        statistics: Statistics,
        recipe: dict[str, Any],
        class_names: list[str],
        checkpoints: Checkpoints,
        devices: Literal["one", "all"],
    ) -> tuple[TrainedModel, pd.DataFrame]:
        """Fit, and keep the epoch with the best validation accuracy. Returns the model and one row per epoch."""
        from cifar10.training.fit import fit

        parsed = RECIPES[architecture].model_validate(recipe)
        return fit(architecture, train, val, statistics, class_names, parsed, checkpoints, devices=devices)

    return train


def list_layers(trained: TrainedModel) -> pd.DataFrame:
    """Return one row per layer, with the fields of `LayerSummary`."""
    return pd.DataFrame(trained.record.layers)
