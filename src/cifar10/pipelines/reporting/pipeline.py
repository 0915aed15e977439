"""From the evaluations to the leaderboard, its figures and the report."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.reporting import nodes


def create_pipeline() -> Pipeline:
    """Rank what has been evaluated, draw it, and write the report."""
    drawn = [f"figure.{name}" for name in nodes.DRAWN]
    return Pipeline(
        [
            Node(nodes.rank, ["evaluations", "params:class_names"], "leaderboard", name="rank"),
            Node(nodes.list_pairs, "evaluations", "pairs", name="list_pairs"),
            Node(
                nodes.write_markdown,
                [
                    "evaluations",
                    "params:class_names",
                    "params:data_name",
                    "robustness",
                    "params:leaderboard_figures",
                ],
                "leaderboard_table",
                name="write_markdown",
            ),
            *(
                Node(nodes.labelled(draw), source, f"figure.{name}", name=f"draw_{name}")
                for name, draw, source in (
                    ("comparison", figures.comparison, "leaderboard"),
                    ("trade_offs", figures.trade_offs, "leaderboard"),
                    ("overlaid_curves", figures.overlaid_curves, "evaluations"),
                    ("calibration", figures.calibration, "evaluations"),
                    ("per_class", figures.per_class, "evaluations"),
                    ("pairs", figures.pairwise, "evaluations"),
                )
            ),
            Node(nodes.draw_robustness, ["robustness", "evaluations"], "figure.robustness", name="draw_robustness"),
            Node(
                nodes.write_report,
                [
                    "evaluations",
                    "params:class_names",
                    "params:data_name",
                    "params:data_description",
                    "training_commands",
                    "portraits",
                    "robustness",
                    *drawn,
                ],
                "report",
                name="write_report",
            ),
        ],
        namespace="reporting",
        prefix_datasets_with_namespace=False,
    )
