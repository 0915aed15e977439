"""Evaluate all trained models on corrupted test images."""

import itertools
import logging
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.datasets.model import Models
from cifar10.metrics import accuracy
from cifar10.pipelines.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar10.pipelines.selection import current_rows

logger = logging.getLogger(__name__)

COLUMNS = ["corruption", "severity", "accuracy", "clean_accuracy", "images"]


class Robustness(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    examples: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def robustness_evaluator(architectures: list[str]) -> Callable:
    """Return the node function that evaluates the models of these architectures."""

    def evaluate_corrupted(
        statistics: Statistics,
        test_examples: Examples,
        class_names: list[str],
        robustness: dict[str, Any],
        models: Models,
        *trained: TrainedModel | None,
    ) -> pd.DataFrame:
        """Evaluate the models that stand for the rows of an evaluation: the best mean accuracy first.

        Args:
            statistics: of the current data.
            test_examples: a random subset of which is evaluated, the same for every model.
            class_names: in the order of the labels.
            robustness: see `Robustness`.
            models: all versions of all models.
            trained: one model per architecture; None where it has not been trained.

        Returns:
            One line per row, corruption and severity, with what identifies the model.

        Raises:
            InputError: there is no such model, or the images have changed since preprocessing.
        """
        options = Robustness.model_validate(robustness)
        verify(statistics.digests, test=test_examples)
        rows = current_rows(trained, architectures, models, statistics, class_names, "robustness")
        tables = [evaluate_model(row.seeds[0], test_examples, options).assign(name=row.name) for row in rows]
        tables.sort(key=lambda table: table.accuracy.mean(), reverse=True)
        return pd.concat(tables, ignore_index=True)

    return evaluate_corrupted


def evaluate_model(model: TrainedModel, test_examples: Examples, options: Robustness) -> pd.DataFrame:
    """Return the accuracy of a model under each corruption and severity, and without any."""
    from cifar10.compute.inference import infer
    from cifar10.compute.live import live

    record, network = model.record, model.load_network()
    count = min(options.examples, len(test_examples))
    chosen = test_examples.take(np.sort(np.random.default_rng(options.seed).permutation(len(test_examples))[:count]))

    def evaluate(images: np.ndarray) -> float:
        return accuracy(chosen.labels, infer(network, images, record.image_size))

    clean, lines = evaluate(chosen.images), []
    pairs = list(itertools.product(CORRUPTIONS, SEVERITIES))
    with live(f"{record.architecture}, corrupted images", len(pairs)) as show:
        for done, (corruption, severity) in enumerate(pairs, start=1):
            corrupted = evaluate(corrupt(chosen.images, corruption, severity, options.seed))
            lines.append((corruption, severity, corrupted, clean, count))
            show(done, corruption)
    table = pd.DataFrame(lines, columns=COLUMNS)
    mean = table.accuracy.mean()
    logger.info("%s: accuracy %.4f on clean images, %.4f on corrupted ones (mean)", record.architecture, clean, mean)
    return table.assign(
        architecture=record.architecture,
        model_version=model.version,
        recipe_hash=record.recipe_hash,
        seed=record.seed,
        data_version=record.data_version,
        identity=model.identity,
    )
