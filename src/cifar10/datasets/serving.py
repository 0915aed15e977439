"""Exports in the layout that TF Serving and Triton read: `NAME/INTEGER/`."""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from filelock import FileLock
from kedro.io import DatasetError

from cifar10.atomic import UNFINISHED, atomic, atomic_folder, unwritable
from cifar10.contracts import Export
from cifar10.datasets.artifact import LocalDataset
from cifar10.store import check_local


class ServingDataset(LocalDataset):
    """An `Export` as the next version of its model, which appears completely or not at all."""

    def write(self, path: Path, data: Export) -> None:
        """Write under the next integer.

        Raises:
            InputError: the disk is full, or the folder is not writable. Then everything is as it was.
        """
        folder = path / data.name
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(f".{data.name}.lock")):  # two simultaneous exports would use the same number
                _save(folder, data)
        except OSError as error:
            raise unwritable(folder, error) from error

    def check_writable(self) -> None:
        """Check, before a run that exports, that this is possible.

        Raises:
            InputError: it is not; or the folder is in an object store, which servers do not read.
        """
        check_local(Path(self._filepath), "The dataset `serving` of an export")
        super().check_writable()

    def load(self) -> NoReturn:
        """Refuse, because exports are read by servers."""
        raise DatasetError("Exports are read by servers, not by pipelines.")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()


def _save(folder: Path, data: Export) -> None:
    for rest in folder.glob(f"{UNFINISHED}*/"):  # of an export that was killed
        shutil.rmtree(rest, ignore_errors=True)
    version = folder / str(1 + max((int(each.name) for each in folder.glob("*") if each.name.isdecimal()), default=0))
    try:
        with atomic(folder / "config.pbtxt") as config:  # is replaced last, because it counts for all versions
            config.write_text(data.config, encoding="utf-8")
            with atomic_folder(version) as unfinished:
                for name, content in data.files.items():
                    _write(unfinished / name, content)
    except BaseException:
        shutil.rmtree(version, ignore_errors=True)
        with suppress(OSError):  # it has earlier versions
            folder.rmdir()
        raise


def _write(path: Path, content: bytes) -> None:
    """Write a file, and sync it to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
