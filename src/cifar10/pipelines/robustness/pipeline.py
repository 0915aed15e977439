"""Each trained model on corrupted pictures."""

import logging
from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.robustness.nodes import gather_robustness, judge_corrupted


def create_pipeline(architectures: Iterable[str]) -> Pipeline:
    """Judge each of these architectures, as far as it has been trained."""
    names = list(architectures)
    made = [f"{name}.{artefact}" for name in names for artefact in ("corrupted", "metrics")]
    together = Pipeline(
        [Node(gather_robustness, ["statistics", *made], "robustness", name="gather")],
        namespace="robustness",
        prefix_datasets_with_namespace=False,
    )
    return sum((_judge(name) for name in names), together)


def _judge(name: str) -> Pipeline:
    node = Node(
        if_trained(judge_corrupted, name, log=logging.getLogger(__name__).info),
        [f"{name}.model", "statistics", "test_examples", "params:robustness"],
        f"{name}.corrupted",
        name="judge_corrupted",
    )
    return Pipeline([node], namespace=f"robustness.{name}", prefix_datasets_with_namespace=False)
