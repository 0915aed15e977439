"""Arrays in `.npz` files: examples and predictions."""

import json
from pathlib import Path

import numpy as np

from cifar10.atomic import atomic
from cifar10.contracts import Examples, Predictions
from cifar10.datasets.artifact import LocalDataset, never_saved


class ExamplesDataset(LocalDataset):
    """`Examples` as an uncompressed `.npz` with `images` and `labels`: pictures of noise and fur hardly compress."""

    def load(self) -> Examples:
        """Load both arrays."""
        with np.load(Path(self._get_load_path()), allow_pickle=False) as arrays:
            return Examples(arrays["images"], arrays["labels"])

    def save(self, data: Examples) -> None:
        """Save both arrays."""
        with atomic(Path(self._get_save_path())) as path, path.open("wb") as file:
            np.savez(file, images=data.images, labels=data.labels)


class PredictionsDataset(LocalDataset):
    """`Predictions` as an `.npz` of its arrays, the `record` as JSON; None if there never were any."""

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> Predictions | None:
        """Load the arrays and the record."""
        if never_saved(self):
            return None
        with np.load(Path(self._get_load_path()), allow_pickle=False) as arrays:
            values = dict(arrays)
        if "train" not in values:  # an earlier version of this project wrote it
            return None
        values["record"] = json.loads(str(values["record"]))
        values["views"] = str(values.get("views", "none"))  # older files do not say
        return Predictions(**values)

    def save(self, data: Predictions) -> None:
        """Save the arrays and the record."""
        values = {name: value for name, value in data._asdict().items() if value is not None}
        with atomic(Path(self._get_save_path())) as path, path.open("wb") as file:
            np.savez(file, **{**values, "record": json.dumps(data.record)})
