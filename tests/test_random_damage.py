"""Inputs damaged at random: each is refused in one sentence that names the file, or read as what it says."""

import collections
import csv
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import yaml
from kedro.io import DatasetError
from PIL import Image

from cifar10.cli import _message as message
from cifar10.contracts import Evaluations, Record, Statistics, TrainedModel
from cifar10.datasets import parquet
from cifar10.datasets.arrays import ExamplesDataset
from cifar10.datasets.files import CSVDataset
from cifar10.datasets.model import ModelDataset
from cifar10.datasets.raw import META, PIXELS, TEST_BATCHES, TRAIN_BATCHES, BatchesDataset, PixelCSVDataset
from cifar10.errors import InputError
from cifar10.images import read_image
from cifar10.pipelines.ingestion.nodes import read_batches, read_csv
from cifar10.pipelines.reporting.nodes import rank
from cifar10.training.checkpoint import Checkpoint, Checkpoints
from tests.helpers import (
    CLASS_NAMES,
    PROJECT,
    make_evaluation,
    make_evaluations,
    make_record,
    raw_images,
    write_batch,
    write_parquet,
)

pytestmark = pytest.mark.slow
INPUTS = int(os.environ.get("CIFAR10_DAMAGED_INPUTS", "20000"))  # in total
MAX_DAMAGES = 4  # per file
SNIPPETS = (b"", b"\n", b",", b'"', b"\x00", b"\xff", b"-1", b"1e9", b"nan", b"null", b"{}", b"[", b"cposix\nsystem\n")
ARCHIVE = "cifar-10-python.tar.gz"
LEADERBOARD = yaml.safe_load((PROJECT / "conf/base/catalog.yml").read_text(encoding="utf-8"))["leaderboard"]
IDENTITY = {"architecture": "vgg16", "recipe": {"seed": 0}, "data_version": "abc"}
# What a file that runs code would do.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "os.remove")


class Kind(NamedTuple):
    """One kind of input.

    Attributes:
        share: of all inputs.
        write: writes valid files into an empty folder, and returns those that are damaged.
        read: reads the files in this folder.
        is_right: whether a value may be what is read from a damaged file, given the folder, and the value of the valid
            files.
    """

    share: float
    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    is_right: Callable[[Path, Any, Any], bool]


def write_batches(folder):
    folder = folder / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        write_batch(folder / name, *raw_images(2, seed=number))
    with (folder / META[""]).open("wb") as file:
        file.write(b"\x80\x02}q\x00U\x0blabel_namesq\x01]q\x02(" + b"".join(b"U%c%b" % (len(n), n) for n in names()))
        file.write(b"es.")
    return sorted(folder.iterdir())


def names():
    return [name.encode() for name in CLASS_NAMES]


def write_archive(folder):
    files = write_batches(folder)
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        archive.add(files[0].parent, arcname="cifar-10-batches-py")
    for file in files:
        file.unlink()
    return [folder / ARCHIVE]


def write_parquets(folder):
    pytest.importorskip("pyarrow")
    paths = [folder / "plain_text" / name for name in (parquet.TRAIN, parquet.TEST)]
    for seed, path in enumerate(paths):
        write_parquet(path, *raw_images(6, seed), CLASS_NAMES)
    return paths


def load_batches(folder):
    dataset = BatchesDataset(
        filepath=str(folder / "cifar-10-batches-py"), archive=ARCHIVE, url="http://127.0.0.1:9", md5="0" * 32
    )
    return read_batches(dataset.load(), CLASS_NAMES)


def write_csvs(folder):
    header = ",".join(["label", *(f"pixel{number}" for number in range(PIXELS))])
    for seed, name in enumerate(("train.csv", "test.csv")):
        pixels, labels = raw_images(3, seed)
        rows = [",".join(map(str, [label, *row])) for row, label in zip(pixels.tolist(), labels, strict=True)]
        (folder / name).write_text("\n".join([header, *rows, ""]))
    return [folder / "train.csv", folder / "test.csv"]


def load_csvs(folder):
    return read_csv(
        *(PixelCSVDataset(filepath=str(folder / name)).load() for name in ("train.csv", "test.csv")), CLASS_NAMES
    )


def same_examples(folder, value, valid):
    return all(
        one.images.dtype == np.uint8
        and np.array_equal(one.images, other.images)
        and np.array_equal(one.labels, other.labels)
        for one, other in zip(value, valid, strict=True)
    )


def as_the_batches_say(folder, value, valid):
    """Pickles have no checksum, so a changed pixel or label is not noticed; but the pixels are those in the file."""
    contents = [(folder / "cifar-10-batches-py" / name).read_bytes() for name in TRAIN_BATCHES + TEST_BATCHES]
    images, labels = (np.concatenate([getattr(each, name) for each in value]) for name in ("images", "labels"))
    pixels = images.transpose(0, 3, 1, 2).reshape(len(contents), -1)
    return (
        len(labels) == len(images)
        and labels.max() < 10
        and all(batch.tobytes() in content for batch, content in zip(pixels, contents, strict=True))
    )


def images_of_the_file(folder, value, valid):
    """PNG has checksums, which are verified, but labels and the order of the rows have none."""
    return all(
        {*one.image_digests()} <= {*other.image_digests()} and one.labels.max() < 10
        for one, other in zip(value, valid, strict=True)
    )


def as_the_csv_says(folder, value, valid):
    """Compare with a strict reader: as many cells in every row as in the header, and whole numbers from 0 to 255."""
    for name, examples in zip(("train.csv", "test.csv"), value, strict=True):
        header, *rows = [row for row in csv.reader((folder / name).open(newline="", encoding="utf-8")) if row]
        if any(len(row) != len(header) for row in rows):
            return False
        table = np.array([[int(cell) for cell in row] for row in rows])
        columns = [header.index(f"pixel{number}") for number in range(PIXELS)] if "pixel0" in header else None
        columns = columns or [place for place, name in enumerate(header) if name != "label"]
        images = table[:, columns].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        if not np.array_equal(images, examples.images) or not np.array_equal(
            table[:, header.index("label")], examples.labels
        ):
            return False
    return True


def write_artifact(artifact):
    def write(folder):
        (folder / "artifact.json").write_text(artifact.to_json())
        return [folder / "artifact.json"]

    return write


def as_the_json_says(folder, value, valid):
    """Compare with the JSON itself, in which 1 may stand for 1.0, so that no other value is converted."""
    texts = (folder / "artifact.json").read_text(), json.dumps(value.model_dump(exclude_unset=True))
    written, read = (json.loads(text, parse_int=float) for text in texts)
    del written["schema"]
    return json.dumps(written, sort_keys=True) == json.dumps(read, sort_keys=True)


def write_leaderboard(folder):
    rows = (make_evaluation("vgg16", temperature=1.25), make_evaluation("vgg19", val_accuracy=0.8))
    leaderboard(folder).save(rank(make_evaluations(*rows), CLASS_NAMES))
    return [folder / "leaderboard.csv"]


def leaderboard(folder):
    options = {name: LEADERBOARD[name] for name in ("load_args", "save_args")}
    return CSVDataset(filepath=str(folder / "leaderboard.csv"), **options)


def as_the_leaderboard_says(folder, value, valid):
    header, *rows = csv.reader((folder / "leaderboard.csv").open(newline="", encoding="utf-8"))
    for row, (_, read) in zip(rows, value.iterrows(), strict=True):
        if len(row) != len(header):
            return False
        for name in LEADERBOARD["load_args"]["dtype"]:
            cell, found = row[header.index(name)], read[name]
            if cell != ("" if found != found else str(found)) and float(cell) != found:
                return False
    return True


def write_checkpoints(folder):
    for epochs in (1, 2):
        Checkpoints(folder).save(IDENTITY, checkpoint(epochs))
    return sorted(folder.glob("*/epoch_*.npz"))


def checkpoint(epochs):
    state = [np.full((3, 2), epochs, "float32"), np.uint32([epochs, 7])]
    return Checkpoint(state, None if epochs % 2 else [np.zeros(4)], {"history": [{"epoch": epochs}] * epochs})


def one_of_the_checkpoints(folder, value, valid):
    if value is None:
        return True
    expected = checkpoint(len(value.facts["history"]))
    pairs = zip([*value.state, *(value.best or [])], [*expected.state, *(expected.best or [])], strict=True)
    return value.facts == expected.facts and all(
        one.dtype == other.dtype and np.array_equal(one, other) for one, other in pairs
    )


def write_examples(folder):
    pixels, labels = raw_images(5, 0)
    with (folder / "examples.npz").open("wb") as file:
        np.savez(file, images=pixels.reshape(-1, 32, 32, 3), labels=np.array(labels, np.uint8))
    return [folder / "examples.npz"]


def of_the_same_digest_if_equal(folder, value, valid):
    """Images are mapped, and their checksum is not verified, but their digest is before they are used."""
    return value.digest != valid.digest or same_examples(folder, [value], [valid])


def write_images(folder):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(folder / "a.png")
    image.save(folder / "b.jpg", progressive=True)
    image.convert("P").save(folder / "c.gif")
    image.save(folder / "d.webp")
    image.convert("L").save(folder / "e.tif", compression="tiff_lzw")
    image.convert("CMYK").save(folder / "f.jpg")
    image.save(folder / "g.bmp")
    return sorted(folder.iterdir())


def load_images(folder):
    return [read_image(path) for path in sorted(folder.iterdir())]


def rgb_images(folder, value, valid):
    return all(image.mode == "RGB" and image.width * image.height <= 50_000_000 for image in value)


def write_network(folder):
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer="ones")])
    record = make_record(architecture="network", parameters=network.count_params())
    ModelDataset(filepath=str(folder / "network.keras")).save(TrainedModel(record, lambda: network))
    return [folder / "network.keras"]


def load_network(folder):
    network = ModelDataset(filepath=str(folder / "network.keras")).load().load_network()
    return np.asarray(network(np.ones((1, 3), np.float32)))


KINDS = {
    "batches": Kind(0.23, write_batches, load_batches, as_the_batches_say),
    "archive": Kind(0.1, write_archive, load_batches, same_examples),
    "CSV": Kind(0.02, write_csvs, load_csvs, as_the_csv_says),
    "images": Kind(0.2, write_images, load_images, rgb_images),
    "record.json": Kind(
        0.1, write_artifact(make_record()), lambda folder: Record.read(folder / "artifact.json"), as_the_json_says
    ),
    "statistics.json": Kind(
        0.05,
        write_artifact(
            Statistics(mean=(1, 2, 3), std=(4, 5, 6), patch_covariance=((7, 8),), digests={}, data_version="a")
        ),
        lambda folder: Statistics.read(folder / "artifact.json"),
        as_the_json_says,
    ),
    "evaluations.json": Kind(
        0.05,
        write_artifact(make_evaluations(make_evaluation())),
        lambda folder: Evaluations.read(folder / "artifact.json"),
        as_the_json_says,
    ),
    "leaderboard": Kind(0.1, write_leaderboard, lambda folder: leaderboard(folder).load(), as_the_leaderboard_says),
    "checkpoints": Kind(
        0.05, write_checkpoints, lambda folder: Checkpoints(folder).latest(IDENTITY), one_of_the_checkpoints
    ),
    "examples": Kind(
        0.04,
        write_examples,
        lambda folder: ExamplesDataset(filepath=str(folder / "examples.npz")).load(),
        of_the_same_digest_if_equal,
    ),
    "Parquet": Kind(0.05, write_parquets, load_batches, images_of_the_file),
    "network": Kind(0.01, write_network, load_network, lambda folder, value, valid: np.array_equal(value, valid)),
}


def damage(content, generator):
    """Change, delete, double or swap bytes, half of them near the beginning or the end, or cut the file."""
    for _ in range(generator.integers(1, MAX_DAMAGES + 1)):
        size = len(content)
        at, other = sorted(int(place) for place in generator.integers(0, size + 1, 2))
        if generator.random() < 0.5:
            at = min(at, int(generator.integers(0, 100)))
        span = int(generator.choice([1, 1, 2, 4, 16, 100, 1000]))
        match generator.integers(6):
            case 0:
                content = content[:at] + generator.bytes(min(span, size - at)) + content[at + span :]
            case 1:
                flipped = content[at : at + 1]
                content = (
                    content[:at] + bytes(byte ^ 1 << int(generator.integers(8)) for byte in flipped) + content[at + 1 :]
                )
            case 2:
                content = content[:at] + content[at + span :]
            case 3:
                content = content[: at + span] + content[at:]
            case 4:
                other = max(other, at + span)
                first, second = content[at : at + span], content[other : other + span]
                content = content[:at] + second + content[at + span : other] + first + content[other + span :]
            case 5 if generator.random() < 0.3:
                content = content[:at]
            case 5:
                content = content[:at] + SNIPPETS[generator.integers(len(SNIPPETS))] + content[at:]
    return content


@pytest.fixture
def audited():
    """Record what a file that runs code would do."""
    events, active = [], [True]

    def hook(event, arguments):
        if active[0] and event.startswith(FORBIDDEN):
            events.append((event, arguments))

    sys.addaudithook(hook)  # it cannot be removed
    yield events
    active[0] = False


@pytest.mark.parametrize("name", KINDS)
def test_random_damage(tmp_path, audited, name):
    kind, generator = KINDS[name], np.random.default_rng(list(KINDS).index(name))
    files = kind.write(tmp_path)
    contents = {path: path.read_bytes() for path in files}
    valid = kind.read(tmp_path)
    outcomes: collections.Counter[str] = collections.Counter()
    for number in range(round(kind.share * INPUTS)):
        path = files[generator.integers(len(files))]
        path.write_bytes(damage(contents[path], generator))
        audited.clear()
        try:
            value = kind.read(tmp_path)
        except (InputError, DatasetError) as error:
            text = message(error)
            assert str(path) in text, (number, text)
            assert len(text.splitlines()) == 1, (number, text)
            assert "Traceback" not in text, (number, text)
            outcomes["refused"] += 1
        else:
            assert kind.is_right(tmp_path, value, valid), (number, path)
            outcomes["read"] += 1
        assert not audited, (number, audited)
        path.write_bytes(contents[path])
    print(f"\n{name}: {dict(outcomes)}")
    assert outcomes["refused"] or name == "checkpoints"
