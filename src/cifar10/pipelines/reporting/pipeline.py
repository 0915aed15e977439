"""From metrics to the leaderboard."""

from kedro.pipeline import Node, Pipeline

from cifar10.architectures import ARCHITECTURES
from cifar10.pipelines.reporting.nodes import draw_comparison, rank


def create_pipeline() -> Pipeline:
    """Rank and draw."""
    metrics = [f"{architecture}.metrics" for architecture in ARCHITECTURES]
    return Pipeline(
        [
            Node(rank, ["statistics", *metrics], "leaderboard", name="rank"),
            Node(draw_comparison, "leaderboard", "figure.comparison", name="draw_comparison"),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
