"""How far a training has come: what it did in each epoch, and the best it has been."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar10.errors import InputError
from cifar10.training.checkpoint import Bundle, Checkpoint

if TYPE_CHECKING:
    import keras


@dataclass
class Progress:
    """A training, from its first epoch to its last, over whatever number of processes.

    Attributes:
        network: as it is trained.
        checkpoint: where each epoch is saved.
        identity: what the checkpoint knows this training by.
        facts: what a continued run takes over from the one before it: precision, versions.
        history: a row an epoch, all phases.
        best_epoch: from 1; 0 before the first.
        best_weights: of the network in that epoch.
        resumed: what was read from the checkpoint and has not been put in place yet.
    """

    network: keras.Model
    checkpoint: Checkpoint
    identity: dict[str, Any]
    facts: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: list[np.ndarray] = field(default_factory=list)
    resumed: Bundle | None = None

    def of(self, phase: str) -> list[dict[str, Any]]:
        """The epochs of that phase so far."""
        return [row for row in self.history if row["phase"] == phase]

    def add(self, row: dict[str, Any], variables: list[keras.Variable]) -> None:
        """Take in an epoch, and save what is needed to go on from here.

        Args:
            row: of the history; the weights are those after it.
            variables: all that the next epoch depends on.
        """
        self.history.append(row)
        if row["val_accuracy"] is None or not self.best_epoch or row["val_accuracy"] > self.best["val_accuracy"]:
            self.best_epoch, self.best_weights = len(self.history), self.network.get_weights()
        bundle = Bundle(
            state=[np.asarray(variable) for variable in variables],
            best=None if self.best_epoch == len(self.history) else self.best_weights,
            facts={**self.facts, "history": self.history, "best_epoch": self.best_epoch},
        )
        self.checkpoint.save(self.identity, bundle)

    def resume(self, bundle: Bundle) -> None:
        """Take over what the checkpoint has, but for the state, which waits for its phase to be made ready."""
        self.resumed = bundle
        self.history, self.best_epoch = bundle.facts["history"], bundle.facts["best_epoch"]

    def put_in_place(self, variables: list[keras.Variable]) -> None:
        """Set all that the next epoch depends on to what it was, if this is where the run was cut off.

        Raises:
            InputError: other code saved it, for which these were other variables.
        """
        if self.resumed is None:
            return
        if [value.shape for value in self.resumed.state] != [tuple(variable.shape) for variable in variables]:
            raise InputError(
                f"{self.network.name}: its unfinished training was begun by other code, which this cannot go on with. "
                f"Go back to commit {self.facts['origin']['versions']['commit']}, or delete {self.checkpoint.folder} "
                "to start afresh."
            )
        for variable, value in zip(variables, self.resumed.state, strict=True):
            variable.assign(value)
        self.best_weights = self.resumed.best or self.network.get_weights()
        self.resumed = None

    @property
    def best(self) -> dict[str, Any]:
        """The row of the best epoch."""
        return self.history[self.best_epoch - 1]
