"""The one exception that means: the input is wrong, not the program."""

import difflib
from collections.abc import Collection


class InputError(Exception):
    """A file, a parameter or an order of commands that the user can put right.

    Its message is one clear sentence or two: what is wrong, where, and what to do. The command line prints it
    without a traceback.
    """


def did_you_mean(name: str, known: Collection[str]) -> str:
    """The names to choose from, the closest one first if there is one."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}."
