"""How this project's datasets find, read and write their files: completely or not at all."""

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from cifar10.atomic import atomic
from cifar10.errors import InputError, readable


class LocalDataset(AbstractVersionedDataset):
    """Base class of the project's file datasets. A subclass has `read` and `save`.

    Attributes:
        optional: whether `load` returns None where nothing has been saved yet, so that a run need not wait for it.
        metadata: for other tools, such as Kedro-Viz.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, optional: bool = False, metadata: dict | None = None
    ) -> None:
        super().__init__(filepath=PurePosixPath(filepath), version=version, glob_function=self._files)
        self.optional = optional
        self.metadata = metadata

    def load(self) -> Any:
        """Load the file, or return None if the dataset is optional and nothing has been saved yet.

        Raises:
            InputError: the file is damaged, or was written by another version of this project.
        """
        if self.optional and self.missing():
            return None
        return self._readable("Create it again, or move it away.")

    def check(self, command: str) -> None:
        """Read the file, if there is one; called before a run that needs it.

        Args:
            command: creates it again, for the message.

        Raises:
            InputError: as `load`.
        """
        if self.exists():
            self._readable(f"Create it again with {command}, or move it away.")

    def read(self, path: Path) -> Any:
        """Read a file that exists; any exception means that it is damaged."""
        raise NotImplementedError

    def _readable(self, advice: str) -> Any:
        with readable(self.path, advice):
            return self.read(self.path)

    @property
    def path(self) -> Path:
        """The file that a load reads: the version that was asked for, else the one just saved, else the latest."""
        return Path(self._get_load_path())

    @property
    def has_versions(self) -> bool:
        """Whether each run saves a version of its own; Kedro uses the name `versioned` for something else."""
        return self._version is not None

    def missing(self) -> bool:
        """Return whether nothing has been saved yet.

        Raises:
            InputError: a version was requested that does not exist.
        """
        if self.exists():
            return False
        requested = self._version and self._version.load
        if not requested:
            return True
        versions = sorted(self.list_versions(full_path=False))
        raise InputError(
            f"{self._filepath} has no version {requested}: "
            + (f"it has {', '.join(versions)}." if versions else "nothing has been saved there yet.")
        )

    def _files(self, pattern: str) -> list[str]:
        """Return the file of each version; Kedro's pattern has the whole path in it, in which `[` can occur."""
        folder = Path(self._filepath)
        return [str(path) for path in folder.glob(f"*/{folder.name}")]

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


class WrappedDataset(LocalDataset):
    """A file that a dataset class of `kedro_datasets` reads and writes; what is added is atomic saving.

    A subclass sets `WRAPPED` to that class, and `FS_ARGS` if its files are not text. Options that this class does not
    know are passed on to it.
    """

    WRAPPED: Any
    FS_ARGS: ClassVar[dict] = {
        f"open_args_{action}": {"encoding": "utf-8"} for action in ("load", "save")
    }  # whatever the locale

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        optional: bool = False,
        metadata: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(filepath=filepath, version=version, optional=optional, metadata=metadata)
        self.options = options

    def read(self, path: Path) -> Any:
        """Read the file as the wrapped class does."""
        try:
            return self._wrap(path).load()
        except DatasetError as error:  # which has Kedro's description of the dataset before what is wrong
            raise error.__cause__ or error from error

    def save(self, data: Any) -> None:
        """Save under a temporary name, and rename the file once it is complete."""
        with atomic(Path(self._get_save_path())) as path:
            self._write(path, data)

    def _write(self, path: Path, data: Any) -> None:
        try:
            self._wrap(path).save(data)
        except DatasetError as error:
            if isinstance(error.__cause__, OSError):  # a full disk, which `atomic` explains
                raise error.__cause__ from error
            raise

    def _newest(self) -> Any:
        return self._wrap(self.path)

    def _wrap(self, path: Path) -> Any:
        return self.WRAPPED(filepath=path.as_posix(), **{"fs_args": self.FS_ARGS, **self.options})
