"""How this project's datasets find, read and write their files: completely or not at all."""

import logging
import re
import warnings
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import generate_timestamp

from cifar10 import store
from cifar10.atomic import atomic, check_writable, new_folder, remove_empty
from cifar10.errors import InputError, entries, readable

logger = logging.getLogger(__name__)

# Kedro warns if a dataset loads another version than the run's. Here it loads what it has saved, whatever its version.
warnings.filterwarnings("ignore", message="Save version .* did not match load version")

VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")  # as Kedro names them

# Version of a run -> the one under which the run saves instead, in all of its datasets, so that they stay together.
_REPLACED: dict[str, str] = {}


def version_files(folder: Path) -> list[Path]:
    """Return the file of each version of an artifact, the oldest first.

    Whatever else lies beside the versions, such as a copy of one under another name, is none. It would be newer than
    all of them, because letters sort after digits.

    Raises:
        InputError: the folder may not be read.
    """
    return [each / folder.name for each in entries(folder) if VERSION.fullmatch(each.name) and is_version(each)]


def is_version(folder: Path) -> bool:
    """Return whether this folder has the file of its artifact, which every save writes last."""
    return (folder / folder.parent.name).exists()


class LocalDataset(AbstractVersionedDataset):
    """Base class of the project's file datasets. A subclass has `read` and `write`.

    In place of a local path, `filepath` may be a URL of an object store: then `read` and `write` get that of a local
    copy, which is brought up to date when it is first read, and again once the run has released it.

    Attributes:
        FETCHED: pattern of the paths below `filepath` that are read.
        optional: whether `load` returns None where nothing has been saved yet, so that a run need not wait for it.
        metadata: for other tools, such as Kedro-Viz.
        saved: whether this run has saved it.
    """

    FETCHED: ClassVar[str] = "*"

    def __init__(
        self, *, filepath: str, version: Version | None = None, optional: bool = False, metadata: dict | None = None
    ) -> None:
        super().__init__(filepath=PurePosixPath(store.local(filepath)), version=version, glob_function=self._files)
        self.optional = optional
        self.metadata = metadata
        self.saved = False
        self._fetched = False
        self._saved_version: str | None = None

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

    def save(self, data: Any) -> None:
        """Save under the version of this run, in a folder that no other run writes to.

        Versions are the milliseconds in which runs start. If another run has saved under this one, take the present
        millisecond, for whatever else this run saves, too.

        Raises:
            InputError: the disk is full, or the folder is not writable.
        """
        version = self.resolve_save_version()
        if version is None:
            self.write(Path(self._filepath), data)
        else:
            self._saved_version = self._save_version(version, data)
        self.saved = True

    def _save_version(self, wanted: str, data: Any) -> str:
        """Save under this version, or another one if it is taken, and return it."""
        version = _REPLACED.get(wanted, wanted)
        while not (created := new_folder(Path(self._get_versioned_path(version)).parent)):
            version = _REPLACED[wanted] = generate_timestamp()
            logger.warning("%s already has version %s: this run saves as %s", self._filepath, wanted, version)
        try:
            self.write(Path(self._get_versioned_path(version)), data)
        except BaseException:
            remove_empty(created)
            raise
        return version

    def write(self, path: Path, data: Any) -> None:
        """Write a file that does not exist yet, or replace one without versions: completely or not at all."""
        raise NotImplementedError

    def _readable(self, advice: str) -> Any:
        self._place()
        with readable(self.path, advice):
            return self.read(self.path)

    @property
    def path(self) -> Path:
        """The file that a load reads: the version that this run has saved, else that was asked for, else the latest."""
        return Path(self._get_load_path())

    def resolve_load_version(self) -> str | None:
        """Return the version to load, or None without versions: another run may have saved a later one by now."""
        return self._saved_version or super().resolve_load_version()

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

    def check_writable(self) -> None:
        """Check, before a run that saves it, that this is possible.

        Raises:
            InputError: it is not.
        """
        path = Path(self._filepath)
        check_writable(path if self.has_versions or path.is_dir() else path.parent)
        store.check_writable(path.parent)

    def others(self) -> list[str]:
        """Return the names of the folders beside the versions that are no versions."""
        found = entries(self._place()) if self.has_versions else []
        return [each.name for each in found if not each.name.startswith(".") and not VERSION.fullmatch(each.name)]

    def _files(self, pattern: str) -> list[str]:
        """Return the file of each version; Kedro's pattern is not used, which takes any folder for a version."""
        return [str(path) for path in version_files(self._place())]

    def _exists(self) -> bool:
        place = self._place()
        return self.path in version_files(place) if self.has_versions else place.exists()

    def _place(self) -> Path:
        """Return the file, or the folder of its versions; of a store, a copy that has what others have saved."""
        path = Path(self._filepath)
        if not (self._fetched or self.saved):
            store.fetch(path, self.FETCHED)
            self._fetched = True
        return path

    def _release(self) -> None:
        super()._release()
        self._fetched = False

    def _init_config(self) -> dict[str, Any]:
        # Of a class that inherits its constructor, Kedro keeps the arguments of its own wrapper around that.
        arguments: dict[str, Any] = vars(self)["_init_args"]
        self._init_args = arguments.get("kwargs", arguments)
        return super()._init_config()

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

    def write(self, path: Path, data: Any) -> None:
        """Write under a temporary name, and rename the file once it is complete."""
        with atomic(path) as unfinished:
            self._write(unfinished, data)

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
