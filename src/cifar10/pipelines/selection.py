"""Which models a pipeline uses: those trained on the current data, or the best of them."""

import logging
from collections.abc import Iterable
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Statistics, TrainedModel
from cifar10.datasets.model import Models
from cifar10.errors import InputError, did_you_mean

logger = logging.getLogger(__name__)

WINNER = "winner"


def trained_on_current_data(
    models: Iterable[TrainedModel | None], architectures: Iterable[str], statistics: Statistics, pipeline: str
) -> list[TrainedModel]:
    """Return the models that were trained on the current data, and log which ones are left out.

    Args:
        models: one per architecture; None where it has not been trained.
        architectures: in the same order.
        statistics: of the current data.
        pipeline: that asks, for the message.

    Raises:
        InputError: there is no such model.
    """
    found, untrained = [], []
    for name, model in zip(architectures, models, strict=True):
        if model is None:
            untrained.append(name)
        elif model.record.data_version != statistics.data_version:
            logger.info(
                "%s: left out, because it was trained on data %s, and the current data are %s",
                name,
                model.record.data_version[:12],
                statistics.data_version[:12],
            )
        else:
            found.append(model)
    if not found:
        raise InputError(
            "No model has been trained on the current data. Train one, with the same --env and --params, for example: "
            f"kedro run --pipelines=train_simple_cnn,{pipeline}"
        )
    if untrained:
        logger.info("Left out, because not trained yet (kedro run --pipelines=train_NAME): %s", ", ".join(untrained))
    return found


def _winner_or_known(name: str) -> str:
    names = [WINNER, *ARCHITECTURES]
    if name not in names:
        raise ValueError(f"there is no architecture {name}; {did_you_mean(name, names)}")
    return name


WinnerOrKnown = Annotated[str, AfterValidator(_winner_or_known)]  # the type of a parameter


def choose(models: Models, leaderboard: pd.DataFrame | None, architecture: str, parameter: str) -> TrainedModel:
    """Return the winner in the version that the leaderboard names, or the latest version of another architecture.

    Args:
        models: to choose from.
        leaderboard: its first row is the winner.
        architecture: a name, or `winner`.
        parameter: the name under which the user sets it, for the message.

    Raises:
        InputError: there is no leaderboard, or no such model.
    """
    if architecture != WINNER:
        return models.load(architecture)
    ranked = ranked_rows(leaderboard)
    if not ranked:
        raise InputError(
            "There is no leaderboard yet, and so no winner. Create one (kedro run --pipelines=evaluation,reporting, "
            f"with the same --env and --params), or name a trained architecture with --params={parameter}=NAME"
        )
    return models.load(ranked[0]["architecture"], str(ranked[0]["model_version"]))


def ranked_rows(leaderboard: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of the leaderboard that have a rank, the winner first."""
    rows: Any = [] if leaderboard is None else leaderboard[leaderboard["rank"].notna()].to_dict("records")
    return rows
