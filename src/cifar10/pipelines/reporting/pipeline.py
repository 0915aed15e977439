"""From the evaluations to the leaderboard, its figures and the report. Knows of no architecture."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.reporting import nodes

FIGURES = ["comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "robustness"]


def create_pipeline() -> Pipeline:
    """Rank what has been evaluated, draw it, and write the report."""
    drawn = [f"figure.{name}" for name in FIGURES]
    return Pipeline(
        [
            Node(nodes.rank, ["evaluations", "pairs", "seeds"], "leaderboard", name="rank"),
            Node(nodes.write_markdown, "leaderboard", "leaderboard_table", name="write_markdown"),
            Node(nodes.draw_comparison, "leaderboard", "figure.comparison", name="draw_comparison"),
            Node(nodes.draw_trade_offs, "leaderboard", "figure.trade_offs", name="draw_trade_offs"),
            Node(nodes.draw_overlaid_curves, "evaluations", "figure.overlaid_curves", name="draw_overlaid_curves"),
            Node(nodes.draw_calibration, "evaluations", "figure.calibration", name="draw_calibration"),
            Node(nodes.draw_per_class, "evaluations", "figure.per_class", name="draw_per_class"),
            Node(nodes.draw_pairs, ["leaderboard", "pairs"], "figure.pairs", name="draw_pairs"),
            Node(nodes.draw_robustness, ["robustness", "leaderboard"], "figure.robustness", name="draw_robustness"),
            Node(
                nodes.write_report,
                ["leaderboard", "evaluations", "pairs", "portraits", "robustness", *drawn],
                "report",
                name="write_report",
            ),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
