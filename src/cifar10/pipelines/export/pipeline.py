"""From a trained model to the formats that servers and devices run."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.export import nodes


def create_pipeline() -> Pipeline:
    """Convert a model, check that every format gives the same predictions, describe it, and pack it into one folder."""
    return Pipeline(
        [
            Node(
                nodes.choose_for_export,
                [
                    "models",
                    "leaderboard",
                    "evaluations",
                    "predictions",
                    "statistics",
                    "params:class_names",
                    "params:export",
                ],
                ["exported.model", "exported.evaluation", "exported.probabilities"],
                name="choose",
            ),
            Node(nodes.convert_model, ["exported.model", "train"], "exported.formats", name="convert"),
            Node(
                nodes.compare_formats,
                ["exported.model", "exported.formats", "val", "params:export"],
                "export",
                name="compare_formats",
            ),
            Node(
                nodes.describe_model,
                [
                    "exported.model",
                    "exported.evaluation",
                    "export",
                    "exported.probabilities",
                    "params:data_description",
                    "params:hub_dataset",
                ],
                ["model_card", "model_card_text"],
                name="describe",
            ),
            Node(
                nodes.pack,
                ["exported.model", "exported.formats", "export", "model_card", "model_card_text", "val"],
                "serving",
                name="pack",
            ),
        ],
        namespace="export",
        prefix_datasets_with_namespace=False,
    )
