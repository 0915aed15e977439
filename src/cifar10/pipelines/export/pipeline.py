"""From a trained model to what servers and devices run."""

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.export import nodes


def create_pipeline() -> Pipeline:
    """Convert a model, see that every format answers as it does, describe it, and put all of it in one folder."""
    return Pipeline(
        [
            Node(
                nodes.choose_for_export,
                ["models", "leaderboard", "evaluations", "params:export"],
                ["exported.model", "exported.metrics"],
                name="choose",
            ),
            Node(nodes.convert_model, ["exported.model", "train"], "exported.formats", name="convert"),
            Node(
                nodes.compare_formats,
                ["exported.model", "exported.formats", "val", "params:export"],
                ["export", "exported.answers"],
                name="compare_formats",
            ),
            Node(
                nodes.describe_model,
                [
                    "exported.model",
                    "exported.metrics",
                    "export",
                    "exported.answers",
                    "params:class_names",
                    "params:data_description",
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
