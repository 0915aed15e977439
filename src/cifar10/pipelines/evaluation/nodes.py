"""Evaluate and compare all trained models, and explain their predictions."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from cifar10 import figures, metrics
from cifar10.contracts import (
    Costs,
    Evaluation,
    Evaluations,
    Examples,
    Predictions,
    Record,
    Row,
    Statistics,
    TrainedModel,
    verify,
)
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.pipelines.selection import current_rows
from cifar10.scoring import compare, score
from cifar10.training.subset import training_images

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

THROUGHPUT_BATCH = 128  # images, at most
EXAMPLES = 8  # images of each kind of mistake in the figure


def evaluator(architectures: list[str]) -> Callable:
    """Return the node function that evaluates all models, after those of these architectures have been trained."""

    def evaluate(
        statistics: Statistics,
        train: Examples,
        val: Examples,
        test_examples: Examples,
        class_names: list[str],
        test_time_augmentation: str,
        evaluate_versions: str,
        models: Models,
        predictions: PredictionStore,
        *trained: TrainedModel | None,
    ) -> Evaluations:
        """Evaluate the models that were trained on the current data, and compare each row with each other one.

        Predictions are saved model by model and used again, so that an evaluation that was killed resumes.

        Args:
            statistics: of the current data.
            train: the train split.
            val: the val split, on which models are ranked and calibrated.
            test_examples: the test split, which decides nothing.
            class_names: in the order of the labels.
            test_time_augmentation: a key of `VIEWS`, or `none`.
            evaluate_versions: `recipes` for the newest version of each recipe and seed, or `all`.
            models: all versions of all models.
            predictions: where the predictions are stored.
            trained: one model per architecture; None where it has not been trained.

        Raises:
            InputError: there is no such model, or the images have changed since preprocessing.
        """
        verify(statistics.digests, train=train, val=val, test=test_examples)
        older = evaluate_versions == "all"
        chosen = current_rows(trained, architectures, models, statistics, class_names, "evaluation", older=older)

        costs: dict[str, Costs] = {}  # of each network, measured once: they do not depend on its weights

        def evaluate_one(model: TrainedModel) -> Evaluation:
            record, network = model.record, model.load_network()
            seen = seen_in_training(record, train, val)
            made = predict(model, network, seen, val, test_examples, test_time_augmentation, predictions)
            if record.fingerprint not in costs:
                costs[record.fingerprint] = measure_costs(network, record.image_size, test_examples)
            return Evaluation(
                version=model.version,
                identity=model.identity,
                megabytes=model.megabytes,
                record=record,
                metrics=score(
                    made,
                    val.labels,
                    test_examples.labels,
                    class_names,
                    train_accuracy=metrics.accuracy(seen.labels, made.train),
                    train_loss=metrics.log_loss(seen.labels, made.train),
                    trained_on_val=record.trained_on_val,
                ),
                costs=costs[record.fingerprint],
            )

        rows = [
            Row(name=row.name, seeds=list(map(evaluate_one, row.seeds)), older=list(map(evaluate_one, row.older)))
            for row in chosen
        ]
        return compare(
            rows,
            statistics.data_version,
            class_names,
            test_examples.labels,
            lambda each: predictions.load(each).test,
        )

    return evaluate


def seen_in_training(record: Record, train: Examples, val: Examples) -> Examples:
    """Return the images on which a model was trained.

    Raises:
        InputError: they cannot be told any more, because this version of the project selects others.
    """
    recipe = record.recipe
    seen, _ = training_images(
        record.architecture, train, val, train_on=recipe["train_on"], examples=recipe["examples"], seed=record.seed
    )
    if seen.digest != record.training_digest:
        raise InputError(
            f"{record.architecture}, seed {record.seed}: the images on which it was trained are not those that its "
            "recipe selects now, so its train accuracy cannot be computed. Train it again, or move this version away."
        )
    return seen


def predict(
    model: TrainedModel,
    network: "keras.Model",
    seen: Examples,
    val: Examples,
    test_examples: Examples,
    test_time_augmentation: str,
    store: PredictionStore,
) -> Predictions:
    """Return the predictions of a model: those that are stored, and otherwise new ones, which are then stored.

    Args:
        model: whose predictions they are.
        network: of the model.
        seen: the images on which it was trained.
        val: the val split.
        test_examples: the test split.
        test_time_augmentation: a key of `VIEWS`, to average over views, too; or `none`.
        store: of the predictions of all models.
    """
    from cifar10.compute.inference import averaged, infer

    name, size, views = model.record.architecture, model.record.image_size, test_time_augmentation
    predictions = store.find(model)
    reused = ["predictions"] if predictions else []
    if predictions is None:
        logger.info("%s: predicting with version %s", name, model.version)
        on_seen, on_val, on_test = (
            infer(network, split.images, size, f"{name}, predicting {kind} images")
            for kind, split in (("train", seen), ("val", val), ("test", test_examples))
        )
        predictions = Predictions(model.identity, on_seen, on_val, on_test)
        store.save(model, predictions)
    if views != "none" and predictions.views == views:
        reused.append(f"views ({views})")
    elif views != "none":
        logger.info("%s: predicting further views with version %s", name, model.version)
        progress = f"{name}, predicting further views"
        predictions = predictions._replace(
            views=views,
            val_averaged=averaged(network, val.images, predictions.val, views, size, progress),
            test_averaged=averaged(network, test_examples.images, predictions.test, views, size, progress),
        )
        store.save(model, predictions)
    if reused:
        logger.info("%s: reusing the %s of version %s", name, " and ".join(reused), model.version)
    return predictions if views != "none" else predictions._replace(views="none", val_averaged=None, test_averaged=None)


def measure_costs(network: "keras.Model", image_size: int, test_examples: Examples) -> Costs:
    """Measure what a prediction costs on this machine; the latency over repeated predictions, with its spread."""
    from cifar10.compute.batches import inference_batch_size
    from cifar10.compute.device import hardware
    from cifar10.compute.flops import flops
    from cifar10.compute.inference import seconds_per_call

    batch = test_examples.images[: min(THROUGHPUT_BATCH, inference_batch_size(image_size))]
    low, median, high = np.percentile(1000 * seconds_per_call(network, batch[:1]), (5, 50, 95)).tolist()
    return Costs(
        flops=flops(network),
        latency_ms=median,
        latency_low_ms=low,
        latency_high_ms=high,
        throughput=len(batch) / float(np.median(seconds_per_call(network, batch))),
        measured_on=hardware(),
    )


def explain(
    evaluations: Evaluations, models: Models, predictions: PredictionStore, test_examples: Examples
) -> dict[str, Figure]:
    """Draw confusion matrix, learning curves, and mistakes with Grad-CAM: three figures per row.

    Each figure is labelled with the identity of its model, so that the report can tell which model it shows.
    """
    from cifar10.compute.live import live

    drawn: dict[str, Figure] = {}
    with live("drawing the figures of each model", len(evaluations.rows)) as show:
        for number, row in enumerate(evaluations.rows, start=1):
            verify(
                row.first.record.digests,
                since="the latest evaluation",
                remedy="Evaluate again: kedro run --pipelines=evaluation",
                test=test_examples,
            )
            model = models.load(row.architecture, row.first.version)
            mistakes = draw_mistakes(row.title, model, predictions.load(model).test, test_examples)
            mistakes.set_label(model.identity)
            drawn |= {**figures.portraits(row), f"{row.name}_mistakes": mistakes}
            show(number, row.name)
    return drawn


def draw_mistakes(title: str, model: TrainedModel, probabilities: np.ndarray, test_examples: Examples) -> Figure:
    """Draw the most confident mistakes, a correct prediction of each class, and the classes confused most often.

    Beside the images of the first two: Grad-CAM of the predicted class.
    """
    from cifar10.compute.inference import grad_cam

    network, images, truth = model.load_network(), test_examples.images, test_examples.labels
    class_names = model.record.class_names
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = predicted != truth
    worst = np.argsort(-confidence * wrong, kind="stable")[: min(EXAMPLES, wrong.sum())]
    per_class = [np.flatnonzero(~wrong & (truth == label)) for label in range(len(class_names))]
    correct = np.array([places[0] for places in per_class if len(places)], dtype=int)

    sections: dict[str, list[tuple[np.ndarray, np.ndarray | None, str]]] = {}
    headings = ("Most confident mistakes, with Grad-CAM", "A correct prediction of each class, with Grad-CAM")
    for heading, chosen in zip(headings, (worst, correct), strict=True):
        if len(chosen):
            maps = grad_cam(network, images[chosen], predicted[chosen])
            sections[heading] = [
                (images[place], heat, _caption(class_names, truth[place], predicted[place], confidence[place]))
                for place, heat in zip(chosen, maps, strict=True)
            ]
    for true, taken, count in _most_confused(truth, predicted, len(class_names)):
        places = np.flatnonzero((truth == true) & (predicted == taken))
        ordered = places[np.argsort(-confidence[places], kind="stable")][:EXAMPLES]
        sections[f"{class_names[true]} predicted as {class_names[taken]}, {count} times"] = [
            (images[place], None, f"{confidence[place]:.0%}") for place in ordered
        ]
    return figures.mistakes(f"{title}, test images", sections)


def _most_confused(truth: np.ndarray, predicted: np.ndarray, classes: int) -> list[tuple[int, int, int]]:
    """Return the three most frequent mistakes, fewer if there are fewer: true class, predicted class, count."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (truth, predicted), 1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:3]
    pairs = (np.unravel_index(place, counts.shape) for place in order)
    return [(int(true), int(taken), int(counts[true, taken])) for true, taken in pairs if counts[true, taken]]


def _caption(class_names: list[str], true: int, predicted: int, confidence: float) -> str:
    if true == predicted:
        return f"{class_names[true]} {confidence:.0%}"
    return f"{class_names[true]} as\n{class_names[predicted]} {confidence:.0%}"
