"""Predict, score, time and explain one model; then gather all of them, and compare each with each."""

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures, metrics
from cifar10.contracts import Examples, Predictions, Statistics, TrainedModel, verify
from cifar10.datasets.model import Models
from cifar10.pipelines.comparable import comparable, is_of

logger = logging.getLogger(__name__)

SIGNIFICANT = 0.05  # p-values below, corrected for their number, tell two models apart
PAIRS = ["first", "second", "first_only", "second_only", "difference", "low", "high", "p_value", "p_holm", "told_apart"]
SEEDS = ["architecture", "version", "seed", "recipe_hash", "data_version", "val_accuracy", "accuracy", "loss"]
TIMED_BATCH = 128  # pictures, at most, of which the throughput is measured
EXPLAINED = 8  # pictures a row, in the figure of mistakes


def predict(
    trained: TrainedModel, train: Examples, val: Examples, test_examples: Examples, test_time_augmentation: str
) -> Predictions:
    """The model's probabilities on all three parts, as they are, which must be those of its data version.

    With `test_time_augmentation` (a key of `VIEWS`, or `none`) there are, beside them, those averaged over views.
    """
    from cifar10.compute.inference import averaged, probabilities

    verify(trained.record["digests"], train=train, val=val, test=test_examples)
    network, image_size = trained.network, trained.record["image_size"]
    on_train, on_val, on_test = (
        probabilities(network, part.images, image_size) for part in (train, val, test_examples)
    )
    predictions = Predictions(on_train, on_val, on_test, trained.record)
    if test_time_augmentation == "none":
        return predictions
    val_averaged, test_averaged = (
        averaged(network, part.images, answers, test_time_augmentation, image_size)
        for part, answers in ((val, predictions.val), (test_examples, predictions.test))
    )
    return predictions._replace(views=test_time_augmentation, val_averaged=val_averaged, test_averaged=test_averaged)


def score(
    predictions: Predictions, train: Examples, val: Examples, test_examples: Examples, class_names: list[str]
) -> dict[str, Any]:
    """Test metrics, the validation figures that rank the models, and what the model's record says of it.

    Figures with test-time augmentation stand beside the plain ones, as `averaged_*`, and decide nothing. The
    temperature is fitted on validation. A model that was trained on the validation pictures too has no figures of them.

    Returns:
        `accuracy`, `precision`, `recall` and `f1` as fractions (the latter three macro-averaged, weighted and per
        class), `loss` as cross-entropy in nats a picture, `confusion` as counts, true classes in rows; and more.
    """
    verify(predictions.record["digests"], train=train, val=val, test=test_examples)

    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    truth, test = test_examples.labels, predictions.test
    classes, predicted = np.arange(len(class_names)), predictions.test.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=0)
    areas = [metrics.roc_auc(truth, test, label) for label in range(len(class_names))]
    known_areas = [area for area in areas if area is not None]
    share = support / support.sum()
    accuracy = metrics.accuracy(truth, test)
    interval = metrics.wilson_interval(accuracy, len(truth))
    record = predictions.record
    train_on = record["recipe"].get("train_on", "train")  # older records do not say
    unseen = train_on == "train"  # whether the validation pictures say anything about the model
    temperature = metrics.fit_temperature(val.labels, predictions.val) if unseen else None
    tempered = metrics.tempered(test, temperature) if temperature else None
    metrics = {
        "architecture": record["architecture"],
        "accuracy": accuracy,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "top2_accuracy": metrics.top_k_accuracy(truth, test),
        "loss": metrics.log_loss(truth, test),
        "brier_score": metrics.brier_score(truth, test),
        "calibration_error": metrics.calibration_error(truth, test),
        "temperature": temperature,
        "calibrated_error": metrics.calibration_error(truth, tempered) if tempered is not None else None,
        "calibrated_loss": metrics.log_loss(truth, tempered) if tempered is not None else None,
        "roc_auc": float(np.mean(known_areas)) if known_areas else None,
        **{name: float(values.mean()) for name, values in (("precision", precision), ("recall", recall), ("f1", f1))},
        **{
            f"weighted_{name}": float((values * share).sum())
            for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
        },
        "train_accuracy": metrics.accuracy(train.labels, predictions.train),
        "train_loss": metrics.log_loss(train.labels, predictions.train),
        "train_on": train_on,
        "val_accuracy": metrics.accuracy(val.labels, predictions.val) if unseen else None,
        "val_loss": metrics.log_loss(val.labels, predictions.val) if unseen else None,
        "views": predictions.views,
        **_of_views(predictions, val if unseen else None, test_examples),
        "parameters": record["parameters"],
        "megabytes": record["bytes"] / 1e6 if "bytes" in record else None,
        "training_pictures": record.get("training_pictures"),  # older records do not say
        "training_seconds": record["seconds"],
        "training_joules": record.get("joules"),  # where the machine tells
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
            name: {"precision": p, "recall": r, "f1": f, "support": n, "roc_auc": area}
            for name, p, r, f, n, area in zip(
                class_names, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), areas, strict=True
            )
        },
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
        "reliability": metrics.reliability(truth, test),
        "calibrated_reliability": metrics.reliability(truth, tempered) if tempered is not None else None,
        "history": record["history"],
        "recipe": record["recipe"],
        "versions": record["versions"],
    }
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in metrics.items()}


def _of_views(predictions: Predictions, val: Examples | None, test_examples: Examples) -> dict[str, float | None]:
    """Accuracy and loss with test-time augmentation; None without."""
    test, on_val = predictions.test_averaged, predictions.val_averaged
    return {
        "averaged_accuracy": None if test is None else metrics.accuracy(test_examples.labels, test),
        "averaged_loss": None if test is None else metrics.log_loss(test_examples.labels, test),
        "averaged_val_accuracy": None if on_val is None or val is None else metrics.accuracy(val.labels, on_val),
    }


def measure(trained: TrainedModel, test_examples: Examples) -> dict[str, Any]:
    """What an answer costs on this machine.

    Returns:
        `flops` of one picture, `latency_ms` of one picture, `throughput` in batches, in pictures a second.
    """
    from cifar10.compute.batches import inference_batch_size
    from cifar10.compute.device import hardware
    from cifar10.compute.flops import flops
    from cifar10.compute.inference import seconds_a_call

    batch = test_examples.images[: min(TIMED_BATCH, inference_batch_size(trained.record["image_size"]))]
    return {
        "architecture": trained.record["architecture"],
        "data_version": trained.record["data_version"],
        "model_version": trained.record["version"],
        "flops": flops(trained.network),
        "latency_ms": 1000 * seconds_a_call(trained.network, batch[:1]),
        "throughput": len(batch) / seconds_a_call(trained.network, batch),
        "measured_on": hardware(),
    }


def draw_confusion(metrics: dict[str, Any]) -> Figure:
    """Which classes are taken for which on test."""
    return figures.confusion_matrix(metrics)


def explain(trained: TrainedModel, predictions: Predictions, test_examples: Examples, class_names: list[str]) -> Figure:
    """The most confident mistakes, some pictures it has right, and the classes it confuses most.

    Under the first two, what it looked at for its answer.
    """
    from cifar10.compute.inference import grad_cam

    images, truth = test_examples
    answers, sure = predictions.test.argmax(axis=1), predictions.test.max(axis=1)
    wrong, right = answers != truth, answers == truth
    worst = np.argsort(-sure * wrong, kind="stable")[: min(EXPLAINED, wrong.sum())]
    firsts = [np.flatnonzero(right & (truth == label)) for label in range(len(class_names))]
    good = np.array([places[0] for places in firsts if len(places)][:EXPLAINED], dtype=int)

    rows: dict[str, list] = {}
    headings = ("Most confident mistakes, and where it looked", "Right answers, and where it looked")
    for heading, chosen in zip(headings, (worst, good), strict=True):
        if not len(chosen):
            continue
        maps = grad_cam(trained.network, images[chosen], answers[chosen])
        rows[heading] = [
            (images[place], heat, _caption(class_names, truth[place], answers[place], sure[place]))
            for place, heat in zip(chosen, maps, strict=True)
        ]
    counts = np.zeros((len(class_names),) * 2, dtype=int)
    np.add.at(counts, (truth[wrong], answers[wrong]), 1)
    for pair in np.argsort(-counts, axis=None, kind="stable")[:3]:
        true, taken = np.unravel_index(pair, counts.shape)
        if not counts[true, taken]:
            break
        places = np.flatnonzero((truth == true) & (answers == taken))
        ordered = places[np.argsort(-sure[places], kind="stable")][:EXPLAINED]
        rows[f"{class_names[true]} taken for {class_names[taken]}, {counts[true, taken]} times"] = [
            (images[place], None, f"{sure[place]:.0%}") for place in ordered
        ]
    return figures.mistakes(f"{trained.record['architecture']}, on test", rows, columns=EXPLAINED)


def _caption(class_names: list[str], true: int, answer: int, sure: float) -> str:
    if true == answer:
        return f"{class_names[true]}\n{sure:.0%}"
    return f"{class_names[true]}, taken for\n{class_names[answer]}, {sure:.0%}"


def gatherer(architectures: list[str]) -> Callable:
    """The node function that gathers what there is of each: its metrics, what it costs, and two figures."""

    def gather(statistics: Statistics, *made: Any) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
        """Gather the models of the data at hand, by validation accuracy.

        Returns:
            A row a model, its metrics and costs; and of each the SVG of its `confusion_matrix` and its `mistakes`.

        Raises:
            InputError: there is none.
        """
        of_each = {name: made[4 * place : 4 * place + 4] for place, name in enumerate(architectures)}
        evaluations = comparable([each[0] for each in of_each.values()], statistics)
        portraits = {}
        for each in evaluations:
            _, costs, confusion, mistakes = of_each[each["architecture"]]
            if costs and costs["model_version"] == each["model_version"]:
                each.update(costs)
            portraits[each["architecture"]] = {"confusion_matrix": confusion, "mistakes": mistakes}
        columns = ["architecture", "val_accuracy", "accuracy", "loss", "f1", "model_version"]
        table = pd.DataFrame(evaluations, columns=columns).round(4)
        logger.info("Evaluated so far, on these data:\n%s", table.to_string(index=False))
        return evaluations, portraits

    return gather


def compare_pairs(statistics: Statistics, test_examples: Examples, *predictions: Predictions | None) -> pd.DataFrame:
    """Each model with each on the test pictures, by which of them they have right.

    Returns:
        A row a pair: how many pictures only the one and only the other has right, the difference of their accuracies
        with its 95% interval, the p-value of McNemar's exact test, and that corrected for the number of pairs by Holm.
    """
    right = {
        each.record["architecture"]: each.test.argmax(axis=1) == test_examples.labels
        for each in predictions
        if each is not None and is_of(statistics, each.record)
    }
    pairs = list(itertools.combinations(right, 2))
    found = [metrics.compare(right[first], right[second]) for first, second in pairs]
    corrected = metrics.holm([each.p_value for each in found])
    return pd.DataFrame(
        [
            (
                *pair,
                each.first_only,
                each.second_only,
                each.difference,
                *each.interval,
                each.p_value,
                p,
                p < SIGNIFICANT,
            )
            for pair, each, p in zip(pairs, found, corrected, strict=True)
        ],
        columns=PAIRS,
    )


def judge_seeds(
    evaluations: list[dict[str, Any]], models: Models, val: Examples, test_examples: Examples, evaluate_versions: str
) -> Iterator[pd.DataFrame]:
    """With `evaluate_versions: all`, judge every version that differs from an evaluated model in its seed alone.

    Of two with the same seed the later counts. Models trained on the validation pictures too are among them, without
    figures of those. Yields a row a version, or nothing.
    """
    if evaluate_versions == "latest":
        return
    rows = []
    for each in evaluations:
        name = each["architecture"]
        same = {}
        for version in models.versions(name):
            record = models.record(name, version)
            if (record.get("recipe_hash"), record["data_version"]) == (each["recipe_hash"], each["data_version"]):
                same[record["recipe"]["seed"]] = version
        same[each["seed"]] = each["model_version"]
        for version in same.values():
            rows.append(
                each if version == each["model_version"] else _judge(models.load(name, version), val, test_examples)
            )
            rows[-1] = {**rows[-1], "version": version}
    yield pd.DataFrame(rows, columns=SEEDS)


def _judge(trained: TrainedModel, val: Examples, test_examples: Examples) -> dict[str, Any]:
    from cifar10.compute.inference import probabilities

    record = trained.record
    logger.info("%s: judging version %s, seed %d", record["architecture"], record["version"], record["recipe"]["seed"])
    on_val, on_test = (
        probabilities(trained.network, part.images, record["image_size"]) for part in (val, test_examples)
    )
    unseen = record["recipe"].get("train_on", "train") == "train"
    return {
        "architecture": record["architecture"],
        "seed": record["recipe"]["seed"],
        "recipe_hash": record["recipe_hash"],
        "data_version": record["data_version"],
        "val_accuracy": metrics.accuracy(val.labels, on_val) if unseen else None,
        "accuracy": metrics.accuracy(test_examples.labels, on_test),
        "loss": metrics.log_loss(test_examples.labels, on_test),
    }
