"""Evaluate all trained models on corrupted test images."""

import itertools
import logging
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cifar10.contracts import Examples, Statistics, TrainedModel, verify
from cifar10.metrics import accuracy
from cifar10.pipelines.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar10.pipelines.selection import trained_on_current_data

logger = logging.getLogger(__name__)

COLUMNS = ["architecture", "model_version", "corruption", "severity", "accuracy", "clean_accuracy", "images"]


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
        robustness: dict[str, Any],
        *trained: TrainedModel | None,
    ) -> pd.DataFrame:
        """Evaluate each model that has been trained on the current data, best mean accuracy first.

        Args:
            statistics: of the current data.
            test_examples: a random subset of which is evaluated, the same for every model.
            robustness: see `Robustness`.
            trained: one model per architecture; None where it has not been trained.

        Returns:
            One row per model, corruption and severity.

        Raises:
            InputError: there is no such model, or the images have changed since preprocessing.
        """
        options = Robustness.model_validate(robustness)
        verify(statistics.digests, test=test_examples)
        models = trained_on_current_data(trained, architectures, statistics, "robustness")
        tables = [evaluate_model(model, test_examples, options) for model in models]
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

    clean, rows = evaluate(chosen.images), []
    pairs = list(itertools.product(CORRUPTIONS, SEVERITIES))
    with live(f"{record.architecture}, corrupted images", len(pairs)) as show:
        for done, (corruption, severity) in enumerate(pairs, start=1):
            corrupted = evaluate(corrupt(chosen.images, corruption, severity, options.seed))
            rows.append((record.architecture, model.version, corruption, severity, corrupted, clean, count))
            show(done, corruption)
    table = pd.DataFrame(rows, columns=COLUMNS)
    mean = table.accuracy.mean()
    logger.info("%s: accuracy %.4f on clean images, %.4f on corrupted ones (mean)", record.architecture, clean, mean)
    return table
