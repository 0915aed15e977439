"""The exception that means that the input is wrong, not the program."""

import difflib
from collections.abc import Collection


class InputError(Exception):
    """A problem that the user can fix: a file, a parameter, or the order of commands.

    Its message says in one or two sentences what is wrong, where, and what to do. The command line prints it without a
    traceback.
    """


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Suggest the known name that is closest to `name`, or list all of them if none is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"valid names: {', '.join(sorted(known))}."
