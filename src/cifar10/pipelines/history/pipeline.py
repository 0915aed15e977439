"""From the folder of all models to one table and one figure."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.history.nodes import draw_runs, list_runs


def create_pipeline() -> Pipeline:
    """List every version of every model; in a run with `evaluation`, after it, for that makes the seeds."""
    return Pipeline(
        [
            Node(list_runs, ["models", "every_metrics", "seeds"], "runs", name="list_runs"),
            Node(draw_runs, "runs", "figure.runs", name="draw_runs"),
        ],
        namespace="history",
        prefix_datasets_with_namespace=False,
    )
