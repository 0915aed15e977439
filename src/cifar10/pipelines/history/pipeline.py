"""List every version of every model."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.history.nodes import list_runs


def create_pipeline() -> Pipeline:
    """List and draw every version of every model; in a run that evaluates, afterwards."""
    return Pipeline(
        [
            Node(list_runs, ["models", "all_evaluations", "evaluations"], "runs", name="list_runs"),
            Node(figures.versions, "runs", "figure.runs", name="draw_runs"),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )
