"""Data in an object store: whatever fsspec reaches by a URL, read and written by way of local copies.

Everything else in this project works on local files. In place of a URL, it gets a path in the user's cache folder. What
is read there is fetched first, and what is saved there is put into the store, as whole objects, before it appears in
the copy. So the store is what counts, and the copy can be deleted at any time. Of local data, nothing here does
anything.
"""

import functools
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from cifar10.errors import InputError, reason

logger = logging.getLogger(__name__)

NEEDED = "pip install -c constraints.txt -e '.[store]'"
UNFINISHED = ".unfinished-"  # prefix of a file or folder that is being written: it stays on this machine,
LOCK = "lock"  # as do the locks of trainings
TIMES = ("LastModified", "last_modified", "mtime", "created")  # of an object, as file systems call it; the first counts
LARGE = 10e6  # bytes to fetch of which the log tells

# Folder of the copies -> the file system of fsspec that they are copies of; its name is the protocol.
_COPIES: dict[Path, Any] = {}


def local(filepath: str) -> str:
    """Return the path of the local copy of a URL, and a path as it is.

    Raises:
        InputError: fsspec does not know the protocol, or needs a package that is not installed.
    """
    if "://" not in filepath:
        return filepath
    import pooch
    from fsspec.core import url_to_fs

    os.environ.setdefault("AWS_MAX_ATTEMPTS", "3")  # of botocore, which s3fs repeats five times if nothing answers
    try:
        filesystem, key = url_to_fs(filepath, use_listings_cache=False)  # other machines write there, too
    except ImportError as error:
        raise InputError(
            f"{filepath} cannot be used: {reason(error)}. For s3://, install the extra: {NEEDED}"
        ) from error
    except ValueError as error:
        raise InputError(f"{filepath} cannot be used: {reason(error)}. Name a folder, or a URL as in s3://") from error
    if "http" in filesystem.protocol:
        raise InputError(
            f"{filepath} cannot be used: nothing can be written there. Name a folder, or a URL as in s3://"
        )
    copies = Path(pooch.os_cache("cifar10"), filepath.partition("://")[0]).absolute()
    _COPIES[copies] = filesystem
    return (copies / key.lstrip("/")).as_posix()


def fetch(path: Path, *patterns: str) -> None:
    """Bring the local copy of a file, or of all files in a folder, up to date with the store.

    A file is fetched unless size and time are those of the object, as rsync compares them.

    Args:
        path: of the copy.
        patterns: of paths in the folder, if only some of its files are read.

    Raises:
        InputError: the store does not answer, or refuses.
    """
    if not (found := _object(path)):
        return
    filesystem, key = found
    # Before the objects are listed: what another run saves here after that is no remainder.
    here = [each for each in (path, *path.rglob("*")) if each.is_file() and not _stays(each.relative_to(path))]
    with _answering(path, "read"):
        there = {
            path / name.removeprefix(key).lstrip("/"): info
            for name, info in filesystem.find(key, detail=True).items()
            if not name.endswith("/")  # an empty object that stands for a folder
        }
        there = {each: info for each, info in there.items() if _matches(each, path, patterns)}
        _download(filesystem, {each: info for each, info in there.items() if not _is_current(each, info)})
    for each in here:
        if each not in there and _matches(each, path, patterns):
            each.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for folder in each.relative_to(path).parents:
                    (path / folder).rmdir()


def put(source: Path, target: Path) -> None:
    """Put a file, or all files in a folder, into the store, as what they are going to be in its local copy.

    Raises:
        InputError: the store does not answer, or refuses.
    """
    if not (found := _object(target)):
        return
    filesystem, key = found
    try:
        with _answering(target, "written"):
            for each in sorted(source.rglob("*")) if source.is_dir() else [source]:
                if each.is_file():
                    name = f"{key}/{each.relative_to(source).as_posix()}".removesuffix("/.")
                    filesystem.put_file(str(each), name)
                    _stamp(each, filesystem.info(name))
    except BaseException:
        if source.is_dir():  # a part of which may be there
            with suppress(InputError):
                delete(target)
        raise


def delete(path: Path) -> None:
    """Delete a file, or all files in a folder, from the store, but not their local copy.

    Raises:
        InputError: the store does not answer, or refuses.
    """
    if found := _object(path):
        filesystem, key = found
        with _answering(path, "deleted"):
            if names := list(filesystem.find(key)):
                filesystem.rm(names)


@functools.cache
def check_writable(folder: Path) -> None:
    """Check that objects can be put into a folder of the store, and deleted.

    Raises:
        InputError: they cannot.
    """
    if found := _object(folder):
        filesystem, key = found
        with _answering(folder, "written"):
            filesystem.pipe_file(f"{key}/.writable", b"")
            filesystem.rm_file(f"{key}/.writable")


def is_local(path: Path) -> bool:
    """Return whether a path is not that of a local copy."""
    return _object(path) is None


def check_local(path: Path, what: str) -> None:
    """Refuse what only works on local files, because it takes locks or renames folders.

    Raises:
        InputError: the path is one of a local copy.
    """
    if not is_local(path):
        raise InputError(f"{what} needs a local folder, but the data are in {with_urls(str(path))}.")


def with_urls(text: str) -> str:
    """Return a text in which local copies have their URLs."""
    for copies in _COPIES:
        text = text.replace(f"{copies}{os.sep}", f"{copies.name}://")
    return text


def _object(path: Path) -> tuple[Any, str] | None:
    """Return the file system and the key of what a path is the local copy of; None if it is none, or stays here."""
    for copies, filesystem in _COPIES.items():
        if path.is_relative_to(copies) and not _stays(path.relative_to(copies)):
            return filesystem, filesystem.root_marker + path.relative_to(copies).as_posix()
    return None


@contextmanager
def _answering(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the network, of the store or of the library that speaks to it
        raise InputError(
            f"{with_urls(str(path))} could not be {what}: {reason(error)}. Check the name of the bucket, your "
            "credentials and permissions, and the endpoint (docs/store.md); then run the command again."
        ) from error


def _stays(path: Path) -> bool:
    return path.name == LOCK or any(part.startswith(UNFINISHED) for part in path.parts)


def _matches(path: Path, folder: Path, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch(path.relative_to(folder).as_posix(), each) for each in patterns)


def _download(filesystem: Any, objects: dict[Path, Any]) -> None:
    """Fetch objects, each of which appears completely or not at all."""
    if not objects:
        return
    if (size := sum(info["size"] for info in objects.values())) > LARGE:
        place = Path(os.path.commonpath(objects))
        logger.info("Fetching %.0f MB from %s", size / 1e6, with_urls(str(place)))
    copies = next(each for each in _COPIES if _COPIES[each] is filesystem)
    copies.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=copies) as folder:
        files = [Path(folder, str(number)) for number in range(len(objects))]
        filesystem.get([info["name"] for info in objects.values()], [str(file) for file in files])
        for file, (path, info) in zip(files, objects.items(), strict=True):
            _stamp(file, info)
            path.parent.mkdir(parents=True, exist_ok=True)
            file.replace(path)


def _stamp(path: Path, info: dict[str, Any]) -> None:
    """Give a file the time of its object."""
    if (modified := _modified(info)) is not None:
        os.utime(path, (modified, modified))


def _is_current(path: Path, info: dict[str, Any]) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return (found.st_size, int(found.st_mtime)) == (info["size"], _modified(info))


def _modified(info: dict[str, Any]) -> int | None:
    """Return when an object was put, in whole seconds, as S3 tells it; None if the store does not."""
    time = next((info[name] for name in TIMES if info.get(name) is not None), None)
    return None if time is None else int(time.timestamp() if isinstance(time, datetime) else time)
