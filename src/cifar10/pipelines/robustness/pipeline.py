"""Evaluate all trained models on corrupted images."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.robustness.nodes import robustness_evaluator


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Evaluate all architectures that have been trained; the models of these are inputs, one by one."""
    names = list(architectures)
    node = Node(
        robustness_evaluator(names),
        [
            "statistics",
            "test_examples",
            "cifar10_c",
            "params:class_names",
            "params:robustness",
            "earlier_robustness",
            "models",
            *(f"{name}.model" for name in names),
        ],
        "robustness",
        name="evaluate_corrupted",
    )
    return Pipeline([node], namespace="robustness", prefix_datasets_with_namespace=False)
