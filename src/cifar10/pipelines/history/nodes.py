"""List every trained version, with its test accuracy if it has been evaluated."""

import logging

import pandas as pd

from cifar10.contracts import Evaluations
from cifar10.datasets.model import Models
from cifar10.errors import InputError

logger = logging.getLogger(__name__)

LOGGED = ["architecture", "version", "val_accuracy", "accuracy", "seed", "epochs", "training_seconds", "recipe_hash"]


def list_runs(models: Models, all_evaluations: list[Evaluations], evaluations: Evaluations | None) -> pd.DataFrame:
    """Return one row per version of a model, the latest first.

    Args:
        models: all versions.
        all_evaluations: every version of `evaluations`, the oldest first.
        evaluations: the latest one, which is among them; an input, so that a run that evaluates lists afterwards.

    Raises:
        InputError: nothing has been trained.
    """
    scores = {
        (each.record.architecture, each.version): each
        for past in all_evaluations
        for row in past.rows
        for each in (*row.seeds, *row.older)
    }
    rows = []
    for model in models.all():
        record = model.record
        known = scores.get((record.architecture, model.version))
        metrics = known.metrics if known and known.record == record else None
        rows.append(
            {
                "architecture": record.architecture,
                "version": model.version,
                "val_accuracy": record.val_accuracy,
                "accuracy": metrics and metrics.accuracy,
                "averaged_accuracy": metrics and metrics.averaged_accuracy,
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
                "megabytes": round(model.megabytes, 2),
                "commit": record.versions["commit"],
                "hardware": record.hardware,
            }
        )
    if not rows:
        raise InputError(
            "Nothing has been trained yet, so there is no history. Train a network, with the same --env and --params, "
            "for example: kedro run --pipelines=train_simple_cnn"
        )
    table = pd.DataFrame(rows).sort_values("version", ascending=False, ignore_index=True)
    accuracies = ["val_accuracy", "accuracy", "averaged_accuracy"]
    table[accuracies] = table[accuracies].astype(float)
    logger.info("Trained so far:\n%s", table[LOGGED].round(4).to_string(index=False, na_rep="-"))
    return table
