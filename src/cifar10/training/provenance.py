"""What a figure was made with: code, libraries, hardware."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import keras

import cifar10


def provenance() -> dict[str, Any]:
    """Versions of the code and of the libraries that compute, and the machine they compute on."""
    backend = keras.backend.backend()
    libraries = dict.fromkeys(["keras", backend, "numpy"])  # each once, in this order
    return {
        "versions": {
            "cifar10": cifar10.__version__,
            "commit": _commit(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in libraries},
        },
        "hardware": _hardware(),
        "precision": keras.mixed_precision.global_policy().name,
    }


def _commit() -> str | None:
    """The git commit this code stands at, `-dirty` where it was changed since; None outside a checkout."""
    folder = pathlib.Path(cifar10.__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607  whichever git the user has
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _hardware() -> str:
    gpus = keras.distribution.list_devices("gpu")
    return ", ".join(gpus) if gpus else f"{_processor()}, {_cores()} cores"


def _cores() -> int:
    """The cores this process may use, which on a shared machine can be fewer than it has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    """The processor's model name; on Linux `platform.processor()` has none."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
