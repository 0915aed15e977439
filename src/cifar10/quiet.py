"""Keep messages of TensorFlow and LiteRT off the terminal that no setting can hide.

Their C++ code writes them to the standard error stream of the process: while TensorFlow is imported, that oneDNN is on
and that there is no CUDA driver; during an export, how LiteRT quantizes and by what it runs.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGES = (
    b"absl::InitializeLog",
    b"oneDNN custom operations",
    b"cuda drivers",
    b"cuInit",
    b"cpu_feature_guard",
    b"fully_quantize:",
    b"XNNPACK delegate",
)


@contextmanager
def hidden_messages() -> Iterator[None]:
    """Hide these messages where they are written to standard error, and pass on everything else afterwards."""
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
                if not any(message in line for message in MESSAGES):
                    os.write(descriptor, line)
