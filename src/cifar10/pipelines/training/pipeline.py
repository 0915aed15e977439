"""The template by which every architecture is trained."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.training.nodes import list_layers, trainer


def create_pipeline(architecture: str) -> Pipeline:
    """Train one architecture."""
    model = f"{architecture}.model"
    return Pipeline(
        [
            Node(
                trainer(architecture),
                [
                    "train",
                    "val",
                    "statistics",
                    f"params:{architecture}",
                    "params:class_names",
                    f"{architecture}.checkpoint",
                    "params:devices",
                ],
                [model, f"{architecture}.history"],
                name="train",
            ),
            Node(list_layers, model, f"{architecture}.layers", name="list_layers"),
            Node(figures.learning_curves, model, f"{architecture}.learning_curves", name="draw_learning_curves"),
        ],
        namespace=f"training.{architecture}",
        prefix_datasets_with_namespace=False,
    )
