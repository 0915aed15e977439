"""Evaluate and compare all trained models, and explain their predictions."""

import itertools
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
    Pair,
    Predictions,
    Statistics,
    TrainedModel,
    verify,
)
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.model import Models
from cifar10.pipelines.evaluation.scoring import score
from cifar10.pipelines.selection import trained_on_current_data

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

SIGNIFICANCE_LEVEL = 0.05  # of p-values corrected for multiple comparisons
THROUGHPUT_BATCH = 128  # images, at most
COLUMNS = 8  # images per row in the figure of mistakes


def evaluator(architectures: list[str]) -> Callable:
    """Return the node function that evaluates the models of these architectures."""

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
        """Evaluate each model that has been trained on the current data, and compare each with each other one.

        Args:
            statistics: of the current data.
            train: the train split.
            val: the val split, on which models are ranked and calibrated.
            test_examples: the test split, which decides nothing.
            class_names: in the order of the labels.
            test_time_augmentation: a key of `VIEWS`, or `none`.
            evaluate_versions: `latest`, or `all` for versions that differ in the seed alone, too.
            models: all versions of all models.
            predictions: where the predictions are stored.
            trained: one model per architecture; None where it has not been trained.

        Raises:
            InputError: there is no such model, or the images have changed since preprocessing.
        """
        verify(statistics.digests, train=train, val=val, test=test_examples)
        chosen = trained_on_current_data(trained, architectures, statistics, "evaluation")

        def evaluate_one(model: TrainedModel) -> Evaluation:
            record, network = model.record, model.load_network()
            logger.info("%s: evaluating version %s", record.architecture, model.version)
            made = predict(network, record.image_size, train, val, test_examples, test_time_augmentation)
            predictions.save(record.architecture, model.version, made)
            return Evaluation(
                version=model.version,
                megabytes=model.megabytes,
                record=record,
                metrics=score(made, train, val, test_examples, class_names, trained_on_val=record.trained_on_val),
                costs=measure_costs(network, record.image_size, test_examples),
            )

        evaluated = sorted(map(evaluate_one, chosen), key=_rank)
        seeds = _other_seeds(models, evaluated) if evaluate_versions == "all" else []
        return Evaluations(
            data_version=statistics.data_version,
            class_names=class_names,
            models=evaluated,
            other_seeds=[evaluate_one(model) for model in seeds],
            pairs=compare_pairs(evaluated, predictions, test_examples),
        )

    return evaluate


def predict(
    network: "keras.Model",
    image_size: int,
    train: Examples,
    val: Examples,
    test_examples: Examples,
    test_time_augmentation: str,
) -> Predictions:
    """Predict all splits; with `test_time_augmentation` (a key of `VIEWS`), averaged over views, too."""
    from cifar10.compute.inference import averaged, infer

    on_train, on_val, on_test = (
        infer(network, split.images, image_size, f"{network.name}, predicting {name} images")
        for name, split in (("train", train), ("val", val), ("test", test_examples))
    )
    predictions = Predictions(on_train, on_val, on_test)
    if test_time_augmentation == "none":
        return predictions
    progress = f"{network.name}, predicting further views"
    return predictions._replace(
        views=test_time_augmentation,
        val_averaged=averaged(network, val.images, on_val, test_time_augmentation, image_size, progress),
        test_averaged=averaged(network, test_examples.images, on_test, test_time_augmentation, image_size, progress),
    )


def measure_costs(network: "keras.Model", image_size: int, test_examples: Examples) -> Costs:
    """Measure what a prediction costs on this machine."""
    from cifar10.compute.batches import inference_batch_size
    from cifar10.compute.device import hardware
    from cifar10.compute.flops import flops
    from cifar10.compute.inference import seconds_per_call

    batch = test_examples.images[: min(THROUGHPUT_BATCH, inference_batch_size(image_size))]
    return Costs(
        flops=flops(network),
        latency_ms=1000 * seconds_per_call(network, batch[:1]),
        throughput=len(batch) / seconds_per_call(network, batch),
        measured_on=hardware(),
    )


def compare_pairs(evaluations: list[Evaluation], predictions: PredictionStore, test_examples: Examples) -> list[Pair]:
    """Compare each model with each other one on the test images, by McNemar's exact test with Holm's correction."""
    correct = {}
    for each in evaluations:
        probabilities = predictions.load(each.architecture, each.version).test
        correct[each.architecture] = probabilities.argmax(axis=1) == test_examples.labels
    pairs = list(itertools.combinations(correct, 2))
    compared = [metrics.compare(correct[first], correct[second]) for first, second in pairs]
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
        for (first, second), each, p_holm in zip(pairs, compared, corrected, strict=True)
    ]


def explain(
    evaluations: Evaluations, models: Models, predictions: PredictionStore, test_examples: Examples
) -> dict[str, Figure]:
    """Draw each model's confusion matrix, and its mistakes with Grad-CAM: two figures per architecture."""
    drawn = {}
    for each in evaluations.models:
        name = each.architecture
        model, test = models.load(name, each.version), predictions.load(name, each.version).test
        drawn[f"{name}_confusion_matrix"] = figures.confusion_matrix(each)
        drawn[f"{name}_mistakes"] = draw_mistakes(model, test, test_examples, evaluations.class_names)
    return drawn


def draw_mistakes(
    model: TrainedModel, probabilities: np.ndarray, test_examples: Examples, class_names: list[str]
) -> Figure:
    """Draw the most confident mistakes, some correct predictions, and the classes that are confused most often.

    Under the images of the first two: Grad-CAM of the predicted class.
    """
    from cifar10.compute.inference import grad_cam

    network, images, truth = model.load_network(), test_examples.images, test_examples.labels
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = predicted != truth
    worst = np.argsort(-confidence * wrong, kind="stable")[: min(COLUMNS, wrong.sum())]
    per_class = [np.flatnonzero(~wrong & (truth == label)) for label in range(len(class_names))]
    correct = np.array([places[0] for places in per_class if len(places)][:COLUMNS], dtype=int)

    rows: dict[str, list[tuple[np.ndarray, np.ndarray | None, str]]] = {}
    headings = ("Most confident mistakes, with Grad-CAM", "Correct predictions, with Grad-CAM")
    for heading, chosen in zip(headings, (worst, correct), strict=True):
        if len(chosen):
            maps = grad_cam(network, images[chosen], predicted[chosen])
            rows[heading] = [
                (images[place], heat, _caption(class_names, truth[place], predicted[place], confidence[place]))
                for place, heat in zip(chosen, maps, strict=True)
            ]
    for true, taken, count in _most_confused(truth, predicted, len(class_names)):
        places = np.flatnonzero((truth == true) & (predicted == taken))
        ordered = places[np.argsort(-confidence[places], kind="stable")][:COLUMNS]
        rows[f"{class_names[true]} predicted as {class_names[taken]}, {count} times"] = [
            (images[place], None, f"{confidence[place]:.0%}") for place in ordered
        ]
    return figures.mistakes(f"{model.record.architecture}, test images", rows, columns=COLUMNS)


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
        return f"{class_names[true]}\n{confidence:.0%}"
    return f"{class_names[true]}, predicted\n{class_names[predicted]}, {confidence:.0%}"


def _rank(evaluation: Evaluation) -> tuple[bool, float, str]:
    """Order by validation accuracy; models without one, which were trained on the val split, come last."""
    accuracy = evaluation.metrics.val_accuracy
    return accuracy is None, -(accuracy or 0.0), evaluation.architecture


def _other_seeds(models: Models, evaluated: list[Evaluation]) -> list[TrainedModel]:
    """Return the versions that differ from an evaluated one in the seed alone, the latest of each seed."""
    others: list[TrainedModel] = []
    for each in evaluated:
        latest = {}
        for version in models.versions(each.architecture):
            model = models.load(each.architecture, version)
            record = model.record
            if (record.recipe_hash, record.data_version) == (each.record.recipe_hash, each.record.data_version):
                latest[record.seed] = model
        latest.pop(each.record.seed, None)
        others += latest.values()
    return others
