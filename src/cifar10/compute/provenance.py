"""The code, libraries and hardware that produced a result. Imports Keras only where the latter are needed."""

import hashlib
import importlib.metadata
import pathlib
import platform
import subprocess
from typing import Any

import cifar10

PACKAGE = pathlib.Path(cifar10.__file__).parent


def provenance() -> dict[str, Any]:
    """Return `versions`, `sources`, `hardware`, `devices`, `onednn` and `xla` as in a `Record`."""
    import keras

    from cifar10.compute import parallel
    from cifar10.compute.device import hardware, uses_onednn, uses_xla

    backend = keras.backend.backend()
    return {
        "versions": {
            "cifar10": cifar10.__version__,
            "commit": _commit(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("keras", backend, "numpy")},
        },
        "sources": sources(),
        "hardware": hardware(),
        "devices": parallel.count(),
        "onednn": uses_onednn(),
        "xla": uses_xla(),
    }


def sources(package: pathlib.Path = PACKAGE) -> str:
    """Return the first 12 digits of a SHA-256 over the Python files of the package, by path; line ends do not count."""
    sha = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        sha.update(f"{path.relative_to(package).as_posix()}\n{path.read_text(encoding='utf-8')}\0".encode())
    return sha.hexdigest()[:12]


def _commit(package: pathlib.Path = PACKAGE) -> str | None:
    """Return the git commit of this code, with `-dirty` if it has uncommitted changes; None outside its checkout.

    An environment in the folder of another repository is inside that repository, but not tracked by it.
    """
    try:
        _git(package, "ls-files", "--error-unmatch", "__init__.py")
        return _git(package, "describe", "--always", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: pathlib.Path, *arguments: str) -> str:
    command = ["git", *arguments]  # the git on the user's PATH
    result = subprocess.run(command, cwd=folder, capture_output=True, check=True)  # noqa: S603
    return result.stdout.decode().strip()  # errors are in the language of the user, and perhaps in another encoding
