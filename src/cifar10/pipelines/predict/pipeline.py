"""From an image to its predicted class."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.predict.nodes import predict_images


def create_pipeline() -> Pipeline:
    """Classify the user's images with the winner, or another model."""
    node = Node(
        predict_images,
        [
            "models",
            "leaderboard",
            "evaluations",
            "statistics",
            "predictions",
            "params:class_names",
            "params:image",
            "params:architecture",
        ],
        ["prediction", "figure.prediction"],
        name="predict_images",
    )
    return Pipeline([node], namespace="predict", prefix_datasets_with_namespace=False)
