"""Files that are written whole or not at all."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cifar10.errors import InputError

UNFINISHED = ".unfinished-"
ABANDONED = 3600.0  # seconds; what was begun so long ago is of a run that was killed


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Give a temporary path beside the target; once it is written and on disk, rename it to the target.

    It is a path of its own each time, for two runs may write to one target at once: each is whole, the later one stays.
    Whatever goes wrong before that (a full disk, Ctrl-C) leaves neither the file nor a folder made for it, and what
    stood there before as it was.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]  # innermost first
    unfinished = target.with_name(f"{UNFINISHED}{secrets.token_hex(4)}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
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
            raise unwritable(target, error) from error
        raise


def _remove_abandoned(target: Path) -> None:
    for path in target.parent.glob(f"{UNFINISHED}*-{target.name}"):
        with suppress(OSError):  # another run may do the same
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def unwritable(target: Path, error: OSError) -> InputError:
    """What to say when a file or folder could not be written."""
    return InputError(
        f"{target} could not be written: {error.strerror or error}. Nothing of it is left behind, and what was saved "
        "before is as it was. Make room or give write access there, or move all data with --params=data_root=FOLDER, "
        "then run the command again."
    )
