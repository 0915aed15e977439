"""From a picture to an answer."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.predict.nodes import predict_pictures


def create_pipeline() -> Pipeline:
    """Ask the winner, or another model, about pictures from outside."""
    node = Node(
        predict_pictures,
        ["models", "leaderboard", "params:class_names", "params:image", "params:architecture"],
        ["prediction", "figure.prediction"],
        name="predict_pictures",
    )
    return Pipeline([node], namespace="prediction", prefix_datasets_with_namespace=False)
