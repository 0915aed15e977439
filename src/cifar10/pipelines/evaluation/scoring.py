"""The metrics of one model, from its predictions."""

from typing import Any

import numpy as np

from cifar10 import metrics
from cifar10.contracts import ClassMetrics, Examples, Metrics, Predictions


def score(
    predictions: Predictions,
    train: Examples,
    val: Examples,
    test: Examples,
    class_names: list[str],
    *,
    trained_on_val: bool,
) -> Metrics:
    """Compute all metrics of a model.

    Args:
        predictions: of the model.
        train: the images on which it was trained.
        val: the val split, on which the temperature is fitted.
        test: the test split.
        class_names: in the order of the labels.
        trained_on_val: whether the model was trained on the val split, too, and so has no metrics of it.
    """
    labels, probabilities = test.labels, predictions.test
    accuracy = metrics.accuracy(labels, probabilities)
    interval = metrics.wilson_interval(accuracy, len(test))
    temperature = None if trained_on_val else metrics.fit_temperature(val.labels, predictions.val)
    calibrated = None if temperature is None else metrics.apply_temperature(probabilities, temperature)
    classes = _score_classes(labels, probabilities, class_names)
    areas = [each["roc_auc"] for each in classes.values() if each["roc_auc"] is not None]
    return Metrics(
        accuracy=accuracy,
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        top2_accuracy=metrics.top_k_accuracy(labels, probabilities),
        loss=metrics.log_loss(labels, probabilities),
        brier_score=metrics.brier_score(labels, probabilities),
        calibration_error=metrics.calibration_error(labels, probabilities),
        temperature=temperature,
        calibrated_error=None if calibrated is None else metrics.calibration_error(labels, calibrated),
        calibrated_loss=None if calibrated is None else metrics.log_loss(labels, calibrated),
        roc_auc=float(np.mean(areas)) if areas else None,
        **_average_classes(classes),
        train_accuracy=metrics.accuracy(train.labels, predictions.train),
        train_loss=metrics.log_loss(train.labels, predictions.train),
        val_accuracy=None if trained_on_val else metrics.accuracy(val.labels, predictions.val),
        val_loss=None if trained_on_val else metrics.log_loss(val.labels, predictions.val),
        views=predictions.views,
        **_score_views(predictions, val, test, trained_on_val=trained_on_val),
        test_examples=len(test),
        classes=classes,
        confusion=_confusion(labels, probabilities).tolist(),
        reliability=metrics.reliability(labels, probabilities),
        calibrated_reliability=None if calibrated is None else metrics.reliability(labels, calibrated),
    )


def _score_classes(labels: np.ndarray, probabilities: np.ndarray, class_names: list[str]) -> dict[str, ClassMetrics]:
    from sklearn.metrics import precision_recall_fscore_support

    every = np.arange(len(class_names))
    scores = precision_recall_fscore_support(labels, probabilities.argmax(axis=1), labels=every, zero_division=0)
    return {
        name: ClassMetrics(
            precision=precision,
            recall=recall,
            f1=f1,
            support=support,
            roc_auc=metrics.roc_auc(labels, probabilities, at),
        )
        for at, (name, precision, recall, f1, support) in enumerate(
            zip(class_names, *(values.tolist() for values in scores), strict=True)
        )
    }


def _average_classes(classes: dict[str, ClassMetrics]) -> dict[str, float]:
    """Return precision, recall and F1, averaged over the classes with equal weights and weighted by support."""
    names = ("precision", "recall", "f1")
    values = {name: np.array([each[name] for each in classes.values()]) for name in names}  # type: ignore[literal-required]
    support = np.array([each["support"] for each in classes.values()])
    share = support / support.sum()
    return {
        **{name: float(values[name].mean()) for name in names},
        **{f"weighted_{name}": float((values[name] * share).sum()) for name in names},
    }


def _score_views(predictions: Predictions, val: Examples, test: Examples, *, trained_on_val: bool) -> dict[str, Any]:
    """Return the metrics with test-time augmentation, or None for each without."""
    on_test, on_val = predictions.test_averaged, None if trained_on_val else predictions.val_averaged
    return {
        "averaged_accuracy": None if on_test is None else metrics.accuracy(test.labels, on_test),
        "averaged_loss": None if on_test is None else metrics.log_loss(test.labels, on_test),
        "averaged_val_accuracy": None if on_val is None else metrics.accuracy(val.labels, on_val),
    }


def _confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the counts (classes, classes), true classes in rows."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1]))
