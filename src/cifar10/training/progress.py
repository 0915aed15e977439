"""The progress of a training: its history so far, and its best epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar10.errors import InputError
from cifar10.training.checkpoint import Checkpoint, Checkpoints, key_of

if TYPE_CHECKING:
    import keras

    from cifar10.contracts import Epoch


@dataclass
class Progress:
    """A training from its first epoch to its last, over any number of processes.

    Attributes:
        network: as it is trained.
        checkpoints: where each epoch is saved.
        identity: of this training among the checkpoints.
        facts: what a resumed run takes over from the one before it: compute dtype and provenance.
        report: called with each epoch once it is saved; what it raises ends the training, which can be resumed.
        history: one row per epoch, of all phases.
        best_epoch: from 1; 0 before the first.
        best_weights: of the network in that epoch.
        resumed: the checkpoint that has been read and is not restored yet.
        saved: the number of epochs after which a checkpoint was saved.
    """

    network: keras.Model
    checkpoints: Checkpoints
    identity: dict[str, Any]
    facts: dict[str, Any]
    report: Callable[[Epoch], None] = lambda row: None
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: list[np.ndarray] = field(default_factory=list)
    resumed: Checkpoint | None = None
    saved: int = 0

    def of(self, phase: str) -> list[Epoch]:
        """Return the epochs of that phase so far."""
        return [row for row in self.history if row["phase"] == phase]

    def add(self, row: Epoch, variables: list[keras.Variable]) -> None:
        """Add an epoch, and save what is needed to resume after it.

        Args:
            row: of the history; the network has the weights after that epoch.
            variables: everything that the next epoch depends on.
        """
        self.history.append(row)
        if self._is_best(row):
            self.best_epoch, self.best_weights = len(self.history), self.network.get_weights()
        checkpoint = Checkpoint(
            state=[np.asarray(variable) for variable in variables],
            best=None if self.best_epoch == len(self.history) else self.best_weights,
            facts={**self.facts, "history": self.history, "best_epoch": self.best_epoch},
        )
        self.checkpoints.save(self.identity, checkpoint)
        self.saved = len(self.history)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take over a checkpoint, except for its state, which `restore` sets once the phase is prepared."""
        self.resumed = checkpoint
        self.history, self.best_epoch = checkpoint.facts["history"], checkpoint.facts["best_epoch"]
        self.saved = len(self.history)

    def restore(self, variables: list[keras.Variable]) -> None:
        """Set everything that the next epoch depends on to its state in the checkpoint, if there is one.

        Raises:
            InputError: the checkpoint was created by another version of the code, with other variables.
        """
        if self.resumed is None:
            return
        if [value.shape for value in self.resumed.state] != [tuple(variable.shape) for variable in variables]:
            commit = self.facts["provenance"]["versions"]["commit"]
            raise InputError(
                f"{self.network.name}: its checkpoint was created by another version of the code (commit {commit}), "
                f"and cannot be resumed by this one. Go back to that commit, or delete "
                f"{self.checkpoints.folder / key_of(self.identity)} to start from scratch."
            )
        for variable, value in zip(variables, self.resumed.state, strict=True):
            variable.assign(value)
        self.best_weights = self.resumed.best or self.network.get_weights()
        self.resumed = None

    @property
    def best(self) -> Epoch:
        """The row of the best epoch."""
        return self.history[self.best_epoch - 1]

    def _is_best(self, row: Epoch) -> bool:
        """Whether an epoch is better than all before it; without validation, the latest is."""
        accuracy = row["val_accuracy"]
        if accuracy is None or not self.best_epoch:
            return True
        best = self.best["val_accuracy"]
        return best is None or accuracy > best
