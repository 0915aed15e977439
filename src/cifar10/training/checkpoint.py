"""Checkpoints of unfinished trainings, so that an interruption loses the current epoch at most."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from cifar10 import store
from cifar10.atomic import UNFINISHED, atomic, unwritable
from cifar10.errors import BusyError, InputError
from cifar10.training.recipe import RECIPES, as_text, with_defaults

if TYPE_CHECKING:
    from cifar10.contracts import Record

logger = logging.getLogger(__name__)

KEPT = 2  # checkpoints: the latest, and the one before in case the latest is damaged
IDENTITY = "identity.json"
IN_RECORD = ("architecture", "data_version", "class_names", "initial_weights", "fingerprint", "engine_version")
PATTERN = "epoch_*.npz"  # does not match unfinished files


class Checkpoint(NamedTuple):
    """The state of a training between two epochs.

    Attributes:
        state: of the training model and its optimizer, in their order.
        best: weights of the best epoch so far, in the network's order; None: they are the current ones.
        facts: everything else, as JSON, including the history so far.
    """

    state: list[np.ndarray]
    best: list[np.ndarray] | None
    facts: dict[str, Any]


class Unfinished(NamedTuple):
    """A training that has a checkpoint: its run has been interrupted, or has not ended yet.

    Attributes:
        folder: of its checkpoints.
        epochs: after how many the latest was saved.
        seed: of its recipe.
        recipe: all options that are not at their default.
        backend: of Keras, without which it begins again.
        running: whether a process is training it now.
        saved: whether its model is saved, and only the run that has trained it has not come to its end.
    """

    folder: Path
    epochs: int
    seed: int
    recipe: dict[str, Any]
    backend: str
    running: bool
    saved: bool


class Checkpoints:
    """The folder with the checkpoints of all unfinished trainings of one architecture.

    Each training has a folder of its own in it, named after its identity: the recipe, the data, and whatever else makes
    it a different training. So a changed recipe starts from scratch, and the unfinished one can still be resumed.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder of the architecture, which is created with the first checkpoint."""
        self.folder = folder

    @contextmanager
    def lock(self, identity: dict[str, Any]) -> Iterator[None]:
        """Keep other runs out of this training. The lock of a run that dies is released.

        Raises:
            BusyError: another run holds the lock.
            InputError: the disk is full, or the folder is not writable.
        """
        folder = self._folder_of(identity)
        lock = FileLock(folder / store.LOCK)
        try:
            try:
                _acquire(lock, folder)
            except FileNotFoundError:  # the run that held it has just deleted the folder
                _acquire(lock, folder)
        except Timeout as error:
            raise BusyError(
                f"{identity['architecture']} is being trained by another run, with the same recipe on the same data "
                f"({folder} is locked). Wait for it to finish, or change the recipe, for example its seed."
            ) from error
        except OSError as error:
            raise unwritable(folder, error) from error
        try:
            store.fetch(folder)
            with suppress(OSError):
                for leftover in folder.glob(f"{UNFINISHED}*"):  # of a run that was killed
                    leftover.unlink()
            path = folder / IDENTITY
            if not path.exists():
                with atomic(path) as unfinished:
                    unfinished.write_text(json.dumps(identity, indent=2), encoding="utf-8")
            yield
        finally:
            if not any(folder.glob("*.np[yz]")):  # it has ended before it saved anything that another run could use
                with suppress(InputError):
                    store.delete(folder)
                shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    def latest(self, identity: dict[str, Any]) -> Checkpoint | None:
        """Return the latest readable checkpoint of this training, or None, and log what was found."""
        name = identity["architecture"]
        paths = sorted(self._folder_of(identity).glob(PATTERN), reverse=True)
        for path in paths:
            try:
                checkpoint = _read(path)
            except Exception as error:  # zipfile and NumPy raise many kinds for a damaged file
                logger.warning("%s: %s is damaged (%s), using the checkpoint before it", name, path, error)
                continue
            logger.info("%s: resuming after epoch %d, from %s", name, len(checkpoint.facts["history"]), path)
            return checkpoint
        if paths:
            logger.warning("%s: starting from scratch, because no checkpoint is readable", name)
        self._mention_others(identity)
        return None

    def save(self, identity: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Save a checkpoint completely or not at all, and delete all but this one and the one before it.

        Raises:
            InputError: the disk is full, or the folder is not writable.
        """
        folder = self._folder_of(identity)
        arrays = {f"state_{number}": array for number, array in enumerate(checkpoint.state)}
        arrays |= {f"best_{number}": array for number, array in enumerate(checkpoint.best or [])}
        counts = {"state": len(checkpoint.state), "best": None if checkpoint.best is None else len(checkpoint.best)}
        text = json.dumps({**checkpoint.facts, "counts": counts})
        arrays["facts"] = np.frombuffer(text.encode(), np.uint8)
        target = folder / f"epoch_{len(checkpoint.facts['history']):05}.npz"
        with atomic(target) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        saved = sorted(folder.glob(PATTERN))
        kept = [path for path in saved if path <= target][-KEPT:]  # later ones are damaged: they were not resumed
        for path in saved:
            if path not in kept:
                store.delete(path)
                path.unlink(missing_ok=True)

    def cached(self, identity: dict[str, Any], name: str, compute: Callable[[Path], None]) -> np.ndarray:
        """Return an array that this training computes once, mapped from disk; it is deleted with the checkpoints.

        Args:
            identity: of the training.
            name: of the array.
            compute: writes it to a path, as an .npy file.

        Raises:
            InputError: the disk is full, or the folder is not writable.
        """
        path = self._folder_of(identity) / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            pass
        except Exception as error:  # NumPy raises many kinds for a damaged file
            logger.warning("%s: %s is damaged (%s), computing it again", identity["architecture"], path, error)
        with atomic(path) as unfinished:
            compute(unfinished)
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def clear(self, identity: dict[str, Any]) -> None:
        """Delete the checkpoints of this finished training, unless another run holds its lock."""
        folder = self._folder_of(identity)
        if not folder.is_dir():
            return
        try:
            with FileLock(folder / store.LOCK, timeout=1):  # as in `lock`
                store.delete(folder)
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            return
        with suppress(OSError):  # other trainings are kept there
            self.folder.rmdir()

    def trainings(self, records: "Iterable[Record]" = ()) -> list[Unfinished]:
        """Return the trainings that have a checkpoint, and whose identity can be read.

        Args:
            records: of the models of this architecture.
        """
        paths = sorted(self.folder.glob(f"*/{IDENTITY}"))
        if not paths:  # then no record need be read
            return []
        found = []
        saved = {folder for record in records for folder in self._folders_of(record)}
        for path in paths:
            folder = path.parent
            if epochs := _epochs(folder):
                with suppress(OSError, ValueError, KeyError, TypeError):
                    identity = json.loads(path.read_text(encoding="utf-8"))
                    recipe, backend = identity["recipe"], identity["backend"]
                    running = _is_locked(folder)
                    found.append(Unfinished(folder, epochs, recipe["seed"], recipe, backend, running, folder in saved))
        return found

    def unfinished(self, record: "Record") -> bool:
        """Return whether the training that made a model still has its last checkpoint: its run has not ended."""
        return any(self._folders_of(record))

    def _folders_of(self, record: "Record") -> Iterator[Path]:
        """Yield the folder of checkpoints of the training that made a model, if there is one.

        One that has trained for fewer epochs than the model has begun again.
        """
        for path in self.folder.glob(f"*/{IDENTITY}"):
            with suppress(OSError, ValueError, KeyError, TypeError):  # deleted meanwhile, or no longer valid
                identity = json.loads(path.read_text(encoding="utf-8"))
                same = all(identity[name] == getattr(record, name) for name in IN_RECORD)
                ended = identity["backend"] in record.versions and _epochs(path.parent) >= record.epochs
                read = RECIPES[record.architecture].model_validate
                if same and ended and read(identity["recipe"]) == read(record.recipe):
                    yield path.parent

    def _folder_of(self, identity: dict[str, Any]) -> Path:
        return self.folder / key_of(identity)

    def _mention_others(self, identity: dict[str, Any]) -> None:
        """Log which unfinished trainings there are that no run resumes now, and how they differ from this one."""
        for path in sorted(self.folder.glob(f"*/{IDENTITY}")):
            epochs = _epochs(path.parent)
            if path.parent == self._folder_of(identity) or not (epochs or any(path.parent.glob("*.npy"))):
                continue
            if _is_locked(path.parent):  # by another run
                continue
            try:
                ours, theirs = _flat(identity), _flat(json.loads(path.read_text(encoding="utf-8")))
            except Exception as error:  # a damaged file, of a training that is not resumed now
                logger.warning("%s: %s is damaged (%s)", identity["architecture"], path, error)
                continue
            changed = [
                f"{name} {as_text(theirs.get(name))} -> {as_text(ours.get(name))}"
                for name in ours | theirs
                if ours.get(name) != theirs.get(name)
            ]
            logger.info(
                "%s: starting from scratch. %s has %d epochs of an unfinished training that differs (%s); delete it if "
                "it is not going to be resumed",
                identity["architecture"],
                path.parent,
                epochs,
                ", ".join(changed),
            )


class FollowedCheckpoints(Checkpoints):
    """The same folder for all but the first of several processes that train together: that one locks and saves."""

    @contextmanager
    def lock(self, identity: dict[str, Any]) -> Iterator[None]:
        """Do nothing."""
        yield

    def save(self, identity: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Do nothing."""


def key_of(identity: dict[str, Any]) -> str:
    """Return the name of a training's folder: its identity as the first 16 digits of a SHA-256."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _acquire(lock: FileLock, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lock.acquire(timeout=1)  # seconds: whoever only looks whether it is locked holds it for a moment


def _is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of the training with this folder."""
    try:
        with FileLock(folder / store.LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # such as on a disk that is only read
        return False


def _epochs(folder: Path) -> int:
    """Return after how many epochs the latest checkpoint of a training was saved; 0: there is none."""
    return max((int(path.stem.removeprefix("epoch_")) for path in folder.glob(PATTERN)), default=0)


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    recipe = with_defaults(identity["architecture"], identity["recipe"])
    return {**{name: value for name, value in identity.items() if name != "recipe"}, **recipe}


def _read(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        counts = facts.pop("counts")
        state, best = ([arrays[f"{of}_{number}"] for number in range(counts[of] or 0)] for of in ("state", "best"))
    return Checkpoint(state, best if counts["best"] is not None else None, facts)
