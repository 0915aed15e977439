"""A trained network and its record, as one versioned artefact."""

import json
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import DatasetError, Version

from cifar10.atomic import atomic
from cifar10.contracts import TrainedModel
from cifar10.datasets.artifact import LocalDataset, never_saved
from cifar10.errors import InputError

RECORD = "record.json"


class ModelDataset(LocalDataset):
    """`TrainedModel` as `NAME.keras/VERSION/NAME.keras` with `record.json` beside it; None if there never was one.

    The network's file takes its name last, and versions are known by that file, so none is without its record.
    """

    OPTIONAL = True  # a run may ask for it before it exists

    def load(self) -> TrainedModel | None:
        """Load network and record; the record then also has its `version` and the `bytes` of its file."""
        if never_saved(self):
            return None

        import keras

        path = Path(self._get_load_path())
        return TrainedModel(keras.saving.load_model(path, compile=False), _record(path))

    def save(self, data: TrainedModel) -> None:
        """Save network and record."""
        target = Path(self._get_save_path())
        record = target.with_name(RECORD)
        try:
            with atomic(target) as network:
                data.network.save(network)
                with atomic(record) as unfinished:
                    unfinished.write_text(json.dumps(data.record, indent=2), encoding="utf-8")
        except BaseException:
            if not target.exists():
                record.unlink(missing_ok=True)
            raise


def _record(network: Path) -> dict[str, Any]:
    """What stands beside a network's file, with the `version` that it is and the `bytes` that it has."""
    record = json.loads(network.with_name(RECORD).read_text(encoding="utf-8"))
    return {**record, "version": network.parent.name, "bytes": network.stat().st_size}


class Models:
    """Every version of every model, for those who choose among them when they run."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of all models."""
        self.folder = folder

    def names(self) -> list[str]:
        """Architectures that have been trained."""
        return sorted(path.stem for path in self.folder.glob("*.keras") if self.versions(path.stem))

    def versions(self, name: str) -> list[str]:
        """Those of an architecture, the oldest first."""
        return sorted(path.parent.name for path in self.folder.glob(f"{name}.keras/*/{name}.keras"))

    def record(self, name: str, version: str) -> dict[str, Any]:
        """That of a version, without its network."""
        return _record(self.folder / f"{name}.keras" / version / f"{name}.keras")

    def load(self, name: str, version: str | None = None) -> TrainedModel:
        """A version, or the latest.

        Raises:
            InputError: there is no such model, or no such version.
        """
        there = self.versions(name)
        if not there:
            raise InputError(
                f"There is no trained {name}. Train it (kedro run --pipelines=train_{name}, with the same --env and "
                f"--params), or choose one of those that are: {', '.join(self.names()) or 'none'}."
            )
        if version not in (None, *there):
            raise InputError(f"{name} has no version {version}: it has {', '.join(there)}.")
        path = self.folder / f"{name}.keras"
        model = ModelDataset(filepath=str(path), version=Version(version or there[-1], None)).load()
        assert model is not None  # noqa: S101  it is there
        return model


class ModelsDataset(LocalDataset):
    """`Models`: the folder that they are saved in."""

    def load(self) -> Models:
        """Give access to all of them; nothing is loaded yet."""
        return Models(Path(self._filepath))

    def save(self, data: None) -> NoReturn:
        """Refuse: a model is saved as itself."""
        raise DatasetError("Models are saved one by one, by the dataset of each.")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()
