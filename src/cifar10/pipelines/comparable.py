"""Which models can be compared: those that have been trained, and on the data at hand."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from cifar10.contracts import Predictions, Statistics, TrainedModel
from cifar10.errors import InputError

logger = logging.getLogger(__name__)


def if_trained(function: Callable, architecture: str, *, log: Callable[..., None] = logger.debug) -> Callable:
    """Make a node function of one that needs a model, or its predictions, as its first input.

    The node takes that, the statistics of the data at hand, and the function's other inputs. It yields the function's
    result, or nothing where the architecture has not been trained or was trained on other data: then it logs why.
    """

    def node(made: TrainedModel | Predictions | None, statistics: Statistics, *inputs: Any) -> Iterator[Any]:
        if made is None:
            log(
                "%s: left out, it has not been trained (kedro run --pipelines=train_%s)",
                architecture,
                architecture,
            )
        elif made.record["data_version"] != statistics.data_version:
            log(*_other_data(architecture, made.record["data_version"], statistics))
        else:
            yield function(made, *inputs)

    return node


def comparable(
    metrics: tuple[dict[str, Any] | None, ...], statistics: Statistics, *, log: Callable[..., None] = logger.debug
) -> list[dict[str, Any]]:
    """Those metrics that exist and are of models trained on the data at hand; metrics of other data are logged.

    Raises:
        InputError: none are left.
    """
    evaluated = [each for each in metrics if each is not None]
    for each in evaluated:
        if each["data_version"] != statistics.data_version:
            log(*_other_data(each["architecture"], each["data_version"], statistics))
    kept = [each for each in evaluated if each["data_version"] == statistics.data_version]
    if not kept:
        raise InputError(
            "No model has been trained and evaluated on the data at hand, so there is nothing to compare. Train one "
            "and evaluate it, for example: kedro run --pipelines=train_simple_cnn,evaluation"
        )
    return kept


def _other_data(architecture: str, data_version: str, statistics: Statistics) -> tuple[str, ...]:
    return (
        "%s: left out, it was trained on data %s and the data at hand are %s",
        architecture,
        data_version[:12],
        statistics.data_version[:12],
    )
