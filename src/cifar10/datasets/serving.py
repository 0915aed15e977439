"""Exports, in the layout that TF Serving and Triton read: `NAME/INTEGER/`."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from kedro.io import DatasetError

from cifar10.atomic import atomic, unwritable
from cifar10.contracts import Export
from cifar10.datasets.artifact import LocalDataset


class ServingDataset(LocalDataset):
    """An `Export` as the next version of its model, which appears whole or not at all: servers watch the folder."""

    def save(self, data: Export) -> None:
        """Save under the next integer."""
        folder = Path(self._filepath) / data.name
        with atomic(folder / "config.pbtxt") as path:
            path.write_text(data.config, encoding="utf-8")
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
        try:
            for name, content in data.files.items():
                path = unfinished / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            unfinished.chmod(0o755)  # the temporary one is its owner's alone
            while True:
                version = 1 + max((int(each.name) for each in folder.iterdir() if each.name.isdecimal()), default=0)
                try:
                    unfinished.rename(folder / str(version))
                    return
                except OSError:
                    if not (folder / str(version)).exists():  # otherwise another export has just taken that number
                        raise
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            with suppress(OSError):
                if not any(each.name.isdecimal() for each in folder.iterdir()):
                    shutil.rmtree(folder)
            if isinstance(error, OSError):
                raise unwritable(folder, error) from error
            raise

    def load(self) -> NoReturn:
        """Refuse: exports are for others."""
        raise DatasetError("Exports are read by servers, not by pipelines.")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()
