"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
            raise unwritable(target, error) from error
        raise


def unwritable(target: Path, error: OSError) -> InputError:
    """What to say when a file or folder could not be written."""
    return InputError(
        f"{target} could not be written: {error.strerror or error}. Nothing of it is left behind, and what was saved "
        "before is as it was. Make room or give write access there, or move all data with --params=data_root=FOLDER, "
        "then run the command again."
    )
