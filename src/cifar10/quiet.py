"""Keep TensorFlow's start-up messages off the terminal.

Its C++ code writes them to the standard error stream of the process while it is imported, before any setting can hide
them: that oneDNN is on, and that there is no CUDA driver.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

STARTUP_MESSAGES = (
    b"absl::InitializeLog",
    b"oneDNN custom operations",
    b"cuda drivers",
    b"cuInit",
    b"cpu_feature_guard",
)


class QuietImport(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as Python does, and has it imported without its start-up messages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's own specification, with a loader that hides the messages."""
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            load: Any = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                with hidden_messages():
                    load(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


@contextmanager
def hidden_messages() -> Iterator[None]:
    """Hide the start-up messages that are written to standard error, and pass on everything else afterwards."""
    try:
        descriptor = sys.__stderr__.fileno() if sys.__stderr__ else -1
        saved = os.dup(descriptor)
    except (OSError, ValueError):  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            os.dup2(saved, descriptor)
            os.close(saved)
            file.seek(0)
            for line in file:
                if not any(message in line for message in STARTUP_MESSAGES):
                    os.write(descriptor, line)
