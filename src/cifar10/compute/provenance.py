"""The code, libraries and hardware that produced a result."""

import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import keras

import cifar10
from cifar10.compute.device import hardware, uses_onednn, uses_xla


def provenance() -> dict[str, Any]:
    """Return `versions`, `hardware`, `onednn` and `xla` as in a `Record`."""
    backend = keras.backend.backend()
    return {
        "versions": {
            "cifar10": cifar10.__version__,
            "commit": _commit(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("keras", backend, "numpy")},
        },
        "hardware": hardware(),
        "onednn": uses_onednn(),
        "xla": uses_xla(),
    }


def _commit() -> str | None:
    """Return the git commit of this code, with `-dirty` if it has uncommitted changes; None outside a checkout."""
    folder = pathlib.Path(cifar10.__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607  the git on the user's PATH
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
