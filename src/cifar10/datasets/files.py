"""Tables, JSON and figures of `kedro_datasets`, saved whole or not at all."""

from typing import Any

from kedro_datasets import json, matplotlib, pandas

from cifar10.contracts import Statistics
from cifar10.datasets.artifact import AtomicSave, never_saved
from cifar10.errors import InputError


class CSVDataset(AtomicSave, pandas.CSVDataset):
    """A `pandas.DataFrame` as CSV."""


class FigureDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """A `matplotlib` figure as PNG."""


class JSONDataset(AtomicSave, json.JSONDataset):
    """Plain values as JSON."""


class MetricsDataset(JSONDataset):
    """The metrics of a model that may not have been evaluated yet: then None."""

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> dict[str, Any] | None:
        """Load the metrics."""
        return None if never_saved(self) else super().load()


class StatisticsDataset(JSONDataset):
    """`Statistics` as JSON."""

    def load(self) -> Statistics:
        """Load the statistics.

        Raises:
            InputError: an earlier version of this project wrote them, which measured less.
        """
        values = super().load()
        if set(values) != set(Statistics._fields):
            raise InputError(
                f"{self._filepath} was not written by this version of the project. Run the preprocessing again: "
                "kedro run --pipelines=preprocessing (with the same --env and --params)"
            )
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return Statistics(**{**values, "patch_covariance": tuple(map(tuple, values["patch_covariance"]))})

    def save(self, data: Statistics) -> None:
        """Save the statistics."""
        super().save(data._asdict())
