"""Predict, score and draw for each architecture, then sum up."""

import logging
from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.evaluation.nodes import draw_confusion, predict, score, sum_up


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Judge each of these architectures, as far as it has been trained, then sum up."""
    architectures = list(architectures)
    metrics = [f"{architecture}.metrics" for architecture in architectures]
    summary = Node(sum_up, ["statistics", *metrics], None, name="sum_up")
    return sum(
        (_judge(architecture) for architecture in architectures),
        Pipeline([summary], namespace="evaluation", prefix_datasets_with_namespace=False),
    )


def _judge(architecture: str) -> Pipeline:
    predictions, metrics = f"{architecture}.predictions", f"{architecture}.metrics"
    return Pipeline(
        [
            Node(
                if_trained(predict, architecture, log=logging.getLogger(__name__).info),
                [
                    f"{architecture}.model",
                    "statistics",
                    "val",
                    "test_examples",
                    "params:test_time_augmentation",
                ],
                predictions,
                name="predict",
            ),
            Node(
                if_trained(score, architecture),
                [predictions, "statistics", "val", "test_examples", "params:class_names"],
                metrics,
                name="score",
            ),
            Node(
                if_trained(draw_confusion, architecture),
                [metrics, "statistics"],
                f"{architecture}.confusion_matrix",
                name="draw_confusion",
            ),
        ],
        namespace=f"evaluation.{architecture}",
        prefix_datasets_with_namespace=False,
    )
