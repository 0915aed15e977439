"""List all that has been trained, and what became of it."""

import logging
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.datasets.model import Models
from cifar10.errors import InputError

logger = logging.getLogger(__name__)

COLUMNS = [
    "architecture", "version", "val_accuracy", "accuracy", "averaged_accuracy", "seed", "epochs", "best_epoch",
    "training_seconds", "training_pictures", "train_on", "precision", "recipe_hash", "data_version", "megabytes",
    "commit", "hardware",
]  # fmt: skip


def list_runs(models: Models, every_metrics: list[dict[str, Any]], seeds: pd.DataFrame | None) -> pd.DataFrame:
    """A row a version of a model, the newest first: how it was trained, and its test figures if it was evaluated.

    Versions that were judged beside another one, for a mean over seeds, have no metrics of their own: `seeds` has their
    test accuracy.

    Raises:
        InputError: nothing has been trained.
    """
    of_seeds = [] if seeds is None else seeds.to_dict("records")
    judged: dict[tuple[str, str], dict[Any, Any]] = {
        **{(each["architecture"], each["version"]): each for each in of_seeds},
        **{(each["architecture"], each["model_version"]): each for each in every_metrics},  # the later ones win
    }
    rows = []
    for name in models.names():
        for version in models.versions(name):
            record = models.record(name, version)
            metrics = judged.get((name, version), {})
            rows.append(
                {
                    **{column: record.get(column) for column in COLUMNS},
                    "accuracy": metrics.get("accuracy"),
                    "averaged_accuracy": metrics.get("averaged_accuracy"),
                    "seed": record["recipe"]["seed"],
                    "train_on": record["recipe"].get("train_on", "train"),
                    "training_seconds": record["seconds"],
                    "data_version": record["data_version"][:12],
                    "megabytes": round(record["bytes"] / 1e6, 2),
                    "commit": record["versions"]["commit"],
                }
            )
    if not rows:
        raise InputError(
            "Nothing has been trained yet, so there is no history. Train something, with the same --env and --params, "
            "for example: kedro run --pipelines=train_simple_cnn"
        )
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values("version", ascending=False, ignore_index=True)
    table[["val_accuracy", "accuracy", "averaged_accuracy"]] = table[
        ["val_accuracy", "accuracy", "averaged_accuracy"]
    ].astype(float)
    said = ["architecture", "version", "val_accuracy", "accuracy", "seed", "epochs", "training_seconds", "recipe_hash"]
    logger.info("Trained so far:\n%s", table[said].round(4).to_string(index=False, na_rep="-"))
    return table


def draw_runs(runs: pd.DataFrame) -> Figure:
    """Accuracy over versions."""
    return figures.versions(runs)
