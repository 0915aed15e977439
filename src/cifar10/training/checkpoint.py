"""What is kept of an unfinished training, so that nothing but its current epoch can be lost."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from cifar10.atomic import UNFINISHED, atomic, unwritable
from cifar10.errors import InputError

logger = logging.getLogger(__name__)

KEPT = 2  # bundles: the last one, and the one before in case that the last is damaged
ABOUT = "about.json"
LOCK = "lock"
BUNDLES = "epoch_*.npz"  # and no unfinished ones


class Bundle(NamedTuple):
    """A training between two epochs.

    Attributes:
        state: of the training model and its optimizer, in their order.
        best: the weights of the best epoch so far, in the network's order; None: they are those of now.
        facts: whatever else there is to know, as JSON: the history so far among it.
    """

    state: list[np.ndarray]
    best: list[np.ndarray] | None
    facts: dict[str, Any]


class Checkpoint:
    """The folder in which the trainings of one architecture are kept until they are finished.

    Each has a folder of its own in it, named by what makes a training another one: its recipe, its data. So a changed
    recipe starts afresh, and the one that was changed can still be continued.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder of the architecture; nothing is made there until something is saved."""
        self.folder = folder

    @contextmanager
    def lock(self, identity: dict[str, Any]) -> Iterator[None]:
        """Keep other runs out of this training. A run that dies lets go of it.

        Raises:
            InputError: another run has it, the disk is full, or the folder cannot be written to.
        """
        place = self._place(identity)
        lock = FileLock(place / LOCK)
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"{identity['architecture']} is being trained by another run, with the same recipe on the same data "
                f"({place} is locked). Wait for it, or change the recipe, for example its seed."
            ) from error
        except OSError as error:
            raise unwritable(place, error) from error
        try:
            with suppress(OSError):
                for rest in place.glob(f"{UNFINISHED}*"):  # of a run that was killed
                    rest.unlink()
            about = place / ABOUT
            if not about.exists():
                with atomic(about) as path:
                    path.write_text(json.dumps(identity, indent=2), encoding="utf-8")
            yield
        finally:
            lock.release()

    def latest(self, identity: dict[str, Any]) -> Bundle | None:
        """The last bundle of this training that can be read; None if there is none. Says what it finds."""
        name = identity["architecture"]
        paths = sorted(self._place(identity).glob(BUNDLES), reverse=True)
        for path in paths:
            try:
                bundle = _read(path)
            except Exception as error:  # whatever zipfile and NumPy trip over in a damaged file
                logger.warning("%s: %s is damaged (%s), so the one before it is taken", name, path, error)
                continue
            logger.info("%s: continues after epoch %d, from %s", name, len(bundle.facts["history"]), path)
            return bundle
        if paths:
            logger.warning("%s: starts afresh, for there is no other", name)
        self._mention_others(identity)
        return None

    def save(self, identity: dict[str, Any], bundle: Bundle) -> None:
        """Save a bundle, whole or not at all, and delete all but the last two.

        Raises:
            InputError: the disk is full, or the folder cannot be written to.
        """
        place = self._place(identity)
        arrays = {f"state_{number}": array for number, array in enumerate(bundle.state)}
        arrays |= {f"best_{number}": array for number, array in enumerate(bundle.best or [])}
        counts = {"state": len(bundle.state), "best": len(bundle.best) if bundle.best is not None else None}
        text = json.dumps({**bundle.facts, "counts": counts})
        arrays["facts"] = np.frombuffer(text.encode(), np.uint8)
        with atomic(place / f"epoch_{len(bundle.facts['history']):05}.npz") as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        for old in sorted(place.glob(BUNDLES))[:-KEPT]:
            old.unlink(missing_ok=True)

    def clear(self, identity: dict[str, Any]) -> None:
        """Forget this training: it is finished, and its model is saved. Unless another run is at it meanwhile."""
        place = self._place(identity)
        if not place.is_dir():
            return
        try:
            with FileLock(place / LOCK, timeout=0):
                shutil.rmtree(place, ignore_errors=True)
        except Timeout:
            return
        with suppress(OSError):  # others are kept there
            self.folder.rmdir()

    def _place(self, identity: dict[str, Any]) -> Path:
        text = json.dumps(identity, sort_keys=True)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def _mention_others(self, identity: dict[str, Any]) -> None:
        for about in sorted(self.folder.glob(f"*/{ABOUT}")):
            epochs = sorted(about.parent.glob(BUNDLES))
            if about.parent == self._place(identity) or not epochs:
                continue
            other = json.loads(about.read_text(encoding="utf-8"))
            ours, theirs = _flat(identity), _flat(other)
            changed = [
                f"{name} {theirs.get(name)} -> {ours.get(name)}"
                for name in ours | theirs
                if ours.get(name) != theirs.get(name)
            ]
            logger.info(
                "%s: starts afresh, for what it is made of has changed (%s). %s keeps %d epochs of the other; unless "
                "that is to be continued, delete it",
                identity["architecture"],
                ", ".join(changed),
                about.parent,
                int(epochs[-1].stem.removeprefix("epoch_")),
            )


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in identity.items() if name != "recipe"}, **identity["recipe"]}


def _read(path: Path) -> Bundle:
    with np.load(path, allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        counts = facts.pop("counts")
        state, best = ([arrays[f"{of}_{number}"] for number in range(counts[of] or 0)] for of in ("state", "best"))
    return Bundle(state, best if counts["best"] is not None else None, facts)
