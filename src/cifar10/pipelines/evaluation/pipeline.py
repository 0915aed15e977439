"""Evaluate all trained models together."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.evaluation.nodes import evaluator, explain


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Evaluate all architectures that have been trained.

    Args:
        architectures: those whose models are inputs, one by one, so that a run that trains some of them evaluates them
            afterwards, and that `--load-versions` can choose their versions. What comes after knows no architecture.
    """
    names = list(architectures)
    return Pipeline(
        [
            Node(
                evaluator(names),
                [
                    "statistics",
                    "train",
                    "val",
                    "test_examples",
                    "params:class_names",
                    "params:test_time_augmentation",
                    "params:evaluate_versions",
                    "models",
                    "predictions",
                    *(f"{name}.model" for name in names),
                ],
                "evaluations",
                name="evaluate",
            ),
            Node(explain, ["evaluations", "models", "predictions", "test_examples"], "portraits", name="explain"),
        ],
        namespace="evaluation",
        prefix_datasets_with_namespace=False,
    )
