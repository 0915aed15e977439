"""Split the training examples; measure, describe and draw the result."""

from kedro.pipeline import Node, Pipeline

from cifar10 import figures
from cifar10.pipelines.preprocessing.nodes import describe, measure, split


def create_pipeline() -> Pipeline:
    """Create the splits that training and evaluation read, their statistics, the data card and a figure of samples."""
    splits = ["train", "val", "test_examples"]
    return Pipeline(
        [
            Node(
                split,
                ["train_examples", "params:class_names", "params:val_fraction", "params:split_seed"],
                ["train", "val"],
                name="split",
            ),
            Node(measure, splits, "statistics", name="measure"),
            Node(describe, [*splits, "statistics", "params:class_names"], "data_card", name="describe"),
            Node(figures.samples, ["train", "params:class_names"], "figure.samples", name="draw_samples"),
        ],
        namespace="preprocessing",
        prefix_datasets_with_namespace=False,
    )
