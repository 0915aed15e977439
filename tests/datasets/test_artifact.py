import errno
import json
import os
import resource
import time

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from matplotlib.figure import Figure

from cifar10.contracts import Examples, Predictions, Statistics, TrainedModel
from cifar10.datasets.arrays import ExamplesDataset, PredictionsDataset
from cifar10.datasets.artifact import atomic
from cifar10.datasets.files import CSVDataset, FigureDataset, JSONDataset, MetricsDataset, StatisticsDataset
from cifar10.datasets.model import ModelDataset
from cifar10.errors import InputError

EXAMPLES = Examples(np.arange(2 * 3072, dtype=np.uint8).reshape(2, 32, 32, 3), np.array([3, 4], np.uint8))
PREDICTIONS = Predictions(
    np.eye(3)[[2]], np.eye(3, dtype=np.float32), np.ones((2, 3), np.float32) / 3, {"version": "v", "n": [1]}
)


def trained(weight: float = 1.0) -> TrainedModel:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(200, kernel_initializer="ones")])
    network.layers[0].bias.assign(np.full(200, weight, np.float32))
    return TrainedModel(network, {"architecture": "small", "weight": weight})


# class, what to save in it, its file's ending
SAVES = [
    (ExamplesDataset, EXAMPLES, "npz"),
    (PredictionsDataset, PREDICTIONS, "npz"),
    (
        StatisticsDataset,
        Statistics((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), ((7.0, 8.0), (8.0, 9.0)), {"train": "abc"}, "def"),
        "json",
    ),
    (JSONDataset, {"a": [1, 2]}, "json"),
    (MetricsDataset, {"accuracy": 0.5}, "json"),
    (CSVDataset, pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]}), "csv"),
    (FigureDataset, Figure(), "png"),
    (ModelDataset, trained(), "keras"),
]
by_class = pytest.mark.parametrize(("cls", "data", "ending"), SAVES, ids=[case[0].__name__ for case in SAVES])


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@by_class
def test_full_disk_leaves_nothing_new_and_everything_old(tmp_path, cls, data, ending):
    path = tmp_path / f"artifact.{ending}"
    cls(filepath=str(path), version=Version(None, "2026-01-01")).save(data)
    before = files(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    smallest = min(len(content) for content in before.values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (smallest // 2, limits[1]))  # writing on fails, as on a full disk
    try:
        with pytest.raises((InputError, DatasetError), match="could not be written"):
            cls(filepath=str(path), version=Version(None, "2026-01-02")).save(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert files(tmp_path) == before
    assert [each.name for each in path.iterdir()] == ["2026-01-01"]


@by_class
def test_what_is_saved_stands_under_its_version_alone(tmp_path, cls, data, ending):
    path = tmp_path / "folder" / f"artifact.{ending}"
    dataset = cls(filepath=str(path), version=Version(None, "2026-01-01"))
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()
    beside = {"keras": {"record.json"}, "png": {"artifact.svg"}}.get(ending, set())
    assert set(files(tmp_path)) == {path / "2026-01-01" / name for name in {path.name, *beside}}


@pytest.mark.parametrize(("cls", "data"), [(cls, data) for cls, data, _ in SAVES if getattr(cls, "OPTIONAL", False)])
def test_optional_artifact_is_none_until_it_is_saved(tmp_path, cls, data):
    path = str(tmp_path / "artifact.keras")
    assert cls(filepath=path, version=Version(None, None)).load() is None
    with pytest.raises(DatasetError, match=r"has no version 2025: nothing has been saved there yet"):
        cls(filepath=path, version=Version("2025", None)).load()

    cls(filepath=path, version=Version(None, "2026")).save(data)
    assert cls(filepath=path, version=Version(None, None)).load() is not None
    with pytest.raises(DatasetError, match=r"has no version 2025: it has 2026\."):
        cls(filepath=path, version=Version("2025", None)).load()


def test_arrays_and_statistics_come_back_as_they_were(tmp_path):
    for (cls, data, ending), names in zip(SAVES[:3], (["images", "labels"], ["val", "test"], []), strict=True):
        dataset = cls(filepath=str(tmp_path / f"artifact.{ending}"), version=Version(None, None))
        dataset.save(data)
        loaded = dataset.load()
        assert type(loaded) is type(data)
        for name in names:
            np.testing.assert_array_equal(getattr(loaded, name), getattr(data, name))
            assert getattr(loaded, name).dtype == getattr(data, name).dtype
        assert [value for value in loaded if not isinstance(value, np.ndarray)] == [
            value for value in data if not isinstance(value, np.ndarray)
        ]


def test_statistics_of_an_earlier_version_say_what_to_run(tmp_path):
    (tmp_path / "statistics.json").write_text(
        '{"mean": [1, 2, 3], "std": [4, 5, 6], "digests": {}, "data_version": "a"}'
    )
    with pytest.raises(DatasetError, match="kedro run --pipelines=preprocessing"):
        StatisticsDataset(filepath=str(tmp_path / "statistics.json")).load()


def test_model_knows_its_version_and_keeps_its_record(tmp_path):
    path = str(tmp_path / "small.keras")
    for number in (1, 2):
        ModelDataset(filepath=path, version=Version(None, f"2026-01-0{number}")).save(trained(number))

    for version, number in (("2026-01-01", 1), (None, 2)):
        network, record = ModelDataset(filepath=path, version=Version(version, None)).load()
        assert record.pop("bytes") > 0
        assert record == {"architecture": "small", "weight": number, "version": f"2026-01-0{number}"}
        assert network(np.zeros((1, 3)))[0, 0] == number
    assert "version" not in json.loads((tmp_path / "small.keras/2026-01-01/record.json").read_text())


def interrupted(target):
    with atomic(target) as path:
        path.write_text("half of it")
        raise KeyboardInterrupt


def test_interrupted_write_keeps_the_file_that_was_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert files(tmp_path) == {target: b"before"}


def test_two_runs_may_write_to_one_file_at_once(tmp_path):
    """Each writes it whole, whatever becomes of the other; the later one stays."""
    target = tmp_path / "file"
    with atomic(target) as one:
        one.write_text("one")
        with pytest.raises(KeyboardInterrupt):
            interrupted(target)
        assert one.read_text() == "one"
        with atomic(target) as other:
            other.write_text("other")
        assert target.read_text() == "other"
    assert files(tmp_path) == {target: b"one"}


def test_what_a_killed_run_left_long_ago_is_removed(tmp_path):
    target = tmp_path / "file"
    for name, age in (("old-file", 7200), ("new-file", 0), ("old-other", 7200)):
        rest = tmp_path / f".unfinished-{name}"
        rest.touch()
        os.utime(rest, (time.time() - age,) * 2)
    with atomic(target) as path:
        path.write_text("whole")
    assert {path.name for path in files(tmp_path)} == {"file", ".unfinished-new-file", ".unfinished-old-other"}


def test_read_only_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="Permission denied"), atomic(tmp_path / "a" / "b" / "file"):
        raise OSError(errno.EACCES, "Permission denied")
    assert not list(tmp_path.iterdir())
