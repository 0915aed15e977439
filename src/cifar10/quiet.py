"""Keep TensorFlow's start-up messages off the terminal.

Its C++ code writes them to the standard error stream of the process while it is imported, before any setting can hide
them: that oneDNN is on, and that there is no CUDA driver.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

STARTUP_MESSAGES = (
    b"absl::InitializeLog",
    b"oneDNN custom operations",
    b"cuda drivers",
    b"cuInit",
    b"cpu_feature_guard",
)


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
