"""Data in an object store, here fsspec's in memory: what one machine saves, another one reads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from kedro.io import DatasetError, Version
from matplotlib.figure import Figure

from cifar10 import cli, store
from cifar10.atomic import atomic
from cifar10.cli import _message
from cifar10.datasets.arrays import ExamplesDataset, PredictionsDataset
from cifar10.datasets.checkpoint import CheckpointDataset
from cifar10.datasets.cifar10_c import CIFAR10CDataset
from cifar10.datasets.files import FiguresDataset, JSONDataset, TextDataset
from cifar10.datasets.model import ModelDataset, ModelsDataset
from cifar10.datasets.raw import BatchesDataset, PixelCSVDataset
from cifar10.errors import InputError
from tests.datasets.test_artifact import EXAMPLES, FIRST, MODEL, PREDICTIONS, SAVES, SECOND, trained
from tests.helpers import PROJECT, bootstrap, run
from tests.training.interruptions import check_same, interrupt_after
from tests.training.test_checkpoint import IDENTITY, after

ROOT = "memory://bucket/data"
FIGURE = Figure()


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Return a function that makes this process one of another machine, by its name: there are no local copies yet."""

    def move_to(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        store._COPIES.clear()
        store.check_writable.cache_clear()

    move_to("first")
    yield move_to
    store._COPIES.clear()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def objects():
    return sorted(path.removeprefix("/bucket/data/") for path in MemoryFileSystem.store)


def copy_of(path):
    return Path(store.local(f"{ROOT}/{path}"))


def test_a_local_path_stays_as_it_is_and_imports_nothing():
    assert store.local("data/a b[1]") == "data/a b[1]"
    code = (
        "import sys, cifar10.pipeline_registry, cifar10.settings; from cifar10.datasets.files import TextDataset; "
        "TextDataset(filepath='a').exists(); print({'s3fs', 'botocore', 'pooch'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(("cls", "data", "extension"), SAVES, ids=[case[0].__name__ for case in SAVES])
def test_what_is_saved_is_read_on_another_machine(machine, cls, data, extension):
    """In each class; the newest version, and one that is asked for."""

    def dataset(load=None, save=None):
        return cls(filepath=f"{ROOT}/artifact.{extension}", version=Version(load, save), optional=True)

    assert dataset().load() is None
    expected = {}
    for version in (FIRST, SECOND):
        saving = dataset(save=version)
        saving.save(data)
        expected[version] = comparable(saving.load())
    machine("second")
    assert comparable(dataset().load()) == expected[SECOND]
    assert dataset().path.parent.name == SECOND
    machine("third")
    assert comparable(dataset(load=FIRST).load()) == expected[FIRST]
    with pytest.raises(DatasetError, match=f"has no version 2025: it has {FIRST}, {SECOND}"):
        dataset(load="2025").load()


def comparable(loaded):
    if hasattr(loaded, "load_network"):
        return loaded.record, [array.tolist() for array in loaded.load_network().get_weights()]
    if hasattr(loaded, "images"):
        return loaded.images.tolist(), loaded.labels.tolist()
    return loaded.to_dict() if isinstance(loaded, pd.DataFrame) else loaded


def test_the_file_by_which_a_version_is_recognised_is_put_last(monkeypatch):
    put = []
    put_file = MemoryFileSystem.put_file
    monkeypatch.setattr(
        MemoryFileSystem, "put_file", lambda self, local, key: put.append(key) or put_file(self, local, key)
    )
    for cls, data, extension in SAVES[-2:]:
        cls(filepath=f"{ROOT}/artifact.{extension}", version=Version(None, FIRST)).save(data)
    assert [Path(key).name for key in put] == ["artifact.svg", "artifact.png", "record.json", "artifact.keras"]


def test_folders_are_read_on_another_machine(machine):
    FiguresDataset(filepath=f"{ROOT}/portraits", version=Version(None, FIRST)).save({"a": FIGURE, "b": FIGURE})
    PredictionsDataset(filepath=f"{ROOT}/predictions").load().save(MODEL, PREDICTIONS)
    ModelDataset(filepath=f"{ROOT}/models/artifact.keras", version=Version(None, FIRST)).save(trained())
    machine("second")
    assert set(FiguresDataset(filepath=f"{ROOT}/portraits", version=Version(None, None)).load()) == {"a", "b"}
    found = PredictionsDataset(filepath=f"{ROOT}/predictions").load().load(MODEL)
    np.testing.assert_array_equal(found.test, PREDICTIONS.test)
    models = ModelsDataset(filepath=f"{ROOT}/models")
    assert models.exists()
    assert [each.version for each in models.load().all()] == [FIRST]


def test_raw_data_are_read_and_downloads_are_put(batches_folder, tmp_path, monkeypatch, machine):
    subprocess.run(["tar", "-czf", "archive.tar.gz", batches_folder.name], cwd=tmp_path, check=True)
    options = {"filepath": f"{ROOT}/01_raw/cifar-10-batches-py", "archive": "archive.tar.gz"}
    downloads = {"url": (tmp_path / "archive.tar.gz").as_uri(), "md5": "0"}

    def retrieve(url, known_hash, fname, path, progressbar):
        (path / fname).write_bytes((tmp_path / "archive.tar.gz").read_bytes())

    monkeypatch.setattr("pooch.retrieve", retrieve)
    first = BatchesDataset(**options, **downloads).load()
    assert objects() == ["01_raw/archive.tar.gz"]
    machine("second")
    monkeypatch.delattr("pooch.retrieve")
    np.testing.assert_array_equal(BatchesDataset(**options, **downloads).load().test[0].pixels, first.test[0].pixels)

    filesystem = MemoryFileSystem()
    filesystem.pipe_file("/bucket/data/01_raw/train.csv", b"label\n3\n")
    filesystem.pipe_file("/bucket/data/01_raw/CIFAR-10-C/labels.npy", b"x")
    assert PixelCSVDataset(filepath=f"{ROOT}/01_raw/train.csv").exists()
    with pytest.raises(InputError, match=r"labels\.npy could not be read"):
        CIFAR10CDataset(filepath=f"{ROOT}/01_raw/CIFAR-10-C").load()()


@pytest.mark.parametrize("kind", ["folder", "archive", "keras"])
def test_only_what_may_be_the_raw_data_is_fetched_in_search_of_them(batches_folder, tmp_path, kind):
    filesystem, raw = MemoryFileSystem(), "/bucket/data/01_raw"
    if kind == "folder":
        filesystem.put(str(batches_folder), f"{raw}/downloads/cifar10", recursive=True)
    else:
        subprocess.run(["tar", "-czf", "archive.tar.gz", batches_folder.name], cwd=tmp_path, check=True)
        name = {"archive": "cifar-10-old.tgz", "keras": "datasets/cifar-10-batches-py-target_archive"}[kind]
        filesystem.put_file(str(tmp_path / "archive.tar.gz"), f"{raw}/{name}")
    for name in ("CIFAR-10-C/fog.npy", "cifar10-csv/train.csv"):
        filesystem.pipe_file(f"{raw}/{name}", b"large")
    dataset = BatchesDataset(filepath=f"{ROOT}/01_raw/cifar-10-batches-py", archive="a.tar.gz", url="file:/a", md5="0")
    assert len(dataset.load().train) == 5
    assert not {path.name for path in copy_of("01_raw").rglob("*")} & {"fog.npy", "train.csv"}


def test_a_write_that_fails_puts_nothing():
    def write():
        with atomic(copy_of("a.txt")) as unfinished:
            unfinished.write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert objects() == []


@pytest.mark.parametrize(("cls", "data"), [(TextDataset, "text"), (FiguresDataset, {"a": FIGURE, "b": FIGURE})])
def test_what_cannot_be_put_is_not_saved_here_either(monkeypatch, cls, data):
    put_file = MemoryFileSystem.put_file

    def put_svgs_only(self, path, key):
        if not key.endswith(("b.png", ".txt")):
            return put_file(self, path, key)
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_svgs_only)
    dataset = cls(filepath=f"{ROOT}/a.txt", version=Version(None, FIRST))
    with pytest.raises((InputError, DatasetError)) as error:
        dataset.save(data)
    assert _message(error.value).startswith(
        f"{ROOT}/a.txt/{FIRST}/a.txt could not be written: Access Denied. Check the name of the bucket"
    )
    assert objects() == []
    assert not cls(filepath=f"{ROOT}/a.txt", version=Version(None, None)).exists()
    assert [each for each in copy_of("").rglob("*") if each.is_file()] == []


def test_only_what_has_changed_is_fetched(machine, monkeypatch):
    fetched = []
    get = MemoryFileSystem.get
    monkeypatch.setattr(
        MemoryFileSystem, "get", lambda self, keys, paths: fetched.extend(keys) or get(self, keys, paths)
    )
    for name in "abc":
        JSONDataset(filepath=f"{ROOT}/{name}.json").save(name)
    machine("second")
    for _ in range(2):
        assert [JSONDataset(filepath=f"{ROOT}/{name}.json").load() for name in "abc"] == ["a", "b", "c"]
    assert len(fetched) == 3
    filesystem = MemoryFileSystem()
    filesystem.pipe_file("/bucket/data/b.json", b'"another"')
    filesystem.rm_file("/bucket/data/c.json")
    assert JSONDataset(filepath=f"{ROOT}/b.json").load() == "another"
    assert not JSONDataset(filepath=f"{ROOT}/c.json").exists()
    assert len(fetched) == 4


def test_a_dataset_sees_what_others_save_once_the_run_has_released_it():
    dataset, other = (JSONDataset(filepath=f"{ROOT}/a.json") for _ in range(2))
    dataset.save("first")
    assert other.load() == "first"
    MemoryFileSystem().pipe_file("/bucket/data/a.json", b'"a later one"')
    assert other.load() == "first"
    other.release()
    assert other.load() == "a later one"


def test_versions_that_another_machine_deletes_disappear_but_not_what_another_run_is_writing():
    dataset = TextDataset(filepath=f"{ROOT}/a.txt", version=Version(None, FIRST))
    dataset.save("text")
    folder = dataset.path.parents[1]
    others = [folder / "lock", folder / f"{SECOND}/.unfinished-1-a.txt", folder / f"{SECOND}/.unfinished-2/b.svg"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    MemoryFileSystem().rm("/bucket/data/a.txt", recursive=True)
    assert not TextDataset(filepath=f"{ROOT}/a.txt", version=Version(None, None)).exists()
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(others)
    assert not (folder / FIRST).exists()


def test_checkpoints_are_put_fetched_and_deleted(machine):
    def checkpoints():
        return CheckpointDataset(filepath=f"{ROOT}/vgg16_checkpoint").load()

    with checkpoints().lock(IDENTITY):
        for epochs in range(1, 4):
            checkpoints().save(IDENTITY, after(epochs))
    assert [Path(each).name for each in objects()] == ["epoch_00002.npz", "epoch_00003.npz", "identity.json"]
    machine("second")
    with checkpoints().lock(IDENTITY):
        assert checkpoints().latest(IDENTITY).facts == after(3).facts
    checkpoints().clear(IDENTITY)
    assert objects() == []


def test_models_are_read_without_checkpoints(machine):
    ModelDataset(filepath=f"{ROOT}/artifact.keras", version=Version(None, FIRST)).save(trained())
    with CheckpointDataset(filepath=f"{ROOT}/artifact_checkpoint").load().lock(IDENTITY):
        pass
    machine("second")
    assert ModelsDataset(filepath=ROOT).load().names() == ["artifact"]
    assert {path.name for path in copy_of("").iterdir()} == {"artifact.keras"}


TINY = {"epochs": 2, "batch_size": 32, "examples": 64}


def test_a_training_is_resumed_on_another_machine(machine, monkeypatch, caplog):
    def model():
        return ModelDataset(filepath=f"{ROOT}/06_models/simple_cnn.keras", version=Version(None, None)).load()

    run(ROOT, "ingestion", "preprocessing", "train_simple_cnn", eager=True, simple_cnn=TINY)
    undisturbed = model(), pd.DataFrame(model().record.history)
    assert not any("checkpoint" in each for each in objects())
    with monkeypatch.context() as context:
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            run(ROOT, "train_simple_cnn", eager=True, simple_cnn=TINY)
    machine("second")
    run(ROOT, "train_simple_cnn", eager=True, simple_cnn=TINY)
    assert "simple_cnn: resuming after epoch 1, from" in caplog.text
    check_same((model(), pd.DataFrame(model().record.history)), undisturbed)
    assert f"saved as {ROOT}/06_models/simple_cnn.keras/" in caplog.text


@pytest.mark.parametrize(
    ("pipeline", "what"), [("tune_simple_cnn", "A study"), ("export", "The dataset `serving` of an export")]
)
def test_what_needs_local_files_is_refused_before_anything_is_done(pipeline, what):
    with pytest.raises(InputError) as error:
        run(ROOT, "ingestion", pipeline)
    assert str(error.value).startswith(f"{what} needs a local folder, but the data are in {ROOT}/")
    assert objects() == []


@pytest.mark.parametrize(
    ("command", "arguments"), [("prune", ["--keep=1", "--yes"]), ("farm", ["--pipelines=train_simple_cnn"])]
)
def test_commands_that_need_local_files_are_refused(command, arguments):
    if command == "farm":
        pytest.importorskip("distributed")
    bootstrap()
    done = CliRunner().invoke(getattr(cli, command), [*arguments, f"--params=data_root={ROOT}"])
    assert done.output == f"Error: kedro {command} needs a local folder, but the data are in {ROOT}/06_models.\n"
    assert objects() == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s4://bucket", "s4://bucket cannot be used: Protocol not known: s4. Name a folder, or a URL as in s3://"),
        ("s3://bucket", "s3://bucket cannot be used: Install s3fs to access S3. For s3://, install the extra: pip"),
        (
            "http://example.com/x",
            "http://example.com/x cannot be used: nothing can be written there. Name a",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_refused_in_one_sentence(monkeypatch, url, message):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)  # another test may have used it
    with pytest.raises(InputError) as error:
        run(url, "ingestion")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_examples_are_mapped_from_the_copy():
    dataset = ExamplesDataset(filepath=f"{ROOT}/train.npz")
    dataset.save(EXAMPLES)
    dataset.release()
    np.testing.assert_array_equal(dataset.load().images, EXAMPLES.images)
    assert isinstance(dataset.load().images, np.memmap)
