"""Split, measure, describe, look."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.preprocessing.nodes import describe, draw_samples, measure, split


def create_pipeline() -> Pipeline:
    """From examples to the parts that training and evaluation read."""
    parts = ["train", "val", "test_examples"]
    return Pipeline(
        [
            Node(
                split,
                ["train_examples", "params:val_fraction", "params:split_seed"],
                ["train", "val"],
                name="split",
            ),
            Node(measure, parts, "statistics", name="measure"),
            Node(describe, [*parts, "statistics", "params:class_names"], "data_card", name="describe"),
            Node(draw_samples, ["train", "params:class_names"], "figure.samples", name="draw_samples"),
        ],
        namespace="preprocessing",
        prefix_datasets_with_namespace=False,
    )
