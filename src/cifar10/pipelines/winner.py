"""Which model to ask, or to export."""

from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import TrainedModel
from cifar10.datasets.model import Models
from cifar10.errors import InputError, did_you_mean

WINNER = "winner"


def _winner_or_known(name: str) -> str:
    names = [WINNER, *ARCHITECTURES]
    if name not in names:
        raise ValueError(f"there is no architecture {name}; {did_you_mean(name, names)}")
    return name


WinnerOrKnown = Annotated[str, AfterValidator(_winner_or_known)]  # a parameter's type


def choose(models: Models, leaderboard: pd.DataFrame | None, architecture: str, parameter: str) -> TrainedModel:
    """The winner in the version that the leaderboard names, or the latest version of another architecture.

    Args:
        models: to choose from.
        leaderboard: whose first is the winner.
        architecture: a name, or `winner`.
        parameter: what the user calls the latter, for the message.

    Raises:
        InputError: nobody has won yet, or there is no such model.
    """
    if architecture != WINNER:
        return models.load(architecture)
    ranked = ranked_rows(leaderboard)
    if not ranked:
        raise InputError(
            "There is no leaderboard yet, so no winner. Make one (kedro run --pipelines=evaluation,reporting, with the "
            f"same --env and --params), or name a trained architecture with --params={parameter}=NAME"
        )
    return models.load(ranked[0]["architecture"], str(ranked[0]["model_version"]))


def ranked_rows(leaderboard: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Those of the leaderboard that can win, the winner first."""
    rows: Any = [] if leaderboard is None else leaderboard[leaderboard["rank"].notna()].to_dict("records")
    return rows
