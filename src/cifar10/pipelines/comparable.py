"""Which models can be compared: those that have been trained, and on the data at hand."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cifar10.contracts import Predictions, Statistics, TrainedModel
from cifar10.errors import InputError

logger = logging.getLogger(__name__)


def if_trained(function: Callable, architecture: str, *, log: Callable[..., None] = logger.debug) -> Callable:
    """Make a node function of one whose first input is a model, or its predictions, or its metrics.

    The node takes that, the statistics of the data at hand, and the function's other inputs. It yields the function's
    result, or nothing where the architecture has not been trained or was trained on other data: then it logs why.
    """

    def node(
        made: TrainedModel | Predictions | dict[str, Any] | None, statistics: Statistics, *inputs: Any
    ) -> Iterator[Any]:
        if made is None:
            log("%s: left out, it has not been trained (kedro run --pipelines=train_%s)", architecture, architecture)
        elif is_of(statistics, made if isinstance(made, dict) else made.record, log):
            yield function(made, *inputs)

    return node


def comparable(
    metrics: Iterable[dict[str, Any] | None], statistics: Statistics, *, log: Callable[..., None] = logger.debug
) -> list[dict[str, Any]]:
    """Those metrics that exist and are of models trained on the data at hand, best validation accuracy first.

    Models that were trained on the validation pictures too have none, and come last.

    Raises:
        InputError: there are none.
    """
    kept = [each for each in metrics if each is not None and is_of(statistics, each, log)]
    if not kept:
        raise InputError(
            "No model has been trained and evaluated on the data at hand, so there is nothing to compare. Train one "
            "and evaluate it, with the same --env and --params, for example: "
            "kedro run --pipelines=train_simple_cnn,evaluation"
        )

    def place(each: dict[str, Any]) -> tuple[bool, float, str]:
        val_accuracy = each["val_accuracy"]
        return val_accuracy is None, -(val_accuracy or 0.0), each["architecture"]

    return sorted(kept, key=place)


def is_of(statistics: Statistics, record: dict[str, Any], log: Callable[..., None] = logger.debug) -> bool:
    """Whether a record or metrics are of a model trained on these data; log it if not."""
    if record["data_version"] == statistics.data_version:
        return True
    log(
        "%s: left out, it was trained on data %s and the data at hand are %s",
        record["architecture"],
        record["data_version"][:12],
        statistics.data_version[:12],
    )
    return False
