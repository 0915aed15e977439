"""The exception that means that the input is wrong, not the program."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

MANY = 8  # names that are listed at most
BUSY = 75  # exit code of a BusyError: EX_TEMPFAIL of sysexits.h, which batch systems take as "try again later"


class InputError(Exception):
    """A problem that the user can fix: a file, a parameter, or the order of commands.

    Its message says in one or two sentences what is wrong, where, and what to do. The command line prints it without a
    traceback.

    Args:
        message: the sentences. They may quote a damaged file: what cannot be printed, such as a line break, is escaped.
        details: are listed below the message, one per line.
    """

    def __init__(self, message: str, details: Iterable[str] = ()) -> None:
        super().__init__("\n  ".join(map(_printable, (message, *details))))

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in a notebook instead of a traceback."""
        return [f"Error: {self}"]


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class RecipeError(InputError):
    """A recipe that cannot be trained, although its options are valid: another recipe can be."""


class SchemaError(InputError):
    """A file that another version of the project has written."""


class BusyError(InputError):
    """Another run is doing the same: it can be waited for."""


@contextmanager
def readable(path: Path, advice: str) -> Iterator[None]:
    """Raise `InputError` with the name of a file, whatever goes wrong while it is read.

    Args:
        path: the file, or the folder.
        advice: what to do about it, in a sentence.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise almost any exception
        why = error.strerror if isinstance(error, OSError) and error.strerror else reason(error)
        raise InputError(f"{path} could not be read: {why}. {advice}") from error


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted by name; nothing if there is no such folder.

    Raises:
        InputError: the folder may not be read. `Path.glob` would find nothing in it.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise InputError(forbidden(error)) from error


def forbidden(error: PermissionError) -> str:
    """Return what to do about a file or folder that this user may not use."""
    return f"{error.filename} could not be read or written: {error.strerror}. Give this user the permission."


def reason(error: BaseException) -> str:
    """Return the first line of an error, without the memory addresses of objects in it."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error)).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a hint at the most similar valid name; if none is similar, at all of them, or at the nearest of many."""
    if similar := nearest(name, known):
        return f"did you mean {similar}?"
    listed = sorted(known) if len(known) <= MANY else difflib.get_close_matches(name, known, n=MANY, cutoff=0)
    others = f" and {len(known) - MANY} others" if len(known) > MANY else ""
    return f"valid names: {', '.join(listed)}{others}."


def nearest(name: str, known: Collection[str], cutoff: float = 0.6) -> str | None:
    """Return the name that is most similar, from `cutoff` to 1; None if none is."""

    def similarity(other: str) -> tuple[float, float]:
        """Compare the order of the letters, then the letters alone, so that swapped ones count as similar."""
        matcher = difflib.SequenceMatcher(None, name, other)
        return matcher.ratio(), matcher.quick_ratio()

    parts = sorted(other for other in known if name in other.split("."))  # as `rank` is one of `reporting.rank`
    close = parts or difflib.get_close_matches(name, known, n=len(known), cutoff=cutoff)
    return max(close, key=similarity, default=None)
