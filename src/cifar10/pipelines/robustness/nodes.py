"""Evaluate all trained models on corrupted test images."""

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cifar10.contracts import CIFAR10_C, PROJECT, Examples, Statistics, TrainedModel, verify
from cifar10.datasets.cifar10_c import CIFAR10C
from cifar10.datasets.model import Models
from cifar10.metrics import accuracy
from cifar10.pipelines.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from cifar10.pipelines.selection import current_rows

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

COLUMNS = ["suite", "corruption", "severity", "accuracy", "clean_accuracy", "images"]


class Robustness(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    examples: Annotated[int, Field(ge=1)]
    cifar10_c: bool
    seed: Annotated[int, Field(ge=0, lt=2**32)]


def robustness_evaluator(architectures: list[str]) -> Callable:
    """Return the node function that evaluates the models of these architectures."""

    def evaluate_corrupted(
        statistics: Statistics,
        test_examples: Examples,
        cifar10_c: CIFAR10C | None,
        class_names: list[str],
        robustness: dict[str, Any],
        models: Models,
        *trained: TrainedModel | None,
    ) -> pd.DataFrame:
        """Evaluate the models that stand for the rows of an evaluation: the best mean accuracy first.

        Args:
            statistics: of the current data.
            test_examples: a random subset of which is evaluated, the same for every model.
            cifar10_c: is evaluated as a whole; None: it is not there.
            class_names: in the order of the labels.
            robustness: see `Robustness`.
            models: all versions of all models.
            trained: one model per architecture; None where it has not been trained.

        Returns:
            One line per row, suite, corruption and severity, with what identifies the model.

        Raises:
            InputError: there is no such model, the images have changed since preprocessing, or CIFAR-10-C is of others.
        """
        options = Robustness.model_validate(robustness)
        verify(statistics.digests, test=test_examples)
        rows = current_rows(trained, architectures, models, statistics, class_names, "robustness")
        used = _use(cifar10_c, test_examples) if options.cifar10_c else None
        tables = [evaluate_model(row.seeds[0], test_examples, used, options).assign(name=row.name) for row in rows]
        tables.sort(key=lambda table: table.accuracy[table.suite == PROJECT].mean(), reverse=True)
        return pd.concat(tables, ignore_index=True)

    return evaluate_corrupted


def _use(cifar10_c: CIFAR10C | None, test_examples: Examples) -> CIFAR10C | None:
    """Return CIFAR-10-C if it is there, after checking that it is of these test images; log what is missing."""
    if cifar10_c is None:
        logger.info("CIFAR-10-C is not in 01_raw, so models are evaluated on the corruptions of this project only")
        return None
    cifar10_c.verify(test_examples)
    if cifar10_c.missing:
        logger.warning("%s lacks %s", cifar10_c.folder, ", ".join(f"{name}.npy" for name in cifar10_c.missing))
    return cifar10_c if cifar10_c.images else None


def evaluate_model(
    model: TrainedModel, test_examples: Examples, cifar10_c: CIFAR10C | None, options: Robustness
) -> pd.DataFrame:
    """Return the accuracy of a model under each corruption and severity of each suite, and without any."""
    network, count = model.load_network(), min(options.examples, len(test_examples))
    chosen = test_examples.take(np.sort(np.random.default_rng(options.seed).permutation(len(test_examples))[:count]))

    def corrupt_chosen(corruption: str, severity: int) -> np.ndarray:
        return corrupt(chosen.images, corruption, severity, options.seed)

    table = _evaluate(model, network, PROJECT, chosen, CORRUPTIONS, corrupt_chosen)
    if cifar10_c:
        other = _evaluate(model, network, CIFAR10_C, test_examples, cifar10_c.images, cifar10_c.take)
        table = pd.concat([table, other], ignore_index=True)
    record = model.record
    return table.assign(
        architecture=record.architecture,
        model_version=model.version,
        recipe_hash=record.recipe_hash,
        seed=record.seed,
        data_version=record.data_version,
        identity=model.identity,
    )


def _evaluate(
    model: TrainedModel,
    network: "keras.Model",
    suite: str,
    clean: Examples,
    corruptions: Iterable[str],
    corrupted: Callable[[str, int], np.ndarray],
) -> pd.DataFrame:
    """Return the accuracy on each corruption and severity of these images, as `corrupted` gives them."""
    from cifar10.compute.inference import infer
    from cifar10.compute.live import live

    record = model.record

    def evaluate(images: np.ndarray) -> float:
        return accuracy(clean.labels, infer(network, images, record.image_size))

    clean_accuracy, lines = evaluate(clean.images), []
    pairs = list(itertools.product(corruptions, SEVERITIES))
    with live(f"{record.architecture}, {'corrupted images' if suite == PROJECT else suite}", len(pairs)) as show:
        for done, (corruption, severity) in enumerate(pairs, start=1):
            value = evaluate(corrupted(corruption, severity))
            lines.append((suite, corruption, severity, value, clean_accuracy, len(clean)))
            show(done, corruption)
    table = pd.DataFrame(lines, columns=COLUMNS)
    logger.info(
        "%s: accuracy %.4f on clean images, %.4f on corrupted ones%s (mean)",
        record.architecture, clean_accuracy, table.accuracy.mean(), "" if suite == PROJECT else f" of {suite}",
    )  # fmt: skip
    return table
