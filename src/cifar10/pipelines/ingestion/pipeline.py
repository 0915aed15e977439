"""One pipeline per raw format. Both have the same outputs."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.ingestion.nodes import read_batches, read_csv

EXAMPLES = ["train_examples", "test_examples"]


def create_pipeline() -> Pipeline:
    """Read the batches."""
    return _ingestion(Node(read_batches, ["batches", "params:class_names"], EXAMPLES, name="read_batches"))


def create_csv_pipeline() -> Pipeline:
    """Read the CSV pair."""
    return _ingestion(Node(read_csv, ["train_csv", "test_csv", "params:class_names"], EXAMPLES, name="read_csv"))


def _ingestion(node: Node) -> Pipeline:
    """Put a node into the namespace of this stage."""
    return Pipeline([node], namespace="ingestion", prefix_datasets_with_namespace=False)
