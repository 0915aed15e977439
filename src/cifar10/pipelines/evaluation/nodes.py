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

# The views of test-time augmentation: pixels that a picture is moved by, down and to the right, and the weight of that.
# Each is shown mirrored too. The second has those of airbench94 (Jordan 2024, arXiv 2404.00498), which averages logits.
VIEWS = {"flip": ((0, 1.0),), "flip_and_shift": ((0, 0.5), (-1, 0.25), (1, 0.25))}


def predict(trained: TrainedModel, val: Examples, test_examples: Examples, test_time_augmentation: str) -> Predictions:
    """The model's probabilities on the validation and the test pictures, which must be those of its data version.

    With `test_time_augmentation` (a key of `VIEWS`, or `none`) there are, beside them, those averaged over views.
    """
    from cifar10.training.device import jit_compile

    verify(trained.record["digests"], val=val, test=test_examples)
    trained.network.compile(jit_compile=jit_compile())
    val_plain, test_plain = (_probabilities(trained, part.images) for part in (val, test_examples))
    if test_time_augmentation == "none":
        return Predictions(val_plain, test_plain, trained.record)
    val_averaged, test_averaged = (
        _averaged(trained, part.images, plain, test_time_augmentation)
        for part, plain in ((val, val_plain), (test_examples, test_plain))
    )
    return Predictions(val_plain, test_plain, trained.record, test_time_augmentation, val_averaged, test_averaged)


def _averaged(trained: TrainedModel, images: np.ndarray, plain: np.ndarray, views: str) -> np.ndarray:
    """Probabilities from the mean logits of the views of a picture, with a mirrored border; `plain` is the first."""
    total = np.zeros_like(plain)
    for shift, weight in VIEWS[views]:
        margin = abs(shift)
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
        start = slice(margin - shift, margin - shift + images.shape[1])
        view = padded[:, start, start]
        straight = _probabilities(trained, view) if shift else plain
        total += weight / 2 * (_logarithm(straight) + _logarithm(_probabilities(trained, view[:, :, ::-1])))
    averaged = np.exp(total)
    return averaged / averaged.sum(axis=1, keepdims=True)


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    """Of each, but for one that is 0: of the least float32."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def _probabilities(trained: TrainedModel, images: np.ndarray) -> np.ndarray:
    from cifar10.training.batches import batches, inference_batch_size

    given = batches(images, batch_size=inference_batch_size(trained.record["image_size"]))
    return trained.network.predict(given, verbose=0)


def score(predictions: Predictions, val: Examples, test_examples: Examples, class_names: list[str]) -> dict[str, Any]:
    """Test metrics, the validation figures that rank the models, and what the model's record says of it.

    Figures with test-time augmentation stand beside the plain ones, as `averaged_*`, and decide nothing. A model that
    was trained on the validation pictures too has no figures of them.

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
    train_on = record["recipe"].get("train_on", "train")  # older records do not say
    unseen = train_on == "train"  # whether the validation pictures say anything about the model
    metrics = {
        "architecture": record["architecture"],
        "accuracy": accuracy_score(truth, predicted),
        "loss": log_loss(truth, predictions.test, labels=classes),
        "precision": precision.mean(),
        "recall": recall.mean(),
        "f1": f1.mean(),
        "train_on": train_on,
        "val_accuracy": _accuracy(val.labels, predictions.val) if unseen else None,
        "val_loss": log_loss(val.labels, predictions.val, labels=classes) if unseen else None,
        "views": predictions.views,
        "averaged_accuracy": _accuracy(truth, predictions.test_averaged),
        "averaged_val_accuracy": _accuracy(val.labels, predictions.val_averaged) if unseen else None,
        "parameters": record["parameters"],
        "training_pictures": record.get("training_pictures"),  # older records do not say
        "training_seconds": record["seconds"],
        "epochs": record["epochs"],
        "best_epoch": record["best_epoch"],
        "seed": record["recipe"]["seed"],
        "recipe_hash": record.get("recipe_hash"),
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


def _accuracy(labels: np.ndarray, probabilities: np.ndarray | None) -> float | None:
    return None if probabilities is None else float((probabilities.argmax(axis=1) == labels).mean())


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
