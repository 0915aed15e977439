"""Evaluate all trained models on corrupted test images."""

import functools
import hashlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

COLUMNS = ["suite", "corruption", "severity", "accuracy", "clean_accuracy", "images", "digest"]


class Robustness(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    examples: Annotated[int, Field(ge=1)]
    cifar10_c: bool
    seed: Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True)
class Suite:
    """Images on which models are evaluated: clean ones, and the same under corruptions of each severity.

    Attributes:
        name: of the suite.
        clean: the images without a corruption.
        corruptions: their names.
        take: returns the images of a corruption and severity, uint8 (n, 32, 32, 3).
    """

    name: str
    clean: Examples
    corruptions: Sequence[str]
    take: Callable[[str, int], np.ndarray]

    @property
    def parts(self) -> list[tuple[str, int]]:
        """All corruptions and severities."""
        return list(itertools.product(self.corruptions, SEVERITIES))

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 over all of its corrupted images, hexadecimal."""
        sha = hashlib.sha256()
        for corruption, severity in self.parts:
            sha.update(np.ascontiguousarray(self.take(corruption, severity)).data)
        return sha.hexdigest()


def robustness_evaluator(architectures: list[str]) -> Callable:
    """Return the node function that evaluates all models, after those of these architectures have been trained."""

    def evaluate_corrupted(
        statistics: Statistics,
        test_examples: Examples,
        cifar10_c: Callable[[], CIFAR10C | None],
        class_names: list[str],
        robustness: dict[str, Any],
        earlier: pd.DataFrame | None,
        models: Models,
        *trained: TrainedModel | None,
    ) -> pd.DataFrame:
        """Evaluate the models that stand for the rows of an evaluation: the best mean accuracy first.

        What an earlier run has found of the same models and the same corrupted images is used again.

        Args:
            statistics: of the current data.
            test_examples: a random subset of which is evaluated, the same for every model.
            cifar10_c: gives CIFAR-10-C, which is evaluated as a whole, or None, if it is not there.
            class_names: in the order of the labels.
            robustness: see `Robustness`.
            earlier: what the last run returned; None if there was none.
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
        suites = [_project_suite(test_examples, options)]
        if options.cifar10_c and (used := _use(cifar10_c(), test_examples)):
            suites.append(Suite(CIFAR10_C, test_examples, list(used.images), used.take))
        tables = [evaluate_model(row.seeds[0], suites, earlier).assign(name=row.name) for row in rows]
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


def _project_suite(test_examples: Examples, options: Robustness) -> Suite:
    """Return the corruptions of this project, of a random subset of the test images."""
    count = min(options.examples, len(test_examples))
    chosen = test_examples.take(np.sort(np.random.default_rng(options.seed).permutation(len(test_examples))[:count]))

    def take(corruption: str, severity: int) -> np.ndarray:
        return corrupt(chosen.images, corruption, severity, options.seed)

    return Suite(PROJECT, chosen, list(CORRUPTIONS), take)


def evaluate_model(model: TrainedModel, suites: list[Suite], earlier: pd.DataFrame | None) -> pd.DataFrame:
    """Return the accuracy of a model under each corruption and severity of each suite, and without any."""
    network: keras.Model | None = None
    tables = []
    for suite in suites:
        table = _find(earlier, model, suite)
        if table is None:
            network = model.load_network() if network is None else network
            table = _evaluate(model, network, suite)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    record = model.record
    return table.assign(
        architecture=record.architecture,
        model_version=model.version,
        recipe_hash=record.recipe_hash,
        seed=record.seed,
        data_version=record.data_version,
        identity=model.identity,
    )


def _find(earlier: pd.DataFrame | None, model: TrainedModel, suite: Suite) -> pd.DataFrame | None:
    """Return what an earlier run has found of this model on these images, or None."""
    if earlier is None:
        return None
    found = earlier[(earlier.identity == model.identity) & (earlier.digest == suite.digest)]
    if found.empty:
        return None
    logger.info("%s: reusing the accuracy of version %s on %s", model.record.architecture, model.version, _title(suite))
    return found[COLUMNS].reset_index(drop=True)


def _title(suite: Suite) -> str:
    return "corrupted images" if suite.name == PROJECT else suite.name


def _evaluate(model: TrainedModel, network: "keras.Model", suite: Suite) -> pd.DataFrame:
    """Return the accuracy on each corruption and severity."""
    from cifar10.compute.inference import infer
    from cifar10.compute.live import live

    record, clean = model.record, suite.clean

    def evaluate(images: np.ndarray) -> float:
        return accuracy(clean.labels, infer(network, images, record.image_size))

    clean_accuracy, lines = evaluate(clean.images), []
    with live(f"{record.architecture}, {_title(suite)}", len(suite.parts)) as show:
        for done, (corruption, severity) in enumerate(suite.parts, start=1):
            value = evaluate(suite.take(corruption, severity))
            lines.append((suite.name, corruption, severity, value, clean_accuracy, len(clean), suite.digest))
            show(done, corruption)
    table = pd.DataFrame(lines, columns=COLUMNS)
    logger.info(
        "%s: accuracy %.4f on clean images, %.4f on corrupted ones%s (mean)",
        record.architecture, clean_accuracy, table.accuracy.mean(),
        "" if suite.name == PROJECT else f" of {suite.name}",
    )  # fmt: skip
    return table
