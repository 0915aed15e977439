"""Judge a model on corrupted test pictures; then gather all."""

import logging
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.errors import InputError
from cifar10.metrics import accuracy
from cifar10.pipelines.comparable import is_of
from cifar10.pipelines.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt

logger = logging.getLogger(__name__)

COLUMNS = ["architecture", "model_version", "corruption", "severity", "accuracy", "clean_accuracy", "pictures"]


class Robustness(BaseModel):
    """On what to judge. The values live in `conf/base/parameters.yml`, which explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    examples: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def judge_corrupted(trained: TrainedModel, test_examples: Examples, robustness: dict[str, Any]) -> pd.DataFrame:
    """Accuracy on the same test pictures under each corruption and severity, and as they are.

    The pictures are drawn at random, by `seed`, which draws the corruptions, too: the same for every model.
    """
    from cifar10.compute.inference import probabilities

    options = Robustness.model_validate(robustness)
    record = trained.record
    verify(record["digests"], test=test_examples)
    count = min(options.examples, len(test_examples.labels))
    chosen = np.sort(np.random.default_rng(options.seed).permutation(len(test_examples.labels))[:count])
    images, labels = test_examples.images[chosen], test_examples.labels[chosen]

    def judge(pictures: np.ndarray) -> float:
        return accuracy(labels, probabilities(trained.network, pictures, record["image_size"]))

    clean = judge(images)
    rows = [
        (record["architecture"], record["version"], corruption, severity,
         judge(corrupt(images, corruption, severity, options.seed)), clean, count)
        for corruption in CORRUPTIONS
        for severity in SEVERITIES
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=COLUMNS)
    logger.info(
        "%s: %.4f as they are, %.4f corrupted, on average", record["architecture"], clean, table.accuracy.mean()
    )
    return table


def gather_robustness(statistics: Statistics, *made: Any) -> pd.DataFrame:
    """All tables in one, best mean accuracy first; `made` is of each architecture its table and its metrics.

    A table of another version than the metrics are of stays away, for the two would contradict each other.

    Raises:
        InputError: there is none.
    """
    tables: list[pd.DataFrame] = [
        table
        for table, metrics in zip(made[::2], made[1::2], strict=True)
        if table is not None
        and (metrics is None or (is_of(statistics, metrics) and metrics["model_version"] == table.model_version[0]))
    ]
    if not tables:
        raise InputError(
            "No model has been trained on the data at hand, so there is none to judge. Train one, with the same --env "
            "and --params, for example: kedro run --pipelines=train_simple_cnn,robustness"
        )
    tables.sort(key=lambda table: table.accuracy.mean(), reverse=True)
    return pd.concat(tables, ignore_index=True)
