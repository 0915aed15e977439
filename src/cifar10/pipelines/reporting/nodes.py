"""Rank the models, and draw the ranking."""

import logging
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.contracts import Statistics
from cifar10.pipelines.comparable import comparable

logger = logging.getLogger(__name__)


def rank(statistics: Statistics, *metrics: dict[str, Any] | None) -> pd.DataFrame:
    """The leaderboard: a row a model, by validation accuracy. Test figures stand beside it and decide nothing.

    A model trained on the validation pictures too stands at the end, without a rank: it cannot be chosen by them.

    Raises:
        InputError: no model has been evaluated on the data at hand.
    """
    table = pd.DataFrame(comparable(metrics, statistics, log=logger.info)).drop(columns=["classes", "confusion"])
    places = pd.Series(table.index + 1, table.index, dtype="Int64")
    table.insert(0, "rank", places.where(table.val_accuracy.notna()))
    return table


def draw_comparison(leaderboard: pd.DataFrame) -> Figure:
    """The leaderboard as a picture: how good, how costly."""
    return figures.comparison(leaderboard)
