"""Where the unfinished trainings of an architecture are kept, as a catalog entry."""

from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from cifar10.errors import InputError
from cifar10.training.checkpoint import Checkpoint


class CheckpointDataset(AbstractDataset):
    """A handle on the folder: nodes ask it for what there is, and it saves as they go."""

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Checkpoint:
        """Give the handle; the folder need not be there yet."""
        return Checkpoint(self.folder)

    def save(self, data: Any) -> None:
        """The handle saves, an epoch at a time."""
        raise InputError(f"{self.folder} is written while a network is trained, and by no node's output.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.folder)}
