"""Exports in the layout that TF Serving and Triton read: `NAME/INTEGER/`."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

from filelock import FileLock
from kedro.io import DatasetError

from cifar10.atomic import atomic, unwritable
from cifar10.contracts import Export
from cifar10.datasets.artifact import LocalDataset


class ServingDataset(LocalDataset):
    """An `Export` as the next version of its model, which appears completely or not at all."""

    def save(self, data: Export) -> None:
        """Save under the next integer."""
        folder = Path(self._filepath) / data.name
        with atomic(folder / "config.pbtxt") as path:
            path.write_text(data.config, encoding="utf-8")
        with FileLock(folder.with_name(f".{data.name}.lock")):  # two simultaneous exports would use the same number
            unfinished = folder / ".unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)  # of an export that was killed
            try:
                for name, content in data.files.items():
                    path = unfinished / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("wb") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                version = 1 + max((int(each.name) for each in folder.iterdir() if each.name.isdecimal()), default=0)
                unfinished.rename(folder / str(version))
            except BaseException as error:
                shutil.rmtree(unfinished, ignore_errors=True)
                if not any(each.name.isdecimal() for each in folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
                if isinstance(error, OSError):
                    raise unwritable(folder, error) from error
                raise

    def load(self) -> NoReturn:
        """Refuse, because exports are read by servers."""
        raise DatasetError("Exports are read by servers, not by pipelines.")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()
