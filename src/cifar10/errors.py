"""The exception that means that the input is wrong, not the program."""

import difflib
from collections.abc import Collection

MANY = 8  # names that are listed at most


class InputError(Exception):
    """A problem that the user can fix: a file, a parameter, or the order of commands.

    Its message says in one or two sentences what is wrong, where, and what to do. The command line prints it without a
    traceback.
    """


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a hint at the most similar valid name; if none is similar, at all of them, or at the nearest of many."""
    close = difflib.get_close_matches(name, known, n=len(known))
    if not close:
        listed = sorted(known) if len(known) <= MANY else difflib.get_close_matches(name, known, n=MANY, cutoff=0)
        others = f" and {len(known) - MANY} others" if len(known) > MANY else ""
        return f"valid names: {', '.join(listed)}{others}."

    def similarity(other: str) -> tuple[float, float]:
        """Compare the order of the letters, then the letters alone, so that swapped ones count as similar."""
        matcher = difflib.SequenceMatcher(None, name, other)
        return matcher.ratio(), matcher.quick_ratio()

    return f"did you mean {max(close, key=similarity)}?"
