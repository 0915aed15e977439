"""The whole road, killed or without disk space at random moments, ends with what an undisturbed one ends with.

It leads from the raw images to the export, and to `kedro prune`. Each road is disturbed several times, and each time
the same command follows. `CIFAR10_ROADS=2 pytest -m slow -n 0 -s tests/test_road.py` runs the first two roads alone.
"""

import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import time
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pandas as pd
import pytest

from cifar10.datasets.artifact import VERSION
from cifar10.datasets.raw import TEST_BATCHES, TRAIN_BATCHES
from tests.helpers import kill, launch, raw_images, write_batch

ROADS = int(os.environ.get("CIFAR10_ROADS", "25"))
KILLS = 8  # of a road: 200 in 25 roads
FULL_DISKS = 6  # of every fifth road: 30 in 25 roads
DISK = 200 << 20  # bytes; an undisturbed road takes a tenth of them

PIPELINES = "ingestion,preprocessing,train_simple_cnn,evaluation,robustness,reporting,export"
OPTIONS = "simple_cnn.epochs=3,robustness.examples=20,export.architecture=simple_cnn"

# All that may differ between two roads: dates, durations, speeds, and what depends on the bytes of the network's file,
# which has a date in it. By name in JSON and tables; in text, hashes and every number without a per cent sign.
# Of figures, those of latency and training time; and Grad-CAM, whose gradients differ in their last digits, which moved
# one pixel in five thousand by up to 5 of 255 levels. Of exported files, those that number their parts in any order.
VARYING = {
    "seconds", "joules", "training_seconds", "training_joules", "latency_ms", "latency_low_ms", "latency_high_ms",
    "throughput", "latency_1_ms", "latency_32_ms", "exported_at", "identity", "evaluations", "megabytes",
}  # fmt: skip
VARYING_TEXT = re.compile(r"\b[0-9a-f]{12,64}\b|\d[\d.,:e+-]*(?![\d.]*%)")
VARYING_FIGURES = ("trade_offs", "comparison", "simple_cnn_mistakes")
VARYING_BYTES = ("saved_model.pb", "fingerprint.pb", "model.onnx")
# An export that was complete when the run was killed is followed by another one. An empty lock file stays.
EXPORT = re.compile(r"(?<=serving/simple_cnn/)\d+")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A data folder with nothing but 600 raw images."""
    root = tmp_path_factory.mktemp("raw")
    folder = root / "01_raw/cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(TRAIN_BATCHES + TEST_BATCHES):
        write_batch(folder / name, *raw_images(100, seed=number))
    return root


def travel(root, seconds=math.inf, disturb=None):
    """Run the two commands of a road one after the other; return False if one was disturbed after that time."""
    end = time.monotonic() + seconds
    run = ("run", f"--pipelines={PIPELINES}", f"--params=data_root={root},{OPTIONS}")
    for arguments in (run, ("prune", "--keep=1", "--yes", f"--params=data_root={root}")):
        process = launch(*arguments, TMPDIR=str(root.parent))
        try:
            output, _ = process.communicate(timeout=None if disturb is None else max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            disturb(process)
            return False
        assert process.returncode == 0, output
    return True


def contents(root):
    """Return what must be equal after two roads: the content of every file, by its path without its version."""
    found = {}
    for path in sorted(root.rglob("*")):  # of several exports, the last one counts
        place = EXPORT.sub("INTEGER", VERSION.sub("VERSION", path.relative_to(root).as_posix()))
        assert place not in found or "INTEGER" in place, f"{path} is left over"
        found[place] = comparable(path) if path.is_file() else "folder"
    return found


def comparable(path):
    """Return what of a file must be equal after two roads."""
    if path.stem.startswith(VARYING_FIGURES) or path.name in VARYING_BYTES:
        return "there"
    match path.suffix:
        case ".json":
            return stable(json.loads(path.read_text()))
        case ".csv":
            return pd.read_csv(path).pipe(lambda table: stable(table.to_dict("list")))
        case ".npz":
            with np.load(path) as arrays:
                return {name: exact(arrays[name]) for name in arrays if name not in VARYING}
        case ".keras":
            with zipfile.ZipFile(path) as file:
                return file.read("config.json"), weights(file.read("model.weights.h5"))
        case ".md" | ".html":
            return VARYING_TEXT.sub("#", re.sub('base64,[^"]*', "", path.read_text()))
        case ".svg":
            return VARYING_TEXT.sub(
                lambda found: "#" if re.fullmatch("[0-9a-f]{12,64}", found[0]) else found[0], path.read_text()
            )
    return path.read_bytes()


def stable(value):
    """Return a value of JSON without what varies."""
    if isinstance(value, dict):
        return {name: stable(each) for name, each in value.items() if name not in VARYING}
    if isinstance(value, list):
        return [stable(each) for each in value]
    return VERSION.sub("VERSION", value) if isinstance(value, str) else repr(value)  # NaN differs from itself


def exact(array):
    return array.shape, array.dtype.str, array.tobytes()


def weights(content):
    """Return the arrays of an HDF5 file by name."""
    arrays = {}
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(lambda name, each: arrays.update({name: exact(each[()])}) if hasattr(each, "shape") else None)
    return arrays


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    """Return how many seconds an undisturbed road takes, and what it ends with."""
    root = tmp_path_factory.mktemp("undisturbed") / "data"
    shutil.copytree(raw, root)
    start = time.monotonic()
    travel(root)
    return time.monotonic() - start, contents(root)


def moments(roads, each, seed):
    """Return moments of roads as shares of their duration: random ones, spread evenly over all of them."""
    generator = random.Random(seed)
    spread = [(number + generator.random()) / (roads * each) for number in range(roads * each)]
    generator.shuffle(spread)
    return [spread[first : first + each] for first in range(0, len(spread), each)]


def arrive(root, expected):
    """Travel to the end an hour later, when what killed runs have left behind may be deleted; compare what is there."""
    for path in root.rglob("*"):
        os.utime(path, (0, 0))
    assert travel(root)
    found = contents(root)
    assert found.keys() == expected.keys()
    assert [place for place in expected if found[place] != expected[place]] == []


@pytest.mark.slow
@pytest.mark.parametrize("shares", moments(25, KILLS, seed=0)[:ROADS])
def test_a_road_that_is_killed_ends_like_an_undisturbed_one(raw, undisturbed, tmp_path, shares, capsys):
    seconds, expected = undisturbed
    root = tmp_path / "data"
    shutil.copytree(raw, root)
    killed = sum(not travel(root, share * seconds, kill) for share in shares)
    with capsys.disabled():
        print(f"\nkilled {killed} times; {len(shares) - killed} times it ended before")
    arrive(root, expected)


@pytest.fixture
def disk(tmp_path):
    """A small disk."""
    if os.geteuid() != 0:
        pytest.skip("Only root can mount a small disk.")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"No small disk can be mounted: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("shares", moments(5, FULL_DISKS, seed=1)[: math.ceil(ROADS / 5)])
def test_a_road_on_a_full_disk_ends_like_an_undisturbed_one(raw, undisturbed, disk, shares, capsys):
    """The disk also has the temporary files."""
    seconds, expected = undisturbed
    root = disk / "data"
    shutil.copytree(raw, root)
    outputs = []

    def fill(process):
        with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        outputs.append(process.communicate()[0])
        (disk / "ballast").unlink()

    full = sum(not travel(root, share * seconds, fill) for share in shares)
    with capsys.disabled():
        print(f"\nfull {full} times; {len(shares) - full} times it ended before")
    assert [output for output in outputs if "Traceback" in output or output.count("Error: ") > 1] == []
    arrive(root, expected)
