"""The template by which every architecture is tuned. The test images are no input of it."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.tuning.nodes import choose, confirmer, searcher


def create_pipeline(architecture: str) -> Pipeline:
    """Tune one architecture."""
    trials, confirmed = f"{architecture}.trials", f"{architecture}.confirmed"
    shared = [
        "train",
        "val",
        "statistics",
        f"params:{architecture}",
        "params:tuning",
        "params:class_names",
        f"{architecture}.study",
    ]
    return Pipeline(
        [
            Node(searcher(architecture), shared, trials, name="search"),
            Node(confirmer(architecture), [trials, *shared], confirmed, name="confirm"),
            Node(choose, [trials, confirmed, f"params:{architecture}"], f"{architecture}.tuned", name="choose"),
            *(
                Node(draw, trials, f"{architecture}.tuning_{name}", name=f"draw_{name}")
                for name, draw in (
                    ("history", figures.tuning_history),
                    ("importance", figures.tuning_importance),
                    ("slices", figures.tuning_slices),
                )
            ),
        ],
        namespace=f"tuning.{architecture}",
        prefix_datasets_with_namespace=False,
    )
