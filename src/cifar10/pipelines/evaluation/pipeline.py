"""Every architecture of the table, as far as it has been trained."""

import logging

from kedro.pipeline import Node, Pipeline

from cifar10.architectures import ARCHITECTURES
from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.evaluation.nodes import draw_confusion, predict, score, sum_up


def create_pipeline() -> Pipeline:
    """Judge each architecture, then sum up."""
    metrics = [f"{architecture}.metrics" for architecture in ARCHITECTURES]
    summary = Node(sum_up, ["statistics", *metrics], None, name="sum_up")
    return sum(
        (_judge(architecture) for architecture in ARCHITECTURES),
        Pipeline([summary], namespace="evaluation", prefix_datasets_with_namespace=False),
    )


def _judge(architecture: str) -> Pipeline:
    predictions = f"{architecture}.predictions"
    return Pipeline(
        [
            Node(
                if_trained(predict, architecture, log=logging.getLogger(__name__).info),
                [f"{architecture}.model", "statistics", "val", "test_examples"],
                predictions,
                name="predict",
            ),
            Node(
                if_trained(score, architecture),
                [predictions, "statistics", "val", "test_examples", "params:class_names"],
                f"{architecture}.metrics",
                name="score",
            ),
            Node(
                if_trained(draw_confusion, architecture),
                [predictions, "statistics", "test_examples", "params:class_names"],
                f"{architecture}.confusion_matrix",
                name="draw_confusion",
            ),
        ],
        namespace=f"evaluation.{architecture}",
        prefix_datasets_with_namespace=False,
    )
