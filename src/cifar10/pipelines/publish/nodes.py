"""Collect what a reader needs to compute every figure of the evaluated models anew."""

import logging
import math
from typing import Annotated, Any

import pandas as pd
from pydantic import AfterValidator, BaseModel, ConfigDict

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import (
    Corrupted,
    Evaluation,
    Evaluations,
    Examples,
    Labels,
    Predictions,
    Publication,
    PublishedModel,
    verify,
)
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError, did_you_mean
from cifar10.scoring import evaluate_published

logger = logging.getLogger(__name__)


def _known(remarks: dict[str, str]) -> dict[str, str]:
    for name in remarks:
        if name not in ARCHITECTURES:
            raise ValueError(f"there is no architecture {name}; {did_you_mean(name, ARCHITECTURES)}")
    return remarks


class Publish(BaseModel):
    """Parameters of this pipeline; `conf/base/parameters.yml` has their values and explains them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    remarks: Annotated[dict[str, str], AfterValidator(_known)]


def publish(
    evaluations: Evaluations,
    predictions: PredictionStore,
    val: Examples,
    test_examples: Examples,
    robustness: pd.DataFrame | None,
    publish: dict[str, Any],
) -> Publication:
    """Return the models of all seeds of the latest evaluation, after computing their metrics from what is published.

    Args:
        evaluations: the latest.
        predictions: of all models.
        val: the val split, of which the labels are published.
        test_examples: the test split, likewise.
        robustness: accuracy on corrupted images; the lines of these models are published.
        publish: see `Publish`.

    Raises:
        InputError: predictions are missing or of another model, the images have changed, or the metrics of a model are
            not those that its predictions give.
    """
    remarks = Publish.model_validate(publish).remarks
    evaluated = [each for row in evaluations.rows for each in row.seeds]
    verify(
        evaluated[0].record.digests,
        since="the latest evaluation",
        remedy="Evaluate again: kedro run --pipelines=evaluation,publish",
        val=val,
        test=test_examples,
    )
    labels = Labels(evaluations.data_version, evaluations.class_names, val.labels, test_examples.labels)
    models = [
        (_describe(each, robustness, remarks.get(each.record.architecture, "")), _select(each, predictions))
        for each in evaluated
    ]
    publication = Publication(labels, models)
    _check_metrics(publication, evaluated)
    for model, _ in models:
        logger.info("%s: publishing version %s (seed %d)", model.record.architecture, model.version, model.record.seed)
    return publication


def _describe(evaluation: Evaluation, robustness: pd.DataFrame | None, remark: str) -> PublishedModel:
    """Return what is published of a model beside its probabilities."""
    corrupted: Any = []
    if robustness is not None:
        lines = robustness[robustness.identity == evaluation.identity]
        corrupted = lines[[name for name in Corrupted.__annotations__ if name in lines]].to_dict("records")
    return PublishedModel(
        version=evaluation.version,
        identity=evaluation.identity,
        megabytes=evaluation.megabytes,
        record=evaluation.record,
        costs=evaluation.costs,
        train_accuracy=evaluation.metrics.train_accuracy,
        train_loss=evaluation.metrics.train_loss,
        remark=remark,
        robustness=corrupted,
    )


def _select(evaluation: Evaluation, store: PredictionStore) -> Predictions:
    """Return the predictions of which the metrics are, without those on the train images."""
    predictions = store.load(evaluation)
    if evaluation.metrics.views == "none":
        predictions = predictions._replace(views="none", val_averaged=None, test_averaged=None)
    return predictions._replace(train=predictions.train[:0])


def _check_metrics(publication: Publication, evaluated: list[Evaluation]) -> None:
    """Check that readers will compute the metrics of the evaluation."""
    again = {
        (each.record.architecture, each.version): each.metrics
        for row in evaluate_published(publication).rows
        for each in row.seeds
    }
    for each in evaluated:
        name, version = each.record.architecture, each.version
        if not _agree(again[name, version].model_dump(), each.metrics.model_dump()):
            raise InputError(
                f"{name}, version {version}: its predictions do not give the metrics of the latest evaluation, as "
                "after an evaluation that was interrupted. Evaluate again: kedro run --pipelines=evaluation,publish "
                "(with the same --env and --params)"
            )


def _agree(computed: Any, evaluated: Any) -> bool:
    """Return whether metrics differ at most in the last digits, which depend on the kind of processor."""
    if isinstance(computed, dict):
        return computed.keys() == evaluated.keys() and all(_agree(computed[key], evaluated[key]) for key in computed)
    if isinstance(computed, list):
        return len(computed) == len(evaluated) and all(map(_agree, computed, evaluated))
    if isinstance(computed, float) and isinstance(evaluated, float):
        return math.isclose(computed, evaluated, rel_tol=1e-6, abs_tol=1e-9)
    return computed == evaluated
