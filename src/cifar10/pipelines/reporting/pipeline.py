"""From the evaluations to the leaderboard, its figures and the report. Knows no architecture."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.reporting import nodes


def create_pipeline() -> Pipeline:
    """Rank what has been evaluated, draw it, and write the report."""
    drawn = [f"figure.{name}" for name in nodes.DRAWN]
    return Pipeline(
        [
            Node(nodes.rank, "evaluations", "leaderboard", name="rank"),
            Node(nodes.list_pairs, "evaluations", "pairs", name="list_pairs"),
            Node(nodes.write_markdown, "leaderboard", "leaderboard_table", name="write_markdown"),
            Node(figures.comparison, "leaderboard", "figure.comparison", name="draw_comparison"),
            Node(figures.trade_offs, "leaderboard", "figure.trade_offs", name="draw_trade_offs"),
            Node(figures.overlaid_curves, "evaluations", "figure.overlaid_curves", name="draw_overlaid_curves"),
            Node(figures.calibration, "evaluations", "figure.calibration", name="draw_calibration"),
            Node(figures.per_class, "evaluations", "figure.per_class", name="draw_per_class"),
            Node(figures.pairwise, "evaluations", "figure.pairs", name="draw_pairs"),
            Node(nodes.draw_robustness, ["robustness", "leaderboard"], "figure.robustness", name="draw_robustness"),
            Node(
                nodes.write_report,
                ["leaderboard", "evaluations", "portraits", "robustness", *drawn],
                "report",
                name="write_report",
            ),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
