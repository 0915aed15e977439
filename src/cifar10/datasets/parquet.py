"""Read the Parquet files of CIFAR-10 on the Hugging Face Hub, `uoft-cs/cifar10`: images as PNG, and labels.

They need pyarrow, which is an extra: where it is installed, pandas loads it in every run, and on macOS it cannot be in
one process with TensorFlow 2.20 or later (tensorflow issue 98563).
"""

import hashlib
import importlib.util
import io
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from cifar10.errors import InputError, readable, reason
from cifar10.images import IMAGE_SIZE, decode_image

TRAIN, TEST = "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
NEEDED = "pip install -c constraints.txt -e '.[parquet]'"
ROWS = 1_000  # read at a time: 2 MB of PNG
# The Hub has the five batches of training images in another order, that in which they lie in the official archive. In
# the order of their numbers, the labels have this SHA-256 as int64.
BATCHES = 5
TRAIN_LABELS = "f5cfe00b0f00968c0cc5ff3b1d2de51b10e33efa277c2986f4e0fa63e58c9f4f"


class Table(NamedTuple):
    """The content of a file.

    Attributes:
        pixels: uint8 (n, 3072), in the order of the batches: red, green, blue.
        labels: int64 (n,).
        class_names: in the order of the labels; empty if the file has none.
    """

    pixels: np.ndarray
    labels: np.ndarray
    class_names: list[str]


def is_installed() -> bool:
    """Return whether Parquet files can be read."""
    return importlib.util.find_spec("pyarrow") is not None


def read_parquet(path: Path) -> Table:
    """Read a file, whose training images come in the order of the batches 1 to 5 if they are those of CIFAR-10.

    A thousand rows are decoded at a time, so that no more than the pixels of all is in memory.

    Raises:
        InputError: pyarrow is not installed; the file is damaged, or has other columns; a label is missing; or an image
            is missing, not a PNG, damaged, or not of 32x32 pixels.
    """
    if not is_installed():
        raise InputError(f"{path} is a Parquet file, which needs pyarrow, and this is not installed: {NEEDED}")
    import pyarrow.parquet

    with readable(path, "Replace the file."), pyarrow.parquet.ParquetFile(path) as file:
        _check_columns(file.schema_arrow)
        pixels: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for batch in file.iter_batches(ROWS, columns=["img", "label"]):
            first = 1 + sum(map(len, labels))
            pngs = batch.column("img").field("bytes").to_pylist()
            pixels.append(np.stack([_decode(png, number) for number, png in enumerate(pngs, start=first)]))
            labels.append(_labels(batch.column("label"), first))
        if not pixels:
            raise ValueError("it has no rows")
        table = Table(np.concatenate(pixels), np.concatenate(labels), _class_names(file.schema_arrow))
    return _in_order(table)


def _check_columns(schema: Any) -> None:
    from pyarrow import types

    columns = dict(zip(schema.names, schema.types, strict=True))
    img, label = columns.get("img"), columns.get("label")
    content = {field.name: field.type for field in img.fields}.get("bytes") if img and types.is_struct(img) else None
    is_content = content and (types.is_binary(content) or types.is_large_binary(content))
    if not (is_content and label and types.is_integer(label)):
        found = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
        raise ValueError(
            f"its columns are {found}, but must be img, a struct with PNG files in its field bytes, and label, integers"
        )


def _labels(column: Any, first: int) -> np.ndarray:
    missing = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
    if len(missing):
        raise ValueError(f"image {first + missing[0]} has no label")
    return column.to_numpy().astype(np.int64)


def _decode(png: bytes | None, number: int) -> np.ndarray:
    """Return the pixels of an image, uint8 (3072,)."""
    name = f"image {number}"
    if png is None:
        raise ValueError(f"{name} has no content")
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(f"{name} has {image.width}x{image.height} pixels instead of {IMAGE_SIZE}x{IMAGE_SIZE}")
            image.verify()  # the checksums, which decoding ignores
        return np.asarray(decode_image(io.BytesIO(png), name, IMAGE_SIZE**2)).transpose(2, 0, 1).ravel()
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not a PNG") from None
    except (InputError, OSError, SyntaxError) as error:  # Pillow raises the latter two
        raise ValueError(f"{name} is damaged ({reason(error)})") from error


def _class_names(schema: Any) -> list[str]:
    """Return the names of the classes, which `datasets` stores as metadata of the schema."""
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return features.get("label", {}).get("names", [])


def _in_order(table: Table) -> Table:
    """Return the training images of CIFAR-10 in the order of the batches; others as they are."""
    for blocks in itertools.permutations(np.array_split(np.arange(len(table.labels)), BATCHES)):
        order = np.concatenate(blocks)
        if hashlib.sha256(table.labels[order].tobytes()).hexdigest() == TRAIN_LABELS:
            return table._replace(pixels=table.pixels[order], labels=table.labels[order])
    return table
