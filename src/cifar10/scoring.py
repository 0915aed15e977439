"""From predictions to evaluations: the metrics of a model, the rows that models form, and how the rows differ.

Needs labels and probabilities, and neither images nor networks, so that what is published is evaluated by the same
functions as what has just been trained.
"""

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from cifar10 import metrics
from cifar10.contracts import (
    ClassMetrics,
    Evaluation,
    Evaluations,
    Metrics,
    Pair,
    Predictions,
    Publication,
    Record,
    Row,
    TrainedModel,
)

logger = logging.getLogger(__name__)

SIGNIFICANCE_LEVEL = 0.05  # of p-values corrected for multiple comparisons
DIGITS = 4  # of a hash in the name of a row; more where these do not tell the rows apart

Model = TypeVar("Model", TrainedModel, Evaluation)


def score(
    predictions: Predictions,
    val_labels: np.ndarray,
    test_labels: np.ndarray,
    class_names: list[str],
    *,
    train_accuracy: float,
    train_loss: float,
    trained_on_val: bool,
) -> Metrics:
    """Compute all metrics of a model; those of the train images are given.

    Args:
        predictions: of the model, of which `train` is not used.
        val_labels: integers (n,), of the val split, on which the temperature is fitted.
        test_labels: likewise, of the test split.
        class_names: in the order of the labels.
        train_accuracy: on the images on which the model was trained.
        train_loss: likewise.
        trained_on_val: whether the model was trained on the val split, too, and so has no metrics of it.
    """
    labels, probabilities = test_labels, predictions.test
    accuracy = metrics.accuracy(labels, probabilities)
    interval = metrics.wilson_interval(accuracy, len(labels))
    temperature = None if trained_on_val else metrics.fit_temperature(val_labels, predictions.val)
    calibrated = None if temperature is None else metrics.apply_temperature(probabilities, temperature)
    classes = _score_classes(labels, probabilities, class_names)
    areas = [each["roc_auc"] for each in classes.values() if each["roc_auc"] is not None]
    return Metrics(
        accuracy=accuracy,
        accuracy_low=interval.low,
        accuracy_high=interval.high,
        top2_accuracy=metrics.top2_accuracy(labels, probabilities),
        loss=metrics.log_loss(labels, probabilities),
        brier_score=metrics.brier_score(labels, probabilities),
        calibration_error=metrics.calibration_error(labels, probabilities),
        temperature=temperature,
        calibrated_error=None if calibrated is None else metrics.calibration_error(labels, calibrated),
        calibrated_loss=None if calibrated is None else metrics.log_loss(labels, calibrated),
        roc_auc=float(np.mean(areas)) if areas else None,
        **_average_classes(classes),
        train_accuracy=train_accuracy,
        train_loss=train_loss,
        val_accuracy=None if trained_on_val else metrics.accuracy(val_labels, predictions.val),
        val_loss=None if trained_on_val else metrics.log_loss(val_labels, predictions.val),
        views=predictions.views,
        **_score_views(predictions, val_labels, test_labels, trained_on_val=trained_on_val),
        test_examples=len(labels),
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


def _score_views(
    predictions: Predictions, val_labels: np.ndarray, test_labels: np.ndarray, *, trained_on_val: bool
) -> dict[str, Any]:
    """Return the metrics with test-time augmentation, or None for each without."""
    on_test, on_val = predictions.test_averaged, None if trained_on_val else predictions.val_averaged
    return {
        "averaged_accuracy": None if on_test is None else metrics.accuracy(test_labels, on_test),
        "averaged_loss": None if on_test is None else metrics.log_loss(test_labels, on_test),
        "averaged_val_accuracy": None if on_val is None else metrics.accuracy(val_labels, on_val),
    }


def _confusion(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the counts (classes, classes), true classes in rows."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, probabilities.argmax(axis=1), labels=np.arange(probabilities.shape[1]))


class ModelRow(NamedTuple, Generic[Model]):
    """The models of one row of the leaderboard; the fields are those of `contracts.Row`."""

    name: str
    seeds: list[Model]
    older: list[Model]


def group(models: Iterable[Model]) -> list[ModelRow[Model]]:
    """Return the rows that versions of one architecture form, which are given with the oldest first."""
    groups: dict[tuple, list[Model]] = {}
    for model in models:
        groups.setdefault(model.record.group, []).append(model)
    rows = []
    for name, of_one in zip(_names([each[0].record for each in groups.values()]), groups.values(), strict=True):
        newest = {each.record.seed: each for each in of_one}
        older = [each for each in of_one if each is not newest[each.record.seed]]
        rows.append(ModelRow(name, [newest[seed] for seed in sorted(newest)], older))
    return rows


def _names(records: list[Record]) -> list[str]:
    """Name the rows of one architecture: by it, and by as much of `Record.group` as tells them apart."""
    names = [each.architecture for each in records]
    for part in (
        _prefixes([each.recipe_hash for each in records]),
        [each.compute_dtype for each in records],
        [f"engine{each.engine_version}" for each in records],
        _prefixes([each.fingerprint for each in records]),
    ):
        longer = [f"{name}-{each}" for name, each in zip(names, part, strict=True)]
        if len(set(longer)) > len(set(names)):
            names = longer
    return names


def _prefixes(hashes: list[str]) -> list[str]:
    """Return the first digits of hashes, as many as tell different ones apart."""
    longest = max(map(len, hashes), default=DIGITS)
    digits = next(
        (n for n in range(DIGITS, longest) if len({each[:n] for each in hashes}) == len(set(hashes))), longest
    )
    return [each[:digits] for each in hashes]


def compare(
    rows: list[Row],
    data_version: str,
    class_names: list[str],
    test_labels: np.ndarray,
    on_test: Callable[[Evaluation], np.ndarray],
) -> Evaluations:
    """Order rows, and compare each with each other one by McNemar's exact test with Holm's correction.

    Args:
        rows: in any order.
        data_version: of the data on which all of them were trained and evaluated.
        class_names: in the order of the labels.
        test_labels: integers (n,).
        on_test: returns the probabilities (n, classes) of a model on the test split.
    """
    rows = sorted(rows, key=_rank)
    correct = {row.name: on_test(row.first).argmax(axis=1) == test_labels for row in rows}
    pairs = compare_pairs(correct, list(itertools.combinations(correct, 2)))
    return Evaluations(data_version=data_version, class_names=class_names, rows=rows, pairs=pairs)


def compare_pairs(correct: dict[str, np.ndarray], names: list[tuple[str, str]]) -> list[Pair]:
    """Compare these pairs of models by McNemar's exact test, with Holm's correction for their number.

    Args:
        correct: name -> which images it classifies correctly, bool (n,), the same images in the same order.
        names: the pairs.
    """
    compared = [metrics.compare(correct[first], correct[second]) for first, second in names]
    corrected = metrics.holm([each.p_value for each in compared])
    return [
        Pair(
            first=first,
            second=second,
            first_only=each.first_only,
            second_only=each.second_only,
            difference=each.difference,
            low=each.interval.low,
            high=each.interval.high,
            p_value=each.p_value,
            p_holm=p_holm,
            significant=p_holm < SIGNIFICANCE_LEVEL,
        )
        for (first, second), each, p_holm in zip(names, compared, corrected, strict=True)
    ]


def _rank(row: Row) -> tuple[bool, float, str]:
    """Order by validation accuracy; rows without one, which were trained on the val split, come last."""
    accuracy = row.val_accuracy
    return accuracy is None, -(accuracy or 0.0), row.name


def evaluate_published(publication: Publication) -> Evaluations:
    """Compute from published probabilities what the evaluation of the models computed. Of a seed, the newest counts."""
    labels = publication.labels
    evaluations: dict[str, list[Evaluation]] = {}
    on_test = {}
    for model, predictions in sorted(publication.models, key=lambda each: each[0].version):
        evaluation = Evaluation(
            version=model.version,
            identity=model.identity,
            megabytes=model.megabytes,
            record=model.record,
            metrics=score(
                predictions,
                labels.val,
                labels.test,
                labels.class_names,
                train_accuracy=model.train_accuracy,
                train_loss=model.train_loss,
                trained_on_val=model.record.trained_on_val,
            ),
            costs=model.costs,
            remark=model.remark,
        )
        evaluations.setdefault(model.record.architecture, []).append(evaluation)
        on_test[model.record.architecture, model.version] = predictions.test
    groups = [row for of_one in evaluations.values() for row in group(of_one)]
    for row in groups:
        for each in row.older:
            logger.info("%s: left out: %s (older, of the same recipe and seed)", row.name, each.version)
    return compare(
        [Row(name=row.name, seeds=row.seeds) for row in groups],
        labels.data_version,
        labels.class_names,
        labels.test,
        lambda each: on_test[each.record.architecture, each.version],
    )
