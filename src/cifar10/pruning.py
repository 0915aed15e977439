"""Find and delete old versions of artifacts."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

FOLDERS = ("06_models", "07_model_output", "08_reporting")
DELETED = ".deleted-"  # prefix of a version that is being deleted
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")  # as Kedro names them


class OldVersion(NamedTuple):
    """A version that can be deleted.

    Attributes:
        path: its folder, or its file.
        megabytes: the disk space that deleting it frees.
    """

    path: Path
    megabytes: float


def old_versions(root: Path, keep: int) -> list[OldVersion]:
    """Return all versions of each artifact in a data folder except the latest `keep`, the oldest first.

    Models that the latest leaderboard names are kept, however old they are. The predictions of a model are kept as long
    as the model. Leftovers of an interrupted deletion are returned, too.
    """
    named = _named_by_leaderboard(root)
    old = []
    for artifact in sorted(path for layer in FOLDERS for path in (root / layer).glob("*") if path.is_dir()):
        versions = sorted(path for path in artifact.iterdir() if _is_version(path))
        old += [
            folder
            for folder in [*artifact.glob(f"{DELETED}*"), *versions[:-keep]]
            if (artifact.name, folder.name) not in named
        ]
    old += _predictions_without_model(root, set(old))
    return [OldVersion(path, _megabytes(path)) for path in old]


def delete(versions: list[OldVersion]) -> None:
    """Delete these versions; each folder is renamed first, so that no run ever finds an incomplete one."""
    for path, _ in versions:
        if path.is_file():
            path.unlink()
            continue
        if not path.name.startswith(DELETED):
            path = path.rename(path.with_name(DELETED + path.name))
        shutil.rmtree(path)


def _is_version(path: Path) -> bool:
    """Return whether this is the folder of a version, and not that of a save that has failed or is not complete yet."""
    return VERSION.fullmatch(path.name) is not None and (path / path.parent.name).exists()


def _predictions_without_model(root: Path, old: set[Path]) -> Iterator[Path]:
    for path in sorted((root / "07_model_output/predictions").glob("*/*.npz")):
        model = root / "06_models" / f"{path.parent.name}.keras" / path.stem
        if model in old or not model.is_dir():
            yield path


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files) / 1e6


def _named_by_leaderboard(root: Path) -> set[tuple[str, str]]:
    boards = sorted((root / "08_reporting/leaderboard.csv").glob("*/leaderboard.csv"))
    if not boards:
        return set()
    board = pd.read_csv(boards[-1], dtype=str)
    return set(zip(board.architecture + ".keras", board.model_version, strict=True))
