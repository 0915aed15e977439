"""Predict, score, and picture the confusions of one model; and sum up all of them."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.contracts import Examples, Predictions, Statistics, TrainedModel, verify
from cifar10.pipelines.comparable import comparable

logger = logging.getLogger(__name__)

BATCH_SIZE = 500


def predict(trained: TrainedModel, val: Examples, test_examples: Examples) -> Predictions:
    """The model's probabilities on the validation and the test pictures, which must be those of its data version."""
    from cifar10.training.device import jit_compile

    verify(trained.record["digests"], val=val, test=test_examples)
    trained.network.jit_compile = jit_compile()
    val_probabilities, test_probabilities = (
        trained.network.predict(part.images, batch_size=BATCH_SIZE, verbose=0) for part in (val, test_examples)
    )
    return Predictions(val_probabilities, test_probabilities, trained.record)


def score(predictions: Predictions, val: Examples, test_examples: Examples, class_names: list[str]) -> dict[str, Any]:
    """Test metrics, the validation figures that rank the models, and what the model's record says of it.

    Returns:
        `accuracy`, `precision`, `recall` and `f1` as fractions (the latter three macro-averaged and per class),
        `loss` as cross-entropy in nats a picture, `confusion` as counts, true classes in rows.
    """
    verify(predictions.record["digests"], val=val, test=test_examples)

    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support

    classes = np.arange(len(class_names))
    truth, predicted = test_examples.labels, predictions.test.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0)
    record = predictions.record
    metrics = {
        "architecture": record["architecture"],
        "accuracy": accuracy_score(truth, predicted),
        "loss": log_loss(truth, predictions.test, labels=classes),
        "precision": precision.mean(),
        "recall": recall.mean(),
        "f1": f1.mean(),
        "val_accuracy": accuracy_score(val.labels, predictions.val.argmax(axis=1)),
        "val_loss": log_loss(val.labels, predictions.val, labels=classes),
        "parameters": record["parameters"],
        "training_seconds": record["seconds"],
        "epochs": record["epochs"],
        "best_epoch": record["best_epoch"],
        "seed": record["recipe"]["seed"],
        "model_version": record["version"],
        "data_version": record["data_version"],
        "initialisation": record["initialisation"],
        "image_size": record["image_size"],
        "commit": record["versions"]["commit"],
        "hardware": record["hardware"],
        "precision_policy": record["precision"],
        "test_pictures": len(truth),
        "classes": {
            name: {"precision": p, "recall": r, "f1": f, "support": n}
            for name, p, r, f, n in zip(
                class_names, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True
            )
        },
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
    }
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in metrics.items()}


def draw_confusion(metrics: dict[str, Any]) -> Figure:
    """Which classes are taken for which on test."""
    return figures.confusion_matrix(metrics)


def sum_up(statistics: Statistics, *metrics: dict[str, Any] | None) -> None:
    """Log the models by validation accuracy.

    Raises:
        InputError: there is none.
    """
    columns = ["architecture", "val_accuracy", "accuracy", "loss", "f1", "model_version"]
    table = pd.DataFrame(comparable(metrics, statistics), columns=columns)
    logger.info("Evaluated so far, on these data:\n%s", table.round(4).to_string(index=False))
