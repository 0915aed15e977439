"""How this project's artefacts are written and found: whole or not at all, and never by accident."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version

from cifar10.errors import InputError


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; once it is written and on disk, rename it to the target.

    Whatever goes wrong before that (a full disk, Ctrl-C) leaves neither the file nor a folder made for it, and what
    stood there before as it was.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]  # innermost first
    unfinished = target.with_name(f".unfinished-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        with suppress(OSError):  # another run may have put something there meanwhile
            for folder in made:
                folder.rmdir()
        if isinstance(error, OSError):
            raise InputError(
                f"{target} could not be written: {error.strerror or error}. Nothing of it is left behind, and what was "
                "saved before is as it was. Make room or give write access there, or move all data with "
                "--params=data_root=FOLDER, then run the command again."
            ) from error
        raise


class AtomicSave:
    """Mix-in that makes a file dataset of `kedro_datasets` save by way of `atomic`."""

    _unfinished: PurePosixPath | None = None

    def _get_save_path(self) -> PurePosixPath:
        return self._unfinished or super()._get_save_path()  # type: ignore[misc]

    def save(self, data: Any) -> None:
        """Save as the dataset does, but under a temporary name until the file is whole."""
        with atomic(Path(self._get_save_path())) as unfinished:
            self._unfinished = PurePosixPath(unfinished.as_posix())
            try:
                # Kedro wraps `save` to see that the new version can be loaded, which holds only after the renaming.
                super().save.__wrapped__(self, data)  # type: ignore[misc]
            finally:
                self._unfinished = None


def never_saved(dataset: AbstractVersionedDataset) -> bool:
    """Whether a versioned dataset has no version at all, so that the evaluation can ask for what may not be there.

    Raises:
        InputError: the dataset is pinned to a version, and that one does not exist.
    """
    if dataset.exists():
        return False
    pinned = dataset._version and dataset._version.load
    if not pinned:
        return True
    folder = Path(dataset._filepath)
    versions = sorted(path.parent.name for path in folder.glob(f"*/{folder.name}"))
    raise InputError(
        f"{folder} has no version {pinned}: "
        + (f"it has {', '.join(versions)}." if versions else "nothing has been saved there yet.")
    )


class LocalDataset(AbstractVersionedDataset):
    """Base of the project's own file datasets: what they have in common besides loading and saving."""

    def __init__(self, *, filepath: str, version: Version | None = None, metadata: dict | None = None) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version)
        self.metadata = metadata

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}
