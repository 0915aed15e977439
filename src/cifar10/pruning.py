"""Which old versions can go."""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

FOLDERS = ("06_models", "07_model_output", "08_reporting")
GOING = ".deleted-"  # before the name of a version that is being deleted
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}\.\d{2}\.\d{2}\.\d{3}Z")  # as Kedro names them


class Old(NamedTuple):
    """A version that can go.

    Attributes:
        folder: that it lies in.
        megabytes: that this frees.
    """

    folder: Path
    megabytes: float


def old_versions(root: Path, keep: int) -> list[Old]:
    """Versions of every artefact in a data folder but the last `keep`, by name, the oldest first.

    Models that the latest leaderboard names stay, however old they are; what a killed deletion left goes.
    """
    named = _named_by_leaderboard(root)
    old = []
    for artefact in sorted(path for layer in FOLDERS for path in (root / layer).glob("*") if path.is_dir()):
        versions = sorted(path for path in artefact.iterdir() if path.is_dir() and VERSION.fullmatch(path.name))
        for folder in [*artefact.glob(f"{GOING}*"), *versions[:-keep]]:
            if (artefact.name, folder.name) not in named:
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                old.append(Old(folder, size / 1e6))
    return old


def delete(versions: list[Old]) -> None:
    """Delete these folders, each renamed first, so that none is ever seen half deleted."""
    for each in versions:
        going = each.folder
        if not going.name.startswith(GOING):
            going = each.folder.rename(each.folder.with_name(GOING + each.folder.name))
        shutil.rmtree(going)


def _named_by_leaderboard(root: Path) -> set[tuple[str, str]]:
    boards = sorted((root / "08_reporting/leaderboard.csv").glob("*/leaderboard.csv"))
    if not boards:
        return set()
    board = pd.read_csv(boards[-1], dtype=str)
    return set(zip(board.architecture + ".keras", board.model_version, strict=True))
