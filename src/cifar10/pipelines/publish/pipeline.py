"""Publish the models of the latest evaluation."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.publish.nodes import publish


def create_pipeline() -> Pipeline:
    """Publish them; in a run that evaluates, afterwards."""
    inputs = ["evaluations", "predictions", "val", "test_examples", "robustness", "params:publish"]
    return Pipeline(
        [Node(publish, inputs, "published", name="publish")],
        namespace="publish",
        prefix_datasets_with_namespace=False,
    )
