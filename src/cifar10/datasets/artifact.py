"""How this project's artefacts are written and found: whole or not at all, and never by accident."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, Version

from cifar10.atomic import atomic
from cifar10.errors import InputError


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
