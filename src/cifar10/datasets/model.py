"""A trained network and its record, as one versioned artifact."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import DatasetError

from cifar10.architectures import ARCHITECTURES
from cifar10.atomic import atomic
from cifar10.compute.portable import save
from cifar10.contracts import Record, TrainedModel
from cifar10.datasets.artifact import VERSION, LocalDataset, is_version, version_files
from cifar10.errors import InputError, entries, nearest, readable

RECORD = "record.json"


class ModelDataset(LocalDataset):
    """A `TrainedModel` as `NAME.keras/VERSION/NAME.keras` with `record.json` beside it.

    The network's file is written last, and versions are recognised by it, so no version lacks its record.
    """

    def is_of(self, architecture: str) -> bool:
        """Return whether it saves versions of models of this architecture, under the names that `Models` looks for."""
        return self.has_versions and self._filepath.name == f"{architecture}.keras"

    def load(self) -> TrainedModel | None:
        """Load the record, or return None if no model of this architecture has been trained.

        Raises:
            InputError: the record is damaged, or this is the name of an architecture with a typing error.
        """
        model, name = super().load(), self._filepath.stem
        if model is None and name not in ARCHITECTURES and (similar := nearest(name, ARCHITECTURES)):
            raise InputError(f"There is no architecture {name}; did you mean {similar}?")
        return model

    def read(self, path: Path) -> TrainedModel:
        """Read the record."""
        return replace(_read(path), pinned=bool(self._version and self._version.load))

    def write(self, path: Path, data: TrainedModel) -> None:
        """Write network and record."""
        record = path.with_name(RECORD)
        with atomic(path) as network:
            try:
                save(data.load_network(), network)
                with atomic(record) as unfinished:
                    unfinished.write_text(data.record.to_json(), encoding="utf-8")
            except BaseException:
                if not path.exists():
                    record.unlink(missing_ok=True)
                raise


def _read(path: Path) -> TrainedModel:
    """Read the record beside the file of a network; the network itself is read when it is used."""
    record = Record.read(path.with_name(RECORD))
    advice = Record.REMEDY.format(command=f"kedro run --pipelines=train_{path.stem}")
    if record.architecture != path.stem:
        raise InputError(f"{path.with_name(RECORD)} is the record of another network, {record.architecture}. {advice}")

    def load_network() -> Any:
        import keras

        if path.is_file() and not zipfile.is_zipfile(path):  # Keras would say that there is no such file
            raise InputError(f"{path} could not be read: it is damaged, or no model at all. {advice}")
        with readable(path, advice):
            network = keras.saving.load_model(path, compile=False)
        if network.count_params() != record.parameters:
            raise InputError(
                f"{path} has {network.count_params():,} weights, but the network of {RECORD} beside it has "
                f"{record.parameters:,}. {advice}"
            )
        return network

    return TrainedModel(record, load_network, path.parent.name, path.stat().st_size / 1e6, path)


class Models:
    """All versions of all models, for nodes that choose among them."""

    def __init__(self, folder: Path) -> None:
        """Store the folder of all models."""
        self.folder = folder

    def names(self) -> list[str]:
        """Return the architectures that have been trained."""
        return [path.stem for path in entries(self.folder) if path.suffix == ".keras" and self.versions(path.stem)]

    def versions(self, name: str) -> list[str]:
        """Return the versions of an architecture, the oldest first."""
        return [path.parent.name for path in version_files(self.folder / f"{name}.keras")]

    def load(self, name: str, version: str | None = None) -> TrainedModel:
        """Load a version, by default the latest.

        Raises:
            InputError: there is no such model, or no such version.
        """
        if version and VERSION.fullmatch(version) and is_version(self.folder / f"{name}.keras" / version):
            return self._load(name, version)  # without a look at all others
        versions = self.versions(name)
        if not versions:
            trained = [each for each in self.names() if each in ARCHITECTURES]
            raise InputError(
                f"There is no trained {name}. Train it (kedro run --pipelines=train_{name}, with the same --env and "
                f"--params), or choose a trained one: {', '.join(trained) or 'there is none yet'}."
            )
        if version not in (None, *versions):
            raise InputError(f"{name} has no version {version}: it has {', '.join(versions)}.")
        return self._load(name, version or versions[-1])

    def all(self) -> list[TrainedModel]:
        """Load every version of every model, the networks excepted."""
        return [self.load(name, version) for name in self.names() for version in self.versions(name)]

    def _load(self, name: str, version: str) -> TrainedModel:
        return _read(self.folder / f"{name}.keras" / version / f"{name}.keras")


class ModelsDataset(LocalDataset):
    """`Models`: reads the folder in which `ModelDataset` saves them."""

    FETCHED = "*.keras/*"  # no checkpoints

    def read(self, path: Path) -> Models:
        """Return access to all models; nothing is loaded yet."""
        return Models(path)

    def save(self, data: Any) -> NoReturn:
        """Refuse, because each model is saved by its own dataset."""
        raise DatasetError("Models are saved one by one, by the dataset of each.")

    def check(self, command: str) -> None:
        """Read every record."""
        self.load().all()

    def _exists(self) -> bool:
        return self._place().is_dir()
