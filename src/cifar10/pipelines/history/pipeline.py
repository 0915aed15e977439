"""List every version of every model, and every architecture."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.history.nodes import list_architectures, list_runs


def create_pipeline() -> Pipeline:
    """List and draw every version of every model, and list the architectures; in a run that evaluates, afterwards."""
    return Pipeline(
        [
            Node(list_runs, ["models", "all_evaluations", "evaluations"], "runs", name="list_runs"),
            Node(list_architectures, "runs", "architectures", name="list_architectures"),
            Node(figures.versions, "runs", "figure.runs", name="draw_runs"),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )
