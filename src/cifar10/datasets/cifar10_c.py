"""CIFAR-10-C: the test images under 19 corruptions of five severities (Hendrycks and Dietterich 2019, 1903.12261)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cifar10.contracts import Examples
from cifar10.datasets.raw import RawDataset
from cifar10.errors import InputError, readable
from cifar10.store import fetch, local

# The mean error is over the first; the others were made for the choice of hyperparameters.
COMMON = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
COPIES = 5  # of each test image in a file, one per severity
ADVICE = "Replace the file, or move the folder away to do without CIFAR-10-C."


class CIFAR10C(NamedTuple):
    """Corrupted test images.

    Attributes:
        folder: in which they are, for messages.
        labels: integers (5n,): those of the n test images, once for each severity.
        images: corruption -> uint8 (5n, 32, 32, 3), memory-mapped: the n images of severity 1, then of 2, and so on.
    """

    folder: Path
    labels: np.ndarray
    images: dict[str, np.ndarray]

    @property
    def missing(self) -> list[str]:
        """The corruptions of which there is no file."""
        return [name for name in (*COMMON, *EXTRA) if name not in self.images]

    def verify(self, test_examples: Examples) -> None:
        """Check that they are of these test images, as far as the labels tell.

        Raises:
            InputError: they are not.
        """
        if not np.array_equal(self.labels, np.tile(test_examples.labels, COPIES)):
            raise InputError(
                f"{self.folder}/labels.npy does not have the labels of the {len(test_examples):,} test images five "
                "times over, so its images are others, or in another order. Move the folder away to do without "
                "CIFAR-10-C, or ingest the official test images."
            )

    def take(self, corruption: str, severity: int) -> np.ndarray:
        """Return the images of a corruption and severity, uint8 (n, 32, 32, 3)."""
        return np.split(self.images[corruption], COPIES)[severity - 1]


class CIFAR10CDataset(RawDataset):
    """The folder of `.npy` files that the archive of CIFAR-10-C has: one per corruption, and `labels.npy`.

    A load returns a function that maps them, because a run that does not want them must neither check nor fetch them.
    """

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.path = Path(local(filepath))
        self.metadata = metadata

    def load(self) -> Callable[[], CIFAR10C | None]:
        """Return the function."""
        return self._map_all

    def _map_all(self) -> CIFAR10C | None:
        """Map the files that are there; None if there is no such folder.

        Raises:
            InputError: `labels.npy` is missing, or a file is damaged or of another shape or type.
        """
        fetch(self.path)
        if not self.path.is_dir():
            return None
        paths = {name: self.path / f"{name}.npy" for name in (*COMMON, *EXTRA)}
        labels = _map(self.path / "labels.npy")
        images = {name: _map(path, len(labels)) for name, path in paths.items() if path.is_file()}
        return CIFAR10C(self.path, labels, images)

    def _exists(self) -> bool:
        return True  # robustness does without

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}


def _map(path: Path, images: int | None = None) -> np.ndarray:
    """Map an array into memory: that many images or, without a number, labels."""
    with readable(path, ADVICE):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if images is None and (array.ndim != 1 or not np.issubdtype(array.dtype, np.integer)):
            raise ValueError(f"its labels are {array.dtype} {array.shape}")
        if images is not None and (array.dtype, array.shape) != (np.uint8, (images, 32, 32, 3)):
            raise ValueError(f"its images are {array.dtype} {array.shape} for {images:,} labels")
    return array
