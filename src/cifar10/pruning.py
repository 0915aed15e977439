"""Find and delete old versions of artifacts, and what killed runs have left behind."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cifar10.atomic import UNFINISHED, is_abandoned
from cifar10.contracts import Evaluations, Record
from cifar10.datasets.artifact import VERSION, is_version, version_files
from cifar10.datasets.model import Models
from cifar10.errors import InputError

FOLDERS = ("06_models", "07_model_output", "08_reporting")
PREDICTIONS = "07_model_output/predictions"
DELETED = ".deleted-"  # prefix of a version that is being deleted


class OldVersion(NamedTuple):
    """What can be deleted.

    Attributes:
        path: the folder or file; of a link, what it points to stays.
        megabytes: the disk space that deleting it frees.
    """

    path: Path
    megabytes: float


def old_versions(root: Path, keep: int) -> list[OldVersion]:
    """Return what can be deleted in a data folder: remains first, then old versions, the oldest first.

    Remains are what killed runs have left behind: unfinished files, versions without the file of their artifact, and
    versions of which a part has been deleted. They never count as versions, and the first two stay for an hour, because
    a run may still be writing them. Of the versions of each artifact, the latest `keep` stay. So do, however old they
    are, the newest model of each recipe and seed on the data of the latest evaluation and of the latest training, the
    models of each seed that the latest evaluation has, and the predictions of every model that stays.

    Raises:
        InputError: the latest evaluation is damaged, or was written by another version of this project.
    """
    needed = _needed(root)
    remains: list[Path] = []
    old: list[Path] = []
    for artifact in sorted(path for layer in FOLDERS for path in (root / layer).glob("*") if path.is_dir()):
        folders = sorted(path for path in artifact.iterdir() if path.is_dir() and VERSION.fullmatch(path.name))
        whole = [folder for folder in folders if is_version(folder)]
        remains += sorted(artifact.glob(f"{DELETED}*"))
        remains += [folder for folder in folders if folder not in whole and is_abandoned(folder)]
        remains += [path for folder in (artifact, *whole) for path in _unfinished(folder)]
        old += [folder for folder in whole[:-keep] if (artifact.name, folder.name) not in needed]
    for folder in sorted((root / "06_models").glob("*_checkpoint/*/")):
        remains += _unfinished(folder)
    for folder in sorted((root / PREDICTIONS).glob("*/")):
        remains += _unfinished(folder)
        models = root / "06_models" / f"{folder.name}.keras"
        old += [
            path
            for path in sorted(folder.glob("[!.]*.npz"))
            if models / path.stem in old or not is_version(models / path.stem)
        ]
    return [OldVersion(path, _megabytes(path)) for path in [*remains, *old]]


def delete(versions: list[OldVersion]) -> None:
    """Delete these; each folder is renamed first, so that no run ever finds an incomplete one.

    Raises:
        InputError: one cannot be deleted.
    """
    for path, _ in versions:
        try:
            if path.is_file() or path.is_symlink():  # `rmtree` refuses the latter
                path.unlink()
                continue
            hidden = path if path.name.startswith(DELETED) else path.rename(path.with_name(DELETED + path.name))
            shutil.rmtree(hidden)
        except OSError as error:
            raise InputError(
                f"{path} could not be deleted: {error.strerror or error}. What stands above it in the list has been "
                "deleted."
            ) from error


def _unfinished(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob(f"{UNFINISHED}*")) if is_abandoned(path)]


def _megabytes(path: Path) -> float:
    if path.is_symlink():
        return 0.0
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files) / 1e6


def _needed(root: Path) -> set[tuple[str, str]]:
    """Return the models of each seed that the latest evaluation has, or the next may: their folders and versions."""
    models = Models(root / "06_models")
    records: dict[tuple[str, str], Record] = {}
    for version, name in sorted((version, each) for each in models.names() for version in models.versions(each)):
        with suppress(InputError):  # a damaged record is no reason to keep a model
            records[name, version] = models.load(name, version).record
    kept: set[tuple[str, str]] = set()
    current = {record.data_version for record in list(records.values())[-1:]}
    if paths := version_files(root / "08_reporting/evaluations.json"):
        evaluations = Evaluations.read(paths[-1])
        kept = {(row.architecture, each.version) for row in evaluations.rows for each in row.seeds}
        current.add(evaluations.data_version)
    newest = {
        (record.data_version, record.group, record.seed): model
        for model, record in records.items()
        if record.data_version in current
    }
    return {(f"{name}.keras", version) for name, version in kept | set(newest.values())}
