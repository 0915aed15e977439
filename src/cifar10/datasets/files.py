"""Tables, JSON and figures of `kedro_datasets`, saved whole or not at all."""

import json as jsons
from pathlib import Path
from typing import Any, NoReturn

import matplotlib as mpl
import pandas as pd
from kedro.io import DatasetError
from kedro_datasets import json, matplotlib, pandas, text
from matplotlib.figure import Figure

from cifar10.atomic import atomic
from cifar10.contracts import Statistics
from cifar10.datasets.artifact import AtomicSave, LocalDataset, never_saved
from cifar10.errors import InputError


class CSVDataset(AtomicSave, pandas.CSVDataset):
    """A `pandas.DataFrame` as CSV."""


class OptionalCSVDataset(CSVDataset):
    """A table that may not have been made yet: then None."""

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> pd.DataFrame | None:
        """Load the table."""
        return None if never_saved(self) else super().load()


class FigureDataset(AtomicSave, matplotlib.MatplotlibDataset):
    """A `matplotlib` figure as PNG, to look at, and as SVG, which is what it loads as; None if there never was one."""

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> str | None:
        """Load the SVG."""
        if never_saved(self):
            return None
        return Path(self._get_load_path()).with_suffix(".svg").read_text(encoding="utf-8")

    def save(self, data: Figure) -> None:
        """Save both, the PNG last, by which a version is known."""
        target = Path(self._get_save_path())
        vector = target.with_suffix(".svg")
        try:
            with atomic(vector) as path, mpl.rc_context({"svg.hashsalt": "cifar10"}):  # the same figure, the same file
                data.savefig(path, format="svg", metadata={"Date": None}, transparent=True)
            super().save(data)
        except BaseException:
            if not target.exists():
                vector.unlink(missing_ok=True)
            raise


class TextDataset(AtomicSave, text.TextDataset):
    """Text as it is."""


class JSONDataset(AtomicSave, json.JSONDataset):
    """Plain values as JSON."""


class MetricsDataset(JSONDataset):
    """The metrics of a model that may not have been evaluated yet: then None."""

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> dict[str, Any] | None:
        """Load the metrics."""
        return None if never_saved(self) else super().load()


class EveryMetricsDataset(LocalDataset):
    """The metrics of every version of every model, the oldest first: the folder that they are saved in."""

    def load(self) -> list[dict[str, Any]]:
        """Load all of them; none is no error."""
        paths = Path(self._filepath).glob("*_metrics.json/*/*_metrics.json")
        in_order = sorted(paths, key=lambda path: path.parent.name)
        return [jsons.loads(path.read_text(encoding="utf-8")) for path in in_order]

    def save(self, data: None) -> NoReturn:
        """Refuse: metrics are saved as those of one model."""
        raise DatasetError("Metrics are saved one by one, by the dataset of each model.")

    def _exists(self) -> bool:
        return True


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
