"""Arrays in `.npz` files: examples and predictions."""

import struct
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from kedro.io import DatasetError

from cifar10.atomic import atomic
from cifar10.contracts import Evaluation, Examples, Predictions, TrainedModel
from cifar10.datasets.artifact import LocalDataset
from cifar10.errors import InputError


class ExamplesDataset(LocalDataset):
    """`Examples` as an uncompressed `.npz` with `images` and `labels`, because photographs hardly compress.

    The images are memory-mapped. The examples are kept until the run releases them, so that one run reads and hashes
    them once, however many nodes use them.
    """

    _examples: Examples | None = None

    def read(self, path: Path) -> Examples:
        """Read the labels, and map the images."""
        if self._examples is None:
            with np.load(path, allow_pickle=False) as arrays:
                labels = arrays["labels"]
            images = _map(path, "images")
            if (images.dtype, images.shape[1:]) != (np.uint8, (32, 32, 3)):
                raise ValueError(f"its images are {images.dtype} {images.shape}")
            if (labels.dtype, labels.shape) != (np.uint8, images.shape[:1]):
                raise ValueError(f"its labels are {labels.dtype} {labels.shape} for {len(images):,} images")
            self._examples = Examples(images, labels)
        return self._examples

    def write(self, path: Path, data: Examples) -> None:
        """Write both arrays."""
        with atomic(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, images=data.images, labels=data.labels)
        self._examples = data

    def _release(self) -> None:
        super()._release()
        self._examples = None


def _map(path: Path, name: str) -> np.ndarray:
    """Map an array of an uncompressed `.npz` into memory, read-only.

    Such a file is a ZIP archive whose members, stored as they are, are `.npy` files: a header, then the array.
    """
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as file:
            np.lib.format.read_magic(file)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            header = file.tell()
    if member.compress_type != zipfile.ZIP_STORED or fortran_order or dtype.hasobject:
        raise ValueError(f"its {name} cannot be mapped into memory")
    with path.open("rb") as archive_file:
        archive_file.seek(member.header_offset)
        name_length, extra_length = struct.unpack("<26x2H", archive_file.read(30))  # of the member's local header
    offset = member.header_offset + 30 + name_length + extra_length + header
    return np.memmap(path, dtype, "r", offset, shape)


class PredictionStore:
    """The predictions of every version of every model: `NAME/VERSION.npz` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Store the folder, which is created with the first predictions."""
        self.folder = folder

    def load(self, model: TrainedModel | Evaluation) -> Predictions:
        """Load the predictions of a model.

        Raises:
            InputError: there are none, they are of another network or of other images, or the file is damaged.
        """
        found = self.find(model)
        if found is None:
            raise InputError(
                f"{self._path(model)} is missing, damaged, or of another model. Create it again: kedro run "
                "--pipelines=evaluation (with the same --env and --params)"
            )
        return found

    def find(self, model: TrainedModel | Evaluation) -> Predictions | None:
        """Load the predictions of a model, or return None where `load` would refuse."""
        try:
            with np.load(self._path(model), allow_pickle=False) as arrays:
                values: dict[str, Any] = dict(arrays)
            found = Predictions(**{**values, "identity": str(values["identity"]), "views": str(values["views"])})
        except Exception:  # missing, damaged, or written by another version of this project
            return None
        return found if found.identity == model.identity else None

    def save(self, model: TrainedModel | Evaluation, predictions: Predictions) -> None:
        """Save the predictions of a model, completely or not at all."""
        values = {name: value for name, value in predictions._asdict().items() if value is not None}
        with atomic(self._path(model)) as path, path.open("wb") as file:
            np.savez(file, **values)

    def _path(self, model: TrainedModel | Evaluation) -> Path:
        return self.folder / model.record.architecture / f"{model.version}.npz"


class PredictionsDataset(LocalDataset):
    """A `PredictionStore`, which nodes read and write, because each model's predictions are saved as they are made."""

    def read(self, path: Path) -> PredictionStore:
        """Return the store; the folder need not exist yet."""
        return PredictionStore(path)

    def save(self, data: Any) -> NoReturn:
        """Refuse, because the store saves the predictions of one model at a time."""
        raise DatasetError("Predictions are saved by the node that makes them, one model at a time.")

    def _exists(self) -> bool:
        return True
