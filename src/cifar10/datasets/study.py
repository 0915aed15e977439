"""The study of an architecture as a catalog entry."""

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError

from cifar10.store import local


class StudyDataset(AbstractDataset):
    """The folder of a study, in which its workers read and write while they run."""

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.folder = Path(local(filepath))
        self.metadata = metadata

    def load(self) -> Path:
        """Return the folder, which need not exist yet."""
        return self.folder

    def save(self, data: Any) -> NoReturn:
        """Refuse, because the workers write it."""
        raise DatasetError(f"{self.folder} is written while a study runs, not by the output of a node.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.folder)}
