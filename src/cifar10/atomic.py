"""Files that are written completely or not at all."""

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cifar10.errors import InputError
from cifar10.store import UNFINISHED, put

ELSEWHERE = (
    "use another folder (--params=data_root=FOLDER; published_root=FOLDER for published models, docs_root=FOLDER for "
    "docs)"
)
ABANDONED = 3600.0  # seconds after which an unfinished file is taken to be left by a run that was killed


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Provide a temporary path beside the target; when the block ends, sync that file to disk and rename it.

    The path is different each time, because two runs may write to the same target: both files are complete, and the
    later one remains. If anything fails before (a full disk, Ctrl-C), neither the file nor a folder created for it is
    left behind, and an existing target is unchanged.

    Raises:
        InputError: the disk is full, or the folder is not writable.
    """
    created = _missing(target.parent)
    unfinished = target.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(target)
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        put(unfinished, target)
        unfinished.replace(target)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        remove_empty(created)
        if isinstance(error, OSError):
            raise unwritable(target, error) from error
        raise


def share(path: Path) -> None:
    """Give a file the permissions of any new one, because a temporary file is readable for its owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    with suppress(OSError):  # some network drives have no permissions
        path.chmod(0o666 & ~umask)


def remove_abandoned(target: Path) -> None:
    """Remove temporary files and folders of this target that a killed run has left behind."""
    for path in target.parent.glob(f"{UNFINISHED}*-{glob.escape(target.name)}"):
        with suppress(OSError):  # another run may be doing the same
            if is_abandoned(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_abandoned(path: Path) -> bool:
    """Return whether nothing in a file or folder has been changed for an hour."""
    try:
        return time.time() - max(each.stat().st_mtime for each in (path, *path.rglob("*"))) > ABANDONED
    except FileNotFoundError:  # another run has just completed it
        return False


def unwritable(target: Path, error: OSError) -> InputError:
    """Return the error to raise when a file or folder could not be written."""
    return InputError(
        f"{target} could not be written: {error.strerror or error}. No incomplete file is left behind, and what was "
        f"saved before is unchanged. Free disk space, make the folder writable, or {ELSEWHERE}; then run the command "
        "again."
    )


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Provide a temporary folder beside a target that does not exist yet, and rename it once it is complete.

    If anything fails before, neither the folder nor one created for it is left behind.

    Raises:
        InputError: the disk is full, or the folder is not writable.
    """
    created = _missing(target.parent)
    unfinished = target.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{target.name}")
    try:
        unfinished.mkdir(parents=True)
        remove_abandoned(target)
        yield unfinished
        put(unfinished, target)
        unfinished.rename(target)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        remove_empty(created)
        if isinstance(error, OSError):
            raise unwritable(target, error) from error
        raise


def check_writable(folder: Path) -> None:
    """Check that files can be saved in a folder, which need not exist yet.

    Raises:
        InputError: it or a folder around it is a file, a link to nowhere, or not writable.
    """
    existing = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if existing.is_dir():
        why = "" if os.access(existing, os.W_OK | os.X_OK) else "is not writable"
    elif existing.is_symlink():
        why = f"is a link to {existing.readlink()}, which does not exist, as where a drive is not connected"
    else:
        why = "is a file"
    if why:
        raise InputError(f"Nothing can be saved in {folder}, because {existing} {why}. Change that, or {ELSEWHERE}.")


def new_folder(folder: Path) -> list[Path]:
    """Create a folder, and return it with those created around it, innermost first; an empty list if it exists.

    Of several runs that do this at once, one alone creates the folder.

    Raises:
        InputError: the disk is full, or the folder around it is not writable.
    """
    created = _missing(folder)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        if isinstance(error, FileExistsError) and folder.parent.is_dir():  # and no link to nowhere
            return []
        remove_empty(created)
        raise unwritable(folder, error) from error
    return created


def _missing(folder: Path) -> list[Path]:
    """Return this folder and those around it that do not exist, innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, innermost first, up to the first that is not empty."""
    with suppress(OSError):  # another run may have written something there in the meantime
        for folder in folders:
            folder.rmdir()
