"""List every trained version, with its test accuracy if it has been evaluated, and every architecture."""

import logging
from typing import Any

import pandas as pd

from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.facts import FACTS
from cifar10.comparison import differing_options, latest_evaluations
from cifar10.contracts import Evaluations, Record
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.store import with_urls

logger = logging.getLogger(__name__)

LOGGED = ["architecture", "version", "val_accuracy", "accuracy", "seed", "epochs", "training_seconds", "recipe_hash"]
ACCURACIES = ["val_accuracy", "accuracy", "averaged_accuracy"]


def list_runs(models: Models, all_evaluations: list[Evaluations], evaluations: Evaluations | None) -> pd.DataFrame:
    """Return one row per version of a model, the latest first, and log them.

    Args:
        models: all versions.
        all_evaluations: every version of `evaluations`, the oldest first.
        evaluations: the latest one, which is among them; an input, so that a run that evaluates lists afterwards.

    Raises:
        InputError: nothing has been trained.
    """
    table = list_versions(models, all_evaluations)
    if table.empty:
        raise InputError(
            "Nothing has been trained yet, so there is no history. Train a network, with the same --env and --params, "
            "for example: kedro run --pipelines=train_simple_cnn"
        )
    shown = table[LOGGED].assign(training_seconds=table.training_seconds.round(1))
    shown[ACCURACIES[:2]] = shown[ACCURACIES[:2]].map(lambda value: "-" if pd.isna(value) else f"{value:.2%}")
    logger.info("Trained so far:\n%s", shown.to_string(index=False, na_rep="-"))
    return table


def list_versions(models: Models, all_evaluations: list[Evaluations]) -> pd.DataFrame:
    """Return one row per version of a model, the latest first; without any, a table without rows.

    `val_accuracy` is that of the latest evaluation, as in the leaderboard, else that of the training. `best` marks the
    best one of an architecture, among those of the same data as its latest. `recipe` has the options in which its
    versions differ.
    """
    scores = latest_evaluations(all_evaluations)
    trained = models.all()
    recipes: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys(model.record.architecture for model in trained):
        recipes |= differing_options(
            {(name, each.version): each.record for each in trained if each.record.architecture == name}
        )
    rows = []
    for model in trained:
        record = model.record
        known = scores.get((record.architecture, model.version))
        metrics = known.metrics if known and known.record == record else None
        rows.append(
            {
                "architecture": record.architecture,
                "version": model.version,
                "val_accuracy": metrics.val_accuracy if metrics else record.val_accuracy,
                "accuracy": metrics and metrics.accuracy,
                "averaged_accuracy": metrics and metrics.averaged_accuracy,
                **_training(record),
                "recipe": recipes[record.architecture, model.version],
                "megabytes": round(model.megabytes, 2),
                "commit": record.versions["commit"],
                "hardware": record.hardware,
                "path": with_urls(str(model.path)),
            }
        )
    table = pd.DataFrame(rows, columns=[*rows[0]] if rows else ["architecture", "version", "data_version", *ACCURACIES])
    table = table.astype(dict.fromkeys(ACCURACIES, float)).sort_values("version", ascending=False, ignore_index=True)
    latest_data = table.groupby("architecture").data_version.transform("first")
    comparable = table.val_accuracy.where(table.data_version == latest_data)
    return table.assign(best=comparable == comparable.groupby(table.architecture).transform("max"))


def _training(record: Record) -> dict[str, Any]:
    return {
        "seed": record.seed,
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "training_seconds": record.training_seconds,
        "training_examples": record.training_examples,
        "train_on": record.recipe["train_on"],
        "recipe_hash": record.recipe_hash,
        "fingerprint": record.fingerprint,
        "engine_version": record.engine_version,
        "compute_dtype": record.compute_dtype,
        "data_version": record.data_version[:12],
    }


def list_architectures(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per architecture: facts, the number of trained versions, and the best of them by validation.

    Args:
        runs: one row per version, as `list_versions` returns them.
    """
    rows = []
    for name in dict.fromkeys([*ARCHITECTURES, *runs.architecture]):
        facts = FACTS.get(name)
        trained = runs[runs.architecture == name]
        best: Any = next(trained[trained.best].itertuples(), None)
        rows.append(
            {
                "architecture": name,
                "parameters": facts and facts.parameters,
                "flops": facts and facts.flops,
                "image_size": facts and facts.image_size,
                "versions": len(trained),
                "best_version": best and best.version,
                "val_accuracy": best and best.val_accuracy,
                "accuracy": best and best.accuracy,
                "expected_low": facts and facts.expected[0],
                "expected_high": facts and facts.expected[1],
                "source": facts and facts.source,
            }
        )
    whole = dict.fromkeys(("parameters", "flops", "image_size"), "Int64")
    return pd.DataFrame(rows).astype({**whole, **dict.fromkeys(("val_accuracy", "accuracy"), float)})
