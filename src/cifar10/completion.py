"""Completion of names in bash and zsh, by click: `eval "$(_KEDRO_COMPLETE=bash_source kedro)"`."""

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class

BREAKS = ("=", ":")  # of COMP_WORDBREAKS, those that occur in this project's commands


class Names(click.types.StringParamType):
    """Text that is a name, or several with commas between them, which the shell completes."""

    def __init__(self, known: Callable[[dict[str, Any]], Iterable[str]], *, several: bool = False) -> None:
        """Store what to complete.

        Args:
            known: returns the names that exist, given the other options on the command line.
            several: whether names may follow each other, with commas between them.
        """
        self.known, self.several = known, several

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the last name; nothing, if the names cannot be found out."""
        before, comma, begun = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        try:
            names = [name for name in self.known(ctx.params) if name not in before.split(",")]
        except Exception:  # whatever it is, the command itself will report it
            return []
        return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(begun)]


@add_completion_class
class _Bash(BashComplete):
    """Bash makes three words of `--env=demo` and of `vgg16:VERSION`, and completes the last of them."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Put such words together again, because click does not."""
        args, incomplete = super().get_completion_args()
        words: list[str] = []
        joins = False
        for word in [*args, incomplete]:
            if words and (joins or word in BREAKS):
                words[-1] += word
            else:
                words.append(word)
            joins = word in BREAKS
        *args, joined = words
        self.kept = joined if incomplete in BREAKS else joined.removesuffix(incomplete)
        return args, joined

    def format_completion(self, item: CompletionItem) -> str:
        """Leave out what Bash keeps."""
        return f"{item.type},{item.value.removeprefix(self.kept)}"


@add_completion_class
class _Zsh(ZshComplete):
    """Zsh replaces the whole of `--env=de`, for which click returns `demo`."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Put the option before its values."""
        option, equals, _ = incomplete.partition("=")
        items = super().get_completions(args, incomplete)
        if equals and option.startswith("-"):
            for item in items:
                item.value = f"{option}={item.value}"
        return items
