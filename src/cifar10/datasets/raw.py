"""The raw formats of CIFAR-10: the original batches, as pickles or binary, the Parquet files of the Hugging Face Hub,
and the pair of CSV files from Kaggle.

Each dataset reads its files into `RawBatch`es and rejects invalid files. A pickle file can run any code when it is
loaded, so these are read by an unpickler that accepts only arrays and plain values.
"""

import gzip
import io
import logging
import pickle
import pickletools
import re
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, NoReturn

import numpy as np
import pandas as pd
from kedro.io import AbstractDataset

from cifar10.atomic import UNFINISHED, remove_abandoned, share
from cifar10.datasets import parquet
from cifar10.errors import InputError, reason
from cifar10.store import fetch, local, put

logger = logging.getLogger(__name__)

TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCHES = ("test_batch",)
# What follows the names of batches in the Python and in the binary version -> the file with the names of the classes,
# which a folder or archive need not have.
META = {"": "batches.meta", ".bin": "batches.meta.txt"}
ARCHIVE = re.compile(r"cifar-10-.*(\.tar\.gz|\.tgz|_archive)")  # as downloads of the versions, and Keras's, are named
UNSUPPORTED = {  # a file -> what it belongs to
    "data_batch_1.mat": "the MATLAB version",
    **dict.fromkeys(
        ("trainLabels.csv", "train.7z", "cifar-10.zip"), "Kaggle's competition, whose test images have no labels"
    ),
}
PARQUET = {parquet.TRAIN, parquet.TEST}
# Of what a store has beside the folder of the batches, which may be gigabytes of CIFAR-10-C and CSV, this is fetched.
FETCHED = ("*batch*", "*.parquet", "*.tar.gz", "*.tgz", "*_archive", *(f"*{name}" for name in UNSUPPORTED))
PIXELS = 3 * 32 * 32
NUMBERED = re.compile(r"(.*?)(\d+)")  # the name of a CSV column: NAME + number


class RawBatch(NamedTuple):
    """Images and labels as stored in a raw file.

    Attributes:
        source: the file and the place of the batch in it, for error messages.
        pixels: uint8 (n, 3072): the 1024 red values of an image, row by row, then green, then blue.
        labels: integers (n,).
        ordered: False if the format does not define that order, so that only the images can tell.
    """

    source: str
    pixels: np.ndarray
    labels: np.ndarray
    ordered: bool = True


class RawClassNames(NamedTuple):
    """The names of the classes as stored in a raw file.

    Attributes:
        source: the file, for error messages.
        names: in the order of the labels.
    """

    source: str
    names: list[str]


class RawImages(NamedTuple):
    """What ingestion reads.

    Attributes:
        train: the batches of training images, in order.
        test: the batches of test images.
        class_names: None if no file has them.
    """

    train: list[RawBatch]
    test: list[RawBatch]
    class_names: RawClassNames | None = None


class RawDataset(AbstractDataset):
    """Raw data in a file or folder `path`, which nothing overwrites."""

    path: Path

    def save(self, data: Any) -> NoReturn:
        """Refuse to write: raw data is read-only."""
        raise InputError(f"{self.path} is raw data and cannot be overwritten. Let the node write to another dataset.")


class BatchesDataset(RawDataset):
    """The batches of the Python or the binary version, or the Parquet files of the Hugging Face Hub.

    They are read from the folder of the batches; else from the archive beside it; else from another folder or archive,
    at most two levels below the folder that these are in, such as the cache of Keras; else the archive is downloaded
    or, where that fails and pyarrow is installed, the Parquet files.

    Args:
        filepath: the folder of the batches.
        archive: the name of the archive beside it.
        url: of the archive.
        md5: of the archive.
        mirror: of the Parquet files, `url` of their folder and `sha256`, by name; None: only the archive is downloaded.
        metadata: for other tools, such as Kedro-Viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        archive: str,
        url: str,
        md5: str,
        mirror: dict[str, Any] | None = None,
        metadata: dict | None = None,
    ) -> None:
        self.path = self.folder = Path(local(filepath))
        self.archive = self.folder.with_name(archive)
        self.url, self.md5 = url, md5
        self.mirror = mirror
        self.metadata = metadata

    def load(self) -> RawImages:
        """Read the images, and the names of the classes.

        Raises:
            InputError: a file is missing or damaged, or contains more than arrays and plain values; the images are in
                several places, or there is only a version of CIFAR-10 that cannot be read; or the download failed.
        """
        place = self._find() or self._download()
        if place not in (self.folder, self.archive):
            logger.info("Reading the images from %s", place)
        if place.is_dir() and _suffix(_names(place)) is None:
            return self._from_parquet(place)
        files = self._from_folder(place) if place.is_dir() else self._from_archive(place)
        suffix = _suffix(files) or ""
        return RawImages(
            [files[f"{name}{suffix}"] for name in TRAIN_BATCHES],
            [files[f"{name}{suffix}"] for name in TEST_BATCHES],
            files.get(META[suffix]),
        )

    def _exists(self) -> bool:
        return True  # missing files are downloaded

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.folder), "archive": str(self.archive)}

    def _find(self) -> Path | None:
        """Return the folder or the archive to read, or None if there is nothing of CIFAR-10."""
        fetch(self.folder)
        if _suffix(_names(self.folder)) is not None:
            return self.folder
        fetch(self.archive)
        if self.archive.exists():
            return self.archive
        raw = self.folder.parent
        fetch(raw, *FETCHED)
        folders = [
            each for each in (*raw.glob("*/"), *raw.glob("*/*/")) if UNFINISHED not in str(each.relative_to(raw))
        ]
        files = {folder: _names(folder) for folder in (raw, *folders)}
        found = [folder for folder, names in files.items() if _suffix(names) is not None or names & PARQUET]
        if not found:
            found = [folder / name for folder, names in files.items() for name in names if ARCHIVE.fullmatch(name)]
        if len(found) > 1:
            raise InputError(
                f"{raw} has CIFAR-10 in several places: {', '.join(sorted(map(str, found)))}. Move all but one of them "
                "elsewhere."
            )
        if found:
            return found[0]
        for folder, names in files.items():
            self._refuse_unsupported(str(folder), names)
        return None

    def _refuse_unsupported(self, place: str, names: Collection[str]) -> None:
        """Raise an error if a folder or an archive has a file of a version that cannot be read."""
        for name in sorted(UNSUPPORTED.keys() & names):
            raise InputError(
                f"{place} has {name} of {UNSUPPORTED[name]}, but only the Python and the binary version, and the "
                "Parquet files of the Hugging Face Hub, are supported. "
                f"Place {self.archive.name} of {self.url} in {self.folder.parent}, or move {name} elsewhere, and run "
                "the same command again to download it."
            )

    def _from_folder(self, folder: Path) -> dict[str, Any]:
        """Read the files from their folder: name -> `RawBatch` or `RawClassNames`."""
        suffix = _suffix(_names(folder)) or ""
        batches = [f"{name}{suffix}" for name in (*TRAIN_BATCHES, *TEST_BATCHES)]
        missing = [name for name in batches if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"{folder} has no {', '.join(missing)}. Add what is missing, or remove the other batches to read "
                f"{self.archive.name} instead."
            )
        paths = [folder / name for name in (*batches, META[suffix])]
        return {path.name: READERS[path.name](str(path), path.read_bytes()) for path in paths if path.is_file()}

    def _from_archive(self, path: Path) -> dict[str, Any]:
        """Read the files from an archive in one pass, without unpacking it to disk, as `_from_folder` does."""
        files: dict[str, Any] = {}
        others = set()
        try:
            with gzip.open(path) as content, tarfile.open(fileobj=content, mode="r|") as archive:
                for member in archive:
                    inside = PurePosixPath(member.name)
                    if inside.is_absolute() or ".." in inside.parts or not (member.isfile() or member.isdir()):
                        raise InputError(
                            f"{path} was refused: its member {member.name!r} is a link or points outside "
                            "the archive; the CIFAR-10 archive contains no such member. Replace the file."
                        )
                    if inside.name in READERS and (file := archive.extractfile(member)):
                        files[inside.name] = READERS[inside.name](f"{path}: {member.name}", file.read())
                    others.add(inside.name)
                while content.read(1 << 20):  # read to the end, where gzip verifies its checksum; tarfile stops before
                    pass
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise InputError(
                f"{path} is damaged or not a .tar.gz file ({error}). Replace it, or delete it to download "
                "the official archive."
            ) from error
        suffix = _suffix(files)
        if suffix is None:
            self._refuse_unsupported(str(path), others)
        missing = [name for name in TRAIN_BATCHES + TEST_BATCHES if f"{name}{suffix or ''}" not in files]
        if missing:
            raise InputError(f"{path} does not contain {', '.join(missing)}. Replace the file.")
        return files

    def _from_parquet(self, folder: Path) -> RawImages:
        """Read both Parquet files from their folder."""
        if missing := sorted(PARQUET - _names(folder)):
            raise InputError(f"{folder} has no {missing[0]}. Add it, or remove the other Parquet file.")
        tables = {name: parquet.read_parquet(folder / name) for name in (parquet.TRAIN, parquet.TEST)}
        train, test = ([RawBatch(str(folder / name), table.pixels, table.labels)] for name, table in tables.items())
        names = tables[parquet.TRAIN].class_names
        return RawImages(train, test, RawClassNames(str(folder / parquet.TRAIN), names) if names else None)

    def _download(self) -> Path:
        """Download the official archive or, where that fails, the Parquet files, and return where they are."""
        raw, mirror = self.folder.parent, self.mirror
        try:
            return _fetch(raw, {self.archive.name: (self.url, f"md5:{self.md5}")})
        except (OSError, ValueError) as error:
            why, cause = _why(error), error
        if mirror and parquet.is_installed():
            message = "CIFAR-10 could not be downloaded from %s: %s. Downloading it from %s"
            logger.warning(message, self.url, why, mirror["url"])
            hashes = mirror["sha256"].items()
            try:
                return _fetch(raw, {f"plain_text/{name}": (f"{mirror['url']}/{name}", each) for name, each in hashes})
            except (OSError, ValueError) as error:
                why += f"; nor from {mirror['url']}: {_why(error)}"
        elif mirror:
            why += f" (to try {mirror['url']}, too: {parquet.NEEDED})"
        raise InputError(
            f"CIFAR-10 could not be downloaded from {self.url}: {why}. Put {self.archive.name}, or the folder "
            f"{self.folder.name} of it, into {raw}, and run the command again. The demo needs no download: "
            "kedro run --env=demo"
        ) from cause


def _fetch(folder: Path, files: dict[str, tuple[str, str]]) -> Path:
    """Download files, which appear in a folder once the checksums of all of them have been verified.

    What a killed download leaves behind is removed by one that follows an hour later.

    Args:
        folder: which is created.
        files: path of a file in the folder -> its URL and checksum; all of them have the same first part.

    Returns:
        That first part in the folder: the only file, or the folder of them.

    Raises:
        OSError: a file could not be downloaded or saved.
        ValueError: a checksum is wrong.
    """
    import pooch

    target = folder / PurePosixPath(next(iter(files))).parts[0]
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, suffix=f"-{target.name}", dir=folder) as unfinished:
        for name, (url, checksum) in files.items():
            path = Path(unfinished, name)
            pooch.retrieve(url, known_hash=checksum, fname=path.name, path=path.parent, progressbar=True)
            share(path)
        put(Path(unfinished, target.name), target)
        Path(unfinished, target.name).replace(target)
    return target


def _why(error: Exception) -> str:
    """Return why a download failed, without the addresses that are most of the text of a connection error."""
    import requests

    return type(error).__name__ if isinstance(error, requests.ConnectionError) else reason(error)


class _ForbiddenError(Exception):
    """A pickle requests something that is neither an array nor a plain value."""


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes that Python 3 pickled as text, in place of the `codecs.encode` that such a pickle requests."""
    if encoding != "latin1":
        raise _ForbiddenError(f"was refused: it requests the encoding {encoding!r}")
    return text.encode(encoding)


class _Unpickler(pickle.Unpickler):
    """Unpickler of NumPy arrays and plain values that refuses everything else a pickle can request."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {  # module and name -> what is used in its place, if not None
        ("numpy._core.multiarray", "_reconstruct"): None,
        ("numpy._core.multiarray", "scalar"): None,
        ("numpy._core.numeric", "_frombuffer"): None,
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): None,
        ("collections", "OrderedDict"): None,
        ("_codecs", "encode"): _encode,  # bytes in the protocols 0 to 2
        ("__builtin__", "bytes"): lambda: b"",  # empty bytes in these protocols
    }
    # What a pickle requests of the standard library is there to be called, except for the types of these modules.
    DATA = frozenset({"array", "collections", "copy_reg", "copyreg", "datetime", "decimal", "enum", "pathlib", "uuid"})
    CALLED = sys.stdlib_module_names - DATA | {"__builtin__", "commands"}  # the latter two are Python 2's

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return the class or function if it is allowed; pickle calls this for each one that a file requests."""
        requested = module_name.replace("numpy.core", "numpy._core"), global_name  # before and since NumPy 2
        if requested in self.ALLOWED:
            return self.ALLOWED[requested] or super().find_class(*requested)
        if module_name.split(".")[0] in self.CALLED:
            raise _ForbiddenError(f"was refused: it requests {module_name}.{global_name}")
        raise _ForbiddenError(f"is unsupported: it contains a {module_name}.{global_name}")


def _check_memo(content: bytes) -> None:
    """Refuse a pickle that numbers its values beyond its length, as a damaged one may: pickle allocates 16 bytes each.

    Raises:
        ValueError: it does, or it is truncated.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > len(content):
            raise ValueError(f"it numbers a value {argument:,}")


def _unpickle(content: bytes, source: str) -> dict[Any, Any]:
    """Read a pickled dictionary; `source` is its name in error messages."""
    try:
        _check_memo(content)
        # The official files were written by Python 2, whose strings are bytes.
        values = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except _ForbiddenError as error:
        raise InputError(
            f"{source} {error}, but CIFAR-10 consists of arrays, numbers and text. Replace the file."
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise InputError(f"{source} is truncated or not a pickle file ({reason(error)}). Replace the file.") from error
    if not isinstance(values, dict):
        raise InputError(f"{source} contains a {type(values).__name__} instead of a dictionary. Replace the file.")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in values.items()}


def _python_batch(source: str, content: bytes) -> RawBatch:
    """Read a batch of the Python version."""
    batch = _unpickle(content, source)
    missing = {"data", "labels"} - batch.keys()
    if missing:
        raise InputError(f"{source} does not contain the entry {' or '.join(sorted(missing))}. Replace the file.")
    try:
        return RawBatch(source, np.asarray(batch["data"]), np.asarray(batch["labels"]))
    except ValueError as error:  # rows or labels of different lengths
        raise InputError(f"{source}: data or labels do not form an array ({error}). Replace the file.") from error


def _python_class_names(source: str, content: bytes) -> RawClassNames:
    """Read the names of the classes of the Python version."""
    meta = _unpickle(content, source)
    try:
        names = [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in meta["label_names"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{source} has no list of names in its entry label_names. Replace or remove the file."
        ) from error
    return RawClassNames(source, names)


def _binary_batch(source: str, content: bytes) -> RawBatch:
    """Read a batch of the binary version: for each image a byte with its label, then its pixels."""
    if len(content) % (1 + PIXELS):
        raise InputError(
            f"{source} is truncated or not a batch: its {len(content):,} bytes are not a multiple of {1 + PIXELS:,}. "
            "Replace the file."
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return RawBatch(source, rows[:, 1:], rows[:, 0])


def _binary_class_names(source: str, content: bytes) -> RawClassNames:
    """Read the names of the classes of the binary version, one per line."""
    try:
        return RawClassNames(source, [line.strip() for line in content.decode("utf-8").splitlines() if line.strip()])
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not text ({error}). Replace or remove the file.") from error


READERS: dict[str, Callable[[str, bytes], RawBatch | RawClassNames]] = {  # file -> what reads it
    **dict.fromkeys(TRAIN_BATCHES + TEST_BATCHES, _python_batch),
    **dict.fromkeys([f"{name}.bin" for name in TRAIN_BATCHES + TEST_BATCHES], _binary_batch),
    META[""]: _python_class_names,
    META[".bin"]: _binary_class_names,
}


def _names(folder: Path) -> set[str]:
    """Return the names of what is in a folder; none if it does not exist or cannot be read."""
    return {path.name for path in folder.glob("*")}


def _suffix(names: Collection[str]) -> str | None:
    """Return the suffix of the version whose batches are among these files, or None if there are none."""
    for suffix in META:
        if any(f"{name}{suffix}" in names for name in TRAIN_BATCHES + TEST_BATCHES):
            return suffix
    return None


class PixelCSVDataset(RawDataset):
    """One of the two Kaggle CSV files: one column per pixel, and a column `label`.

    Columns named NAME + number are read in the order of their numbers; others, in that of the file.
    """

    LABEL = "label"
    ROWS = 5_000  # read at a time: 55 MB of text, 15 MB of pixels

    def __init__(self, *, filepath: str, metadata: dict | None = None) -> None:
        self.path = Path(local(filepath))
        self.metadata = metadata

    def load(self) -> Iterator[RawBatch]:
        """Read a few thousand rows at a time, so that the whole file is never in memory as text or as one table.

        Raises:
            InputError: while iterating, at the first error in the file.
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
                    yield RawBatch(source, chunk.to_numpy(), labels.to_numpy(), ordered=False)
                    row += len(chunk)
        except (ValueError, OverflowError, pd.errors.ParserWarning) as error:  # parser errors are ValueErrors
            problem = self._bad_cell(row) or f"{self.path}, after row {row}: {' '.join(str(error).split())}."
            raise InputError(f"{problem} Replace the file.") from error

    def _exists(self) -> bool:
        fetch(self.path)
        return self.path.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self.path)}

    def _pixel_columns(self) -> list[str]:
        """Return the names of the 3,072 pixel columns in the order in which they form an image."""
        fetch(self.path)
        if not self.path.is_file():
            raise InputError(
                f"{self.path} is missing. Put train.csv and test.csv of the Kaggle dataset into {self.path.parent}, "
                "or read the pickle batches instead: kedro run --pipelines=ingestion"
            )
        try:
            columns = list(pd.read_csv(self.path, nrows=0, index_col=False).columns)
        except ValueError as error:  # an empty file, or one that is not text
            raise InputError(f"{self.path} is not a CSV file ({error}). Replace the file.") from error
        if self.LABEL not in columns:
            raise InputError(f"{self.path} has no column named {self.LABEL!r} in its first line. Replace the file.")
        columns.remove(self.LABEL)
        numbered = [match for match in map(NUMBERED.fullmatch, columns) if match]
        names = Counter(match[1] for match in numbered)
        name = max(names, key=names.__getitem__, default="")
        if names[name] <= PIXELS // 2 and len(columns) == PIXELS:
            return _by_colour(columns)
        found = {int(match[2]): match[0] for match in numbered if match[1] == name}
        first = 1 if PIXELS in found and 0 not in found else 0
        numbers = range(first, first + PIXELS)
        in_order = [found[number] for number in numbers if number in found]
        if len(in_order) == len(columns) == PIXELS:
            return in_order
        faults = [f"expected {PIXELS:,} besides {self.LABEL!r}, found {len(columns):,}"]
        if names[name] > PIXELS // 2:
            faults += [f"{name}{number} is missing" for number in numbers if number not in found][:1]
            faults += [f"{column} is not a pixel column" for column in columns if column not in in_order][:1]
        raise InputError(f"{self.path} has the wrong pixel columns: {'; '.join(faults)}. Replace the file.")

    def _bad_cell(self, first_row: int) -> str | None:
        """Describe the first cell after `first_row` that is not a byte, because pandas does not report which one it is.

        Return None if there is no such cell in this chunk.
        """
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
        except (ValueError, pd.errors.ParserWarning):  # rows of the wrong length, which the original error reports
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


def _by_colour(columns: list[str]) -> list[str]:
    """Return columns of one NAME + number per colour as red, green and blue, by number; others in their order."""
    numbered = [match for match in map(NUMBERED.fullmatch, columns) if match]
    names = sorted({match[1] for match in numbered}, key=lambda name: "rgb".find(name[:1].lower()))
    if len(numbered) < len(columns) or [name[:1].lower() for name in names] != ["r", "g", "b"]:
        return columns
    return [match[0] for match in sorted(numbered, key=lambda match: (names.index(match[1]), int(match[2])))]
