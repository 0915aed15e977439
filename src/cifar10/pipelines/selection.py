"""Which models a pipeline uses: those trained on the current data, row by row, or the best of them."""

import logging
from collections.abc import Iterable
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Statistics, TrainedModel, check_class_names
from cifar10.datasets.model import Models
from cifar10.errors import InputError, did_you_mean
from cifar10.scoring import ModelRow, group

logger = logging.getLogger(__name__)

WINNER = "winner"
MANY = 3  # versions, or networks, that a log line names one by one
OTHER_DATA, OTHER_NAMES, OLDER, UNASKED = (  # reasons to leave a version out
    "trained on other data",
    "trained with other class names than class_names",
    "older, of the same recipe and seed",
    "not asked for",
)


def current_rows(
    trained: Iterable[TrainedModel | None],
    architectures: Iterable[str],
    models: Models,
    statistics: Statistics,
    class_names: list[str],
    pipeline: str,
    *,
    older: bool = False,
) -> list[ModelRow[TrainedModel]]:
    """Return the models that were trained on the current data, and log which versions are left out, and why.

    Args:
        trained: one model per architecture in `architectures`; None where it has not been trained. It counts as the
            newest version, because it is that of this run, if the run trains. One that was asked for with
            `--load-versions` is the only version that is taken of its architecture.
        architectures: those that the run may train, or choose a version of; in the same order.
        models: all versions of all models; those of other architectures are returned, too.
        statistics: of the current data.
        class_names: the current ones.
        pipeline: that asks, for the message.
        older: whether to return all versions of a seed, and not the newest alone.

    Raises:
        InputError: there is no such model.
    """
    rows: list[ModelRow[TrainedModel]] = []
    untrained: list[str] = []
    renamed: list[TrainedModel] = []
    newest = dict(zip(architectures, trained, strict=True))
    for name in ARCHITECTURES:
        if name not in newest and models.versions(name):
            newest[name] = models.load(name, models.versions(name)[-1])
    for name, model in newest.items():
        if model is None:
            untrained.append(name)
            continue
        others = [version for version in models.versions(name) if version != model.version]
        current: list[TrainedModel] = []
        left_out: dict[str, list[str]] = {OTHER_DATA: [], OTHER_NAMES: [], OLDER: [], UNASKED: []}
        if model.pinned:
            left_out[UNASKED], others = others, []
        for each in (*(models.load(name, version) for version in others), model):
            if each.record.data_version != statistics.data_version:
                left_out[OTHER_DATA].append(each.version)
            elif each.record.class_names != class_names:
                left_out[OTHER_NAMES].append(each.version)
                renamed.append(each)
            else:
                current.append(each)
        of_one = group(current)
        if not older:
            left_out[OLDER] = [each.version for row in of_one for each in row.older]
            of_one = [row._replace(older=[]) for row in of_one]
        rows += of_one
        _log_versions(name, of_one, left_out, pinned=model.pinned)
    if untrained:
        names = (
            ", ".join(untrained) if len(untrained) <= MANY else f"{len(untrained)} networks (kedro models lists all)"
        )
        logger.info("Not trained yet: %s", names)
    if removed := [name for name in models.names() if name not in ARCHITECTURES]:
        logger.info("Left out: %s (no longer an architecture of this project)", ", ".join(removed))
    if rows:
        return rows
    for model in renamed:
        check_class_names(
            f"{model.record.architecture}, version {model.version},", model.record.class_names, class_names
        )
    raise InputError(
        "No model has been trained on the current data. Train one, with the same --env and --params, for example: "
        f"kedro run --pipelines=train_simple_cnn,{pipeline}"
    )


def _log_versions(
    name: str, rows: list[ModelRow[TrainedModel]], left_out: dict[str, list[str]], *, pinned: bool
) -> None:
    """Log which versions of an architecture are taken, and which are left out, and why."""
    taken = [f"{each.version} (seed {each.record.seed})" for row in rows for each in (*row.seeds, *row.older)]
    line = f"version{'s' * (len(taken) > 1)} {', '.join(taken)}" if taken else "no version"
    if pinned:
        line += ", as --load-versions asks"
    for reason, versions in left_out.items():
        if len(versions) > MANY:
            versions = [f"{len(versions)} versions from {versions[0]} to {versions[-1]}"]
        if versions:
            line += f"; left out: {', '.join(versions)} ({reason})"
    logger.info("%s: %s", name, line)


def _winner_or_known(chosen: str) -> str:
    names = [WINNER, *ARCHITECTURES]
    name, _, version = chosen.partition(":")
    architecture = name.partition("-")[0]  # `choose` looks for the row
    if architecture not in names:
        raise ValueError(f"there is no architecture {architecture}; {did_you_mean(architecture, names)}")
    if version and name not in ARCHITECTURES:
        raise ValueError(f"give the version {version} with the name of its architecture")
    if architecture == WINNER != name:
        raise ValueError(f"there is no row {name}; did you mean {WINNER}?")
    return chosen


WinnerOrKnown = Annotated[str, AfterValidator(_winner_or_known)]  # a parameter: `winner`, NAME, NAME:VERSION, or a row


def choose(
    models: Models,
    leaderboard: pd.DataFrame | None,
    statistics: Statistics | None,
    class_names: list[str],
    architecture: str,
    parameter: str,
) -> TrainedModel:
    """Return the version that is named, or the best one of the leaderboard, of any architecture or of that one.

    A row is represented by the model of its lowest seed. An architecture that has no rank on the current data is taken
    in its newest version.

    Args:
        models: to choose from.
        leaderboard: the best row first.
        statistics: of the current data; None if there are none.
        class_names: the current ones.
        architecture: a name, a name and a version as in NAME:VERSION, a row of the leaderboard, or `winner`.
        parameter: the name under which the user sets it, for the message.

    Raises:
        InputError: there is no such row or model, its version has been deleted, or its class names are others.
    """
    name, _, version = architecture.partition(":")
    rows = ranked_rows(leaderboard)
    current = [row for row in rows if statistics is None or row["data_version"] == statistics.data_version]
    row = next((row for row in current if name in (WINNER, row["architecture"])), None)
    is_row = name not in (WINNER, *ARCHITECTURES)
    if is_row:
        model, why = _load(models, _named_row(name, leaderboard, statistics)), "as the leaderboard has it"
    elif version:
        model, why = models.load(name, version), f"named by --params={parameter}"
    elif row:
        model, why = _load(models, row), f"rank {row['rank']} of the leaderboard"
    elif name != WINNER:
        model, why = models.load(name), "the newest version, because none has a rank"
    else:
        problem = "There is no leaderboard yet"
        if leaderboard is not None:
            problem = (
                "The leaderboard is of other data than the current ones" if rows else "The leaderboard ranks no model"
            )
        raise InputError(
            f"{problem}, and so there is no winner. Create one (kedro run --pipelines=evaluation,reporting, "
            f"with the same --env and --params), or name a trained architecture with --params={parameter}=NAME"
        )
    check_class_names(f"{model.record.architecture}, version {model.version},", model.record.class_names, class_names)
    logger.info("Using %s, version %s: %s", model.record.architecture, model.version, why)
    if leaderboard is not None and not version and not is_row:
        data_version = statistics.data_version if statistics else model.record.data_version
        if missing := _missing(models, leaderboard, data_version, class_names, name):
            logger.info(
                "Not on the leaderboard yet: %s (kedro run --pipelines=evaluation,reporting, "
                "with the same --env and --params)",
                ", ".join(missing),
            )
    return model


def _named_row(name: str, leaderboard: pd.DataFrame | None, statistics: Statistics | None) -> dict[str, Any]:
    """Return the row of the leaderboard with this name, whether it has a rank or not."""
    if leaderboard is None:
        raise InputError(
            f"There is no leaderboard yet, and so no row {name}. Create one: kedro run "
            "--pipelines=evaluation,reporting (with the same --env and --params)"
        )
    rows: Any = leaderboard.to_dict("records")
    named = {row["name"]: row for row in rows}
    if name not in named:
        raise InputError(f"There is no row {name} in the leaderboard; {did_you_mean(name, named)}")
    if statistics and named[name]["data_version"] != statistics.data_version:
        raise InputError(
            f"The row {name} is of other data than the current ones. Rank the models of these: kedro run "
            "--pipelines=evaluation,reporting (with the same --env and --params)"
        )
    return named[name]


def _missing(
    models: Models, leaderboard: pd.DataFrame, data_version: str, class_names: list[str], name: str
) -> list[str]:
    """Return the versions, of all architectures or of the named one, that the leaderboard lacks.

    These are, of each recipe and seed, the versions after the one that it has. Versions of other data or class names do
    not count, nor those of an architecture that has been removed, because evaluation leaves them out.
    """
    current = [
        model
        for each in (models.names() if name == WINNER else [name])
        if each in ARCHITECTURES
        for version in models.versions(each)
        if (model := models.load(each, version)).record.data_version == data_version
        and model.record.class_names == class_names
    ]
    listed = {version for versions in leaderboard.seed_versions for version in versions.split()}
    ranked = {(each.record.group, each.record.seed): each.version for each in current if each.version in listed}
    return [
        f"{each.record.architecture}:{each.version}"
        for each in current
        if each.version > ranked.get((each.record.group, each.record.seed), "")
    ]


def _load(models: Models, row: dict[str, Any]) -> TrainedModel:
    """Load the model of a row of the leaderboard, unless it is not there any more, or is another one."""
    name, version = row["architecture"], row["model_version"]
    model = models.load(name, version) if version in models.versions(name) else None
    if model is None or model.identity != row["identity"]:
        raise InputError(
            f"The leaderboard has {name} in version {version}, which has been "
            f"{'deleted' if model is None else 'replaced or damaged'}. Rank the models that are there: "
            "kedro run --pipelines=evaluation,reporting (with the same --env and --params)"
        )
    return model


def ranked_rows(leaderboard: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the rows of the leaderboard that have a rank, the winner first."""
    rows: Any = [] if leaderboard is None else leaderboard[leaderboard["rank"].notna()].to_dict("records")
    return rows
