"""From metrics to the leaderboard."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.reporting.nodes import draw_comparison, rank


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Rank these architectures, as far as they have been evaluated, and draw the ranking."""
    metrics = [f"{architecture}.metrics" for architecture in architectures]
    return Pipeline(
        [
            Node(rank, ["statistics", *metrics], "leaderboard", name="rank"),
            Node(draw_comparison, "leaderboard", "figure.comparison", name="draw_comparison"),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
