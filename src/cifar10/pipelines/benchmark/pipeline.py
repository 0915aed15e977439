"""Measure networks, and draw the result."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.benchmark.nodes import benchmarker


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Measure those of these architectures that the parameters name."""
    architectures = list(architectures)
    return Pipeline(
        [
            Node(
                benchmarker(architectures),
                ["params:benchmark", *(f"params:{architecture}" for architecture in architectures)],
                "benchmark",
                name="measure",
            ),
            Node(figures.benchmark, "benchmark", "figure.benchmark", name="draw"),
        ],
        namespace="benchmark",
        prefix_datasets_with_namespace=False,
    )
