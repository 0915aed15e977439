"""Do something around the import of a module, wherever and whenever it is imported first."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any


def around_import(name: str, context: Callable[[], AbstractContextManager[None]]) -> None:
    """Enter a context around the import of a module; at once, if it has been imported before."""
    if name in sys.modules:
        with context():
            pass
    else:
        sys.meta_path.insert(0, _ImportHook(name, context))


class _ImportHook(importlib.abc.MetaPathFinder):
    """Finds a module as Python does, and has it imported inside a context."""

    def __init__(self, name: str, context: Callable[[], AbstractContextManager[None]]) -> None:
        """Store the name of the module, and what makes the context."""
        self.name, self.context = name, context
        self.searching = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own specification, with a loader that enters the context."""
        if fullname != self.name or self.searching:
            return None
        self.searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self.searching = False
        if spec and spec.loader:
            load: Any = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with self.context():
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
