"""The checkpoints of an architecture as a catalog entry."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from cifar10.store import local
from cifar10.training.checkpoint import Checkpoints


class CheckpointDataset(AbstractDataset):
    """The `Checkpoints` of an architecture, which its training reads and writes while it runs."""

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.folder = Path(local(filepath))
        self.metadata = metadata

    def load(self) -> Checkpoints:
        """Return the checkpoints; the folder need not exist yet."""
        return Checkpoints(self.folder)

    def save(self, data: Any) -> NoReturn:
        """Refuse, because the training saves a checkpoint after each epoch."""
        raise DatasetError(f"{self.folder} is written during training, not by the output of a node.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.folder)}
