"""Judge each architecture, then gather and compare all of them."""

import logging
from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.evaluation.nodes import (
    compare_pairs,
    draw_confusion,
    explain,
    gatherer,
    judge_seeds,
    measure,
    predict,
    score,
)

PARTS = ["train", "val", "test_examples"]


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Judge each of these architectures, as far as it has been trained, and compare them.

    All that is of one architecture is gathered here, so that what comes after needs to know of no architecture.
    """
    names = list(architectures)
    made = [f"{name}.{artefact}" for name in names for artefact in ("metrics", "costs", "confusion_matrix", "mistakes")]
    predictions = [f"{name}.predictions" for name in names]
    together = Pipeline(
        [
            Node(gatherer(names), ["statistics", *made], ["evaluations", "portraits"], name="gather"),
            Node(compare_pairs, ["statistics", "test_examples", *predictions], "pairs", name="compare_pairs"),
            Node(
                judge_seeds,
                ["evaluations", "models", "val", "test_examples", "params:evaluate_versions"],
                "seeds",
                name="judge_seeds",
            ),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
    return sum((_judge(name) for name in names), together)


def _judge(name: str) -> Pipeline:
    model, predictions, metrics = (f"{name}.{artefact}" for artefact in ("model", "predictions", "metrics"))
    said = logging.getLogger(__name__).info
    return Pipeline(
        [
            Node(
                if_trained(predict, name, log=said),
                [model, "statistics", *PARTS, "params:test_time_augmentation"],
                predictions,
                name="predict",
            ),
            Node(
                if_trained(score, name),
                [predictions, "statistics", *PARTS, "params:class_names"],
                metrics,
                name="score",
            ),
            Node(if_trained(measure, name), [model, "statistics", "test_examples"], f"{name}.costs", name="measure"),
            Node(
                if_trained(draw_confusion, name),
                [metrics, "statistics"],
                f"{name}.confusion_matrix",
                name="draw_confusion",
            ),
            Node(
                if_trained(explain, name),
                [model, "statistics", predictions, "test_examples", "params:class_names"],
                f"{name}.mistakes",
                name="explain",
            ),
        ],
        namespace=f"evaluation.{name}",
        prefix_datasets_with_namespace=False,
    )
