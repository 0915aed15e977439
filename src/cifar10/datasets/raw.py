"""The raw layouts of CIFAR-10: the pickle batches of the original, and the CSV pair of Kaggle.

Each dataset turns its files into `RawBatch`es and refuses a file that is not what it should be. A pickle is a
program; these are read by an unpickler that knows arrays and plain values and nothing else.
"""

import gzip
import io
import pickle
import re
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset

from cifar10.errors import InputError

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
PIXELS = 3 * 32 * 32


class RawBatch(NamedTuple):
    """Pictures as a raw file has them.

    Attributes:
        source: the file, and where the batch stands in it, for error messages.
        pixels: uint8 (n, 3072): 1024 red values of a picture, row by row, then green, then blue.
        labels: integers (n,).
    """

    source: str
    pixels: np.ndarray
    labels: np.ndarray


class BatchesDataset(AbstractDataset):
    """The pickle batches: from their folder, else from the archive of that name beside it, else downloaded."""

    def __init__(self, *, filepath: str, archive: str, url: str, md5: str, metadata: dict | None = None) -> None:
        self.folder = Path(filepath)
        self.archive = self.folder.with_name(archive)
        self.url, self.md5 = url, md5
        self.metadata = metadata

    def load(self) -> dict[str, list[RawBatch]]:
        """Read the batches of `train` and `test`, in their order.

        Raises:
            InputError: a file is missing, damaged, or more than arrays and plain values; or the download failed.
        """
        if any((self.folder / name).exists() for name in TRAIN_BATCHES + TEST_BATCHES):
            batches = self._from_folder()
        else:
            if not self.archive.exists():
                self._download()
            batches = self._from_archive()
        return {
            "train": [batches[name] for name in TRAIN_BATCHES],
            "test": [batches[name] for name in TEST_BATCHES],
        }

    def save(self, data: Any) -> None:
        """Raw data are never written."""
        raise InputError(f"{self.folder} holds raw data, which no node may write.")

    def _exists(self) -> bool:
        return True  # what is not there is downloaded

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.folder), "archive": str(self.archive)}

    def _from_folder(self) -> dict[str, RawBatch]:
        missing = [name for name in TRAIN_BATCHES + TEST_BATCHES if not (self.folder / name).is_file()]
        if missing:
            raise InputError(
                f"{self.folder} has no {', '.join(missing)}. Put the missing file there, or delete the folder to have "
                f"the batches read from {self.archive.name}."
            )
        return {
            name: _unpickle((self.folder / name).read_bytes(), str(self.folder / name))
            for name in TRAIN_BATCHES + TEST_BATCHES
        }

    def _from_archive(self) -> dict[str, RawBatch]:
        """Read the batches out of the archive in one pass; nothing is unpacked to disk."""
        batches = {}
        try:
            with gzip.open(self.archive) as content, tarfile.open(fileobj=content, mode="r|") as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                        raise InputError(
                            f"{self.archive} was refused: its member {member.name!r} is a link or points out of the "
                            "archive, which the CIFAR-10 archive never does. Replace the file."
                        )
                    if path.name in TRAIN_BATCHES + TEST_BATCHES and (file := archive.extractfile(member)):
                        batches[path.name] = _unpickle(file.read(), f"{self.archive}: {member.name}")
                while content.read(1 << 20):  # gzip compares its checksum at the end, which tarfile does not read to
                    pass
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(
                f"{self.archive} is damaged or no .tar.gz ({error}). Delete it, and the official archive is downloaded "
                "in its place."
            ) from error
        missing = [name for name in TRAIN_BATCHES + TEST_BATCHES if name not in batches]
        if missing:
            raise InputError(f"{self.archive} has no {', '.join(missing)} in it. Replace the file.")
        return batches

    def _download(self) -> None:
        """Fetch the official archive; it takes its name only once its checksum is right."""
        import pooch
        import requests

        try:
            pooch.retrieve(
                self.url,
                known_hash=f"md5:{self.md5}",
                fname=self.archive.name,
                path=self.archive.parent,
                progressbar=True,
            )
        except (OSError, ValueError) as error:
            # The text of a connection error is a nest of addresses; its kind says as much: ConnectTimeout, SSLError.
            reason = type(error).__name__ if isinstance(error, requests.ConnectionError) else _reason(error)
            raise InputError(
                f"CIFAR-10 is neither at {self.archive} nor at {self.folder}, and could not be downloaded from "
                f"{self.url}: {reason}. Put the archive or its batches where named. The demo needs neither: "
                "kedro run --env=demo"
            ) from error


class _ForbiddenError(Exception):
    """A pickle asks for something that is neither an array nor a plain value."""


class _Unpickler(pickle.Unpickler):
    """Builds numpy arrays and plain values, and refuses everything else that a pickle can ask for."""

    ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")  # before and since numpy 2
        for module, name in (
            (f"{package}.multiarray", "_reconstruct"),
            (f"{package}.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        )
    )

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self.ALLOWED:
            raise _ForbiddenError(f"it asks for {module_name}.{global_name}")
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _unpickle(content: bytes, source: str) -> RawBatch:
    try:
        # The official files come from Python 2, whose strings are bytes.
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _ForbiddenError as error:
        raise InputError(
            f"{source} was refused: {error}, and a batch holds arrays, numbers and text only. Replace the file."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise InputError(f"{source} is cut off or no pickle ({_reason(error)}). Replace the file.") from error
    if not isinstance(batch, dict):
        raise InputError(f"{source} holds a {type(batch).__name__} where a dictionary should be. Replace the file.")
    batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    missing = {"data", "labels"} - batch.keys()
    if missing:
        raise InputError(f"{source} has no entry {' and no '.join(sorted(missing))}. Replace the file.")
    try:
        return RawBatch(source, np.asarray(batch["data"]), np.asarray(batch["labels"]))
    except ValueError as error:  # rows or labels of different lengths
        raise InputError(f"{source}: data or labels are not one array ({error}). Replace the file.") from error


class PixelCSVDataset(AbstractDataset):
    """One file of the Kaggle CSV pair: a column a pixel, in the batches' order, and a column `label` anywhere."""

    LABEL = "label"
    ROWS = 5_000  # at a time: 55 MB of text, 15 MB of pixels

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.path = Path(filepath)
        self.metadata = metadata

    def load(self) -> Iterator[RawBatch]:
        """Read a few thousand rows at a time, so that the file never stands in memory as text or as one table.

        Raises:
            InputError: while iterating, at the first thing in the file that is not as it should be.
        """
        pixels = self._pixel_columns()
        row = 0
        try:
            with (
                warnings.catch_warnings(),
                pd.read_csv(self.path, dtype=np.uint8, chunksize=self.ROWS, index_col=False, na_filter=False) as chunks,
            ):
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
                for chunk in chunks:
                    source = f"{self.path}, rows {row + 1} to {row + len(chunk)}"
                    labels = chunk.pop(self.LABEL)
                    if list(chunk.columns) != pixels:
                        chunk = chunk[pixels]
                    yield RawBatch(source, chunk.to_numpy(), labels.to_numpy())
                    row += len(chunk)
        except (ValueError, OverflowError, pd.errors.ParserWarning) as error:  # parser errors are ValueErrors
            complaint = self._complaint(row) or f"{self.path}, after row {row}: {' '.join(str(error).split())}."
            raise InputError(f"{complaint} Replace the file.") from error

    def save(self, data: Any) -> None:
        """Raw data are never written."""
        raise InputError(f"{self.path} holds raw data, which no node may write.")

    def _exists(self) -> bool:
        return self.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}

    def _pixel_columns(self) -> list[str]:
        """The 3,072 pixel columns in the batches' order, whatever they are called."""
        if not self.path.is_file():
            raise InputError(
                f"{self.path} is missing. Put train.csv and test.csv of the Kaggle data set into {self.path.parent}, "
                "or read the pickle batches instead: kedro run --pipelines=ingestion"
            )
        try:
            columns = list(pd.read_csv(self.path, nrows=0, index_col=False).columns)
        except ValueError as error:  # an empty file, or one that is no text
            raise InputError(f"{self.path} is no CSV file ({error}). Replace the file.") from error
        if self.LABEL not in columns:
            raise InputError(f"{self.path} has no column named {self.LABEL!r} in its first line. Replace the file.")
        columns.remove(self.LABEL)
        numbered = [f"pixel{number}" for number in range(PIXELS)]
        if set(columns) == set(numbered):
            return numbered
        otherwise_named = set(columns).isdisjoint(numbered)
        if otherwise_named and len(columns) == PIXELS:
            return columns
        faults = [f"{len(columns):,} columns besides {self.LABEL!r}, where {PIXELS:,} pixels should be"]
        if not otherwise_named:
            faults += [f"{name} is missing" for name in numbered if name not in columns][:1]
            faults += [f"{name} is no pixel" for name in columns if name not in numbered][:1]
        raise InputError(f"{self.path} has {'; '.join(faults)}. Replace the file.")

    def _complaint(self, first_row: int) -> str | None:
        """Say which cell of the chunk after `first_row` is no byte; the reader itself does not tell."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                chunk = pd.read_csv(
                    self.path,
                    dtype=str,
                    skiprows=range(1, first_row + 1),
                    nrows=self.ROWS,
                    keep_default_na=False,
                    index_col=False,
                )
        except (ValueError, pd.errors.ParserWarning):  # rows of the wrong length, as the reader has said already
            return None
        bad = ~chunk.apply(lambda column: column.str.fullmatch(r"\s*0*(\d\d?|1\d\d|2[0-4]\d|25[0-5])\s*")).to_numpy(
            bool
        )
        if not bad.any():
            return None
        row, column = np.argwhere(bad)[0]
        return (
            f"{self.path}, row {first_row + row + 1}, column {chunk.columns[column]}: "
            f"{chunk.iat[row, column]!r} is not a whole number from 0 to 255."
        )


def _reason(error: BaseException) -> str:
    """The first line of an error, without the nested addresses that network errors carry."""
    text = re.sub(r" at 0x[0-9a-f]+", "", str(error)).splitlines()
    return text[0] if text else type(error).__name__
