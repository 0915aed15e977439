"""Datasets save completely or not at all, and load what was saved."""

import base64
import errno
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from cifar10 import contracts
from cifar10.atomic import atomic, atomic_folder
from cifar10.cli import _causes as causes
from cifar10.contracts import Examples, Predictions, Statistics, TrainedModel, verify
from cifar10.datasets.arrays import ExamplesDataset, PredictionsDataset, PredictionStore
from cifar10.datasets.artifact import VERSION
from cifar10.datasets.files import (
    AllEvaluationsDataset,
    BlockDataset,
    CSVDataset,
    EvaluationsDataset,
    FigureDataset,
    FiguresDataset,
    HTMLDataset,
    JSONDataset,
    MarkdownDataset,
    StatisticsDataset,
    TextDataset,
    TrialsDataset,
)
from cifar10.datasets.model import ModelDataset, ModelsDataset
from cifar10.errors import InputError
from tests.helpers import full_disk, make_evaluation, make_evaluations, make_record, make_trial, make_trials

EXAMPLES = Examples((np.arange(2 * 3072) % 251).astype(np.uint8).reshape(2, 32, 32, 3), np.array([3, 4], np.uint8))
OTHERS = Examples(255 - EXAMPLES.images, np.array([5, 6], np.uint8))
STATISTICS = Statistics(
    mean=(1.0, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    patch_covariance=((7.0, 8.0), (8.0, 9.0)),
    digests={"train": "abc"},
    data_version="def",
)
FIRST, SECOND = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2))  # versions
MODEL = make_evaluation(version=FIRST)
PREDICTIONS = Predictions(MODEL.identity, np.eye(3)[[2]], np.eye(3, dtype=np.float32), np.ones((2, 3), np.float32) / 3)
AVERAGED = PREDICTIONS._replace(views="flip", val_averaged=PREDICTIONS.val / 2, test_averaged=PREDICTIONS.test / 2)


def trained(bias: float = 1.0) -> TrainedModel:
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(200, kernel_initializer="ones")])
    network.layers[0].bias.assign(np.full(200, bias, np.float32))
    return TrainedModel(make_record(architecture="artifact", parameters=800, epochs=int(bias)), lambda: network)


MARKDOWN = "# Title\n\n| model | test |\n| --- | --- |\n| `a_b` | 90% |\n\n![A figure](figure.png)\n"
PAGE = """<!doctype html><head><title>T</title></head><body class="x">
<nav>Contents</nav><h1 id="a_b">a_b &amp; c</h1><figure><img src="a.png"></figure><details>more</details>
<script>x</script></body>"""

# class, what to save in it, the extension of its file
SAVES = [
    (ExamplesDataset, EXAMPLES, "npz"),
    (StatisticsDataset, STATISTICS, "json"),
    (EvaluationsDataset, make_evaluations(make_evaluation()), "json"),
    (TrialsDataset, make_trials(make_trial()), "json"),
    (JSONDataset, {"a": [1, 2]}, "json"),
    (BlockDataset, "# A comment.\nsimple_cnn:\n  epochs: 3\n", "yml"),
    (TextDataset, "some text", "txt"),
    (MarkdownDataset, MARKDOWN, "md"),
    (HTMLDataset, PAGE, "html"),
    (CSVDataset, pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]}), "csv"),
    (FigureDataset, Figure(), "png"),
    (ModelDataset, trained(), "keras"),
]
by_class = pytest.mark.parametrize(("cls", "data", "extension"), SAVES, ids=[case[0].__name__ for case in SAVES])


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@by_class
def test_full_disk_leaves_nothing_new_and_everything_old(tmp_path, cls, data, extension):
    path = tmp_path / f"artifact.{extension}"
    cls(filepath=str(path), version=Version(None, FIRST)).save(data)
    before = files(tmp_path)
    smallest = min(len(content) for content in before.values())
    with full_disk(smallest // 2), pytest.raises((InputError, DatasetError), match="could not be written"):
        cls(filepath=str(path), version=Version(None, SECOND)).save(data)
    assert files(tmp_path) == before
    assert [each.name for each in path.iterdir()] == [FIRST]


@by_class
def test_only_the_files_of_the_version_are_saved(tmp_path, cls, data, extension):
    path = tmp_path / "folder" / f"artifact.{extension}"
    dataset = cls(filepath=str(path), version=Version(None, FIRST))
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()
    beside = {"keras": {"record.json"}, "png": {"artifact.svg"}}.get(extension, set())
    assert set(files(tmp_path)) == {path / FIRST / name for name in {path.name, *beside}}


@pytest.mark.parametrize("folder", ["run[1]", "run[", "run]", "run*", "run?", "run{1}", " run ~"])
def test_versions_are_found_in_a_folder_of_any_name(tmp_path, folder):
    """Kedro looks for versions by a pattern that has the path of the folder in it."""
    (tmp_path / "run1").mkdir()
    for place, version in (
        (folder, FIRST),
        (folder, SECOND),
        ("run1", "2026-01-03T00.00.00.000Z"),
    ):
        path = str(tmp_path / place / "artifact.txt")
        TextDataset(filepath=path, version=Version(None, version)).save(version)

    path = str(tmp_path / folder / "artifact.txt")
    newest = TextDataset(filepath=path, version=Version(None, None))
    assert newest.exists()
    assert newest.load() == SECOND
    with pytest.raises(
        DatasetError, match=r"has no version 2025: it has 2026-01-01T00.00.00.000Z, 2026-01-02T00.00.00.000Z\."
    ):
        TextDataset(filepath=path, version=Version("2025", None), optional=True).load()


@pytest.mark.parametrize("name", ["backup", "old", f"{FIRST} copy", f"{FIRST} (1)", f"{FIRST}.bak", "latest"])
def test_what_lies_beside_the_versions_is_no_version(tmp_path, name):
    """Copies and links that a user makes would be newer than any version, because letters sort after digits."""
    for cls, data, extension in SAVES:
        if cls is not ExamplesDataset:
            path = tmp_path / cls.__name__ / f"artifact.{extension}"
            dataset = cls(filepath=str(path), version=Version(None, FIRST))
            dataset.save(data)
            (path / name).symlink_to(path / FIRST)
            newest = cls(filepath=str(path), version=Version(None, None))
            assert newest.path.parent.name == FIRST
            assert newest.others() == [name]
            with pytest.raises(DatasetError, match=rf"has no version {re.escape(name)}: it has {FIRST}\."):
                cls(filepath=str(path), version=Version(name, None), optional=True).load()
    assert ModelsDataset(filepath=str(tmp_path / "ModelDataset")).load().versions("artifact") == [FIRST]
    assert len(AllEvaluationsDataset(filepath=str(tmp_path / "EvaluationsDataset/artifact.json")).load()) == 1


def test_a_folder_that_may_not_be_read_is_not_taken_for_empty(tmp_path, monkeypatch):
    models = ModelsDataset(filepath=str(tmp_path / "06_models"))
    ModelDataset(filepath=str(tmp_path / "06_models/artifact.keras"), version=Version(None, FIRST)).save(trained())
    iterdir = Path.iterdir
    for refused in (tmp_path / "06_models", tmp_path / "06_models/artifact.keras"):

        def refuse(path, refused=refused):
            if path == refused:
                raise PermissionError(13, "Permission denied", str(path))
            return iterdir(path)

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(
            InputError, match=rf"^{refused} could not be read or written: Permission denied\. Give this"
        ):
            models.load().all()


def test_no_version_is_saved_behind_a_link_to_nowhere(tmp_path):
    """Where no version can be created, each would seem to be taken already."""
    (tmp_path / "08_reporting").symlink_to(tmp_path / "drive")
    dataset = TextDataset(filepath=str(tmp_path / "08_reporting/report.html"), version=Version(None, FIRST))
    with pytest.raises((InputError, DatasetError), match=r"report\.html/.* could not be written: File exists"):
        dataset.save("")


@pytest.mark.parametrize(("cls", "data"), [(cls, data) for cls, data, _ in SAVES if cls is not ExamplesDataset])
def test_optional_dataset_is_none_until_it_is_saved(tmp_path, cls, data):
    path = str(tmp_path / "artifact.keras")
    assert cls(filepath=path, version=Version(None, None), optional=True).load() is None
    with pytest.raises(DatasetError, match=r"has no version 2025: nothing has been saved there yet"):
        cls(filepath=path, version=Version("2025", None), optional=True).load()

    cls(filepath=path, version=Version(None, FIRST)).save(data)
    assert cls(filepath=path, version=Version(None, None), optional=True).load() is not None
    with pytest.raises(DatasetError, match=r"has no version 2025: it has 2026-01-01T00\.00\.00\.000Z\."):
        cls(filepath=path, version=Version("2025", None), optional=True).load()


@pytest.mark.parametrize(
    ("cls", "data"),
    [(cls, data) for cls, data, _ in SAVES if cls in (StatisticsDataset, EvaluationsDataset, JSONDataset, TextDataset)],
)
def test_artifacts_are_loaded_as_they_were_saved(tmp_path, cls, data):
    dataset = cls(filepath=str(tmp_path / "artifact"))
    dataset.save(data)
    assert dataset.load() == data


@by_class
def test_a_dataset_reads_back_what_it_has_saved(tmp_path, cls, data, extension):
    """Although another run saves a later version before it does; the next run reads that one."""
    path = str(tmp_path / f"artifact.{extension}")
    dataset = cls(filepath=path, version=Version(None, FIRST))
    assert not dataset.saved
    for version in ("2025-12-31T00.00.00.000Z", SECOND):
        cls(filepath=path, version=Version(None, version)).save(data)
    assert dataset.path.parent.name == SECOND
    dataset.save(data)
    assert dataset.saved
    for _ in range(2):
        assert dataset.load() is not None
        assert dataset.path.parent.name == FIRST
        dataset.release()
    assert cls(filepath=path, version=Version(None, None)).path.parent.name == SECOND


def save_both(folder, text):
    """Save two datasets, as a run does that has started in the same millisecond as others."""
    datasets = [TextDataset(filepath=str(folder / name), version=Version(None, FIRST)) for name in ("a.txt", "b.txt")]
    for dataset in datasets:
        dataset.save(text)
    return datasets


@pytest.mark.filterwarnings("ignore:Save version")
def test_two_runs_of_one_millisecond_keep_both_and_each_its_own_together(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("cifar10.datasets.artifact._REPLACED", {})
    (tmp_path / "a.txt" / FIRST).mkdir(parents=True)  # the other run is still writing
    one, other = save_both(tmp_path, "of this run")
    (tmp_path / "a.txt" / FIRST / "a.txt").write_text("of the other run")
    version = one.path.parent.name
    assert VERSION.fullmatch(version)
    assert version != FIRST
    assert (one.load(), other.load(), other.path.parent.name) == ("of this run", "of this run", version)
    assert (tmp_path / "a.txt" / FIRST / "a.txt").read_text() == "of the other run"
    assert not (tmp_path / "b.txt" / FIRST).exists()  # where the other run will save
    assert caplog.messages == [f"{tmp_path / 'a.txt'} already has version {FIRST}: this run saves as {version}"]


@pytest.mark.filterwarnings("ignore:Save version")
def test_of_runs_that_save_at_once_none_loses_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr("cifar10.datasets.artifact._REPLACED", {})
    texts = [f"of run {number}" for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        saved = list(pool.map(lambda text: save_both(tmp_path, text), texts))
    for text, datasets in zip(texts, saved, strict=True):
        assert [each.load() for each in datasets] == [text, text]
    assert len({one.path for one, _ in saved}) == len(texts)


SAVE_AND_LOAD = """
import sys
import pandas as pd
from cifar10.datasets.files import CSVDataset, JSONDataset, TextDataset

word = "K\\xe4fer \\u2248 \\u65b9"
for cls, data in ((TextDataset, word), (CSVDataset, pd.DataFrame({word: [word]})), (JSONDataset, {word: word})):
    options = {"save_args": {"ensure_ascii": False}} if cls is JSONDataset else {"save_args": {"index": False}}
    dataset = cls(filepath=f"{sys.argv[1]}/{cls.__name__}", **({} if cls is TextDataset else options))
    dataset.save(data)
    assert word in str(dataset.load())
"""


def test_files_are_the_same_in_every_locale(tmp_path):
    written = []
    for locale in ({"PYTHONUTF8": "1"}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}):
        environment = {**os.environ, **locale}
        subprocess.run([sys.executable, "-c", SAVE_AND_LOAD, str(tmp_path)], env=environment, check=True)
        written.append(files(tmp_path))
    assert written[0] == written[1]
    assert "Käfer ≈ 方" in (tmp_path / "TextDataset").read_text(encoding="utf-8")


def test_statistics_of_another_version_name_the_command(tmp_path):
    (tmp_path / "statistics.json").write_text(
        '{"mean": [1, 2, 3], "std": [4, 5, 6], "digests": {}, "data_version": "a"}'
    )
    with pytest.raises(DatasetError, match="kedro run --pipelines=preprocessing"):
        StatisticsDataset(filepath=str(tmp_path / "statistics.json")).load()


def test_check_accepts_a_missing_file_and_refuses_a_damaged_one(tmp_path):
    dataset = StatisticsDataset(filepath=str(tmp_path / "statistics.json"))
    dataset.check("kedro run")
    (tmp_path / "statistics.json").write_text("{")
    with pytest.raises((InputError, DatasetError), match=r"statistics\.json is not valid JSON"):
        dataset.check("kedro run")


def test_model_knows_its_version_and_keeps_its_record(tmp_path):
    path = str(tmp_path / "artifact.keras")
    for number in (1, 2):
        ModelDataset(filepath=path, version=Version(None, f"2026-01-0{number}T00.00.00.000Z")).save(trained(number))

    for version, number in ((FIRST, 1), (None, 2)):
        model = ModelDataset(filepath=path, version=Version(version, None)).load()
        assert model.megabytes > 0
        assert (model.version, model.record) == (f"2026-01-0{number}T00.00.00.000Z", trained(number).record)
        assert model.load_network()(np.zeros((1, 3)))[0, 0] == number
    assert "version" not in json.loads((tmp_path / "artifact.keras/2026-01-01T00.00.00.000Z/record.json").read_text())


@pytest.fixture
def saved_examples(tmp_path):
    """The path of `EXAMPLES`, saved."""
    path = tmp_path / "examples.npz"
    ExamplesDataset(filepath=str(path)).save(EXAMPLES)
    return path


def test_examples_are_loaded_as_they_were_saved_with_their_images_mapped(saved_examples):
    loaded = ExamplesDataset(filepath=str(saved_examples)).load()
    assert isinstance(loaded.images, np.memmap)
    assert not loaded.images.flags.writeable
    for name in ("images", "labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(EXAMPLES, name))
        assert getattr(loaded, name).dtype == getattr(EXAMPLES, name).dtype
    assert loaded.digest == EXAMPLES.digest
    np.testing.assert_array_equal(loaded.take(slice(1, None)).images, EXAMPLES.images[1:])
    with np.load(saved_examples) as arrays:  # other programs can read the file, too
        np.testing.assert_array_equal(arrays["images"], EXAMPLES.images)


def test_examples_are_read_once_until_they_are_released(saved_examples):
    dataset = ExamplesDataset(filepath=str(saved_examples))
    first = dataset.load()
    assert dataset.load() is first
    dataset.release()
    again = dataset.load()
    assert again is not first
    np.testing.assert_array_equal(again.images, first.images)


def test_saved_examples_are_not_read_back_in_the_same_run(tmp_path):
    dataset = ExamplesDataset(filepath=str(tmp_path / "examples.npz"))
    dataset.save(EXAMPLES)
    assert dataset.load() is EXAMPLES
    dataset.release()
    assert dataset.load() is not EXAMPLES


def test_digest_is_computed_once(monkeypatch):
    calls = []
    sha256 = contracts.hashlib.sha256
    monkeypatch.setattr(contracts.hashlib, "sha256", lambda *content: calls.append(content) or sha256(*content))
    examples = Examples(EXAMPLES.images, EXAMPLES.labels)
    digests = {"train": examples.digest}
    for _ in range(3):
        verify(digests, train=examples)
    assert len(calls) == 1


def test_digest_depends_on_images_labels_dtype_and_shape():
    images, labels = EXAMPLES.images, EXAMPLES.labels
    variants = [
        EXAMPLES,
        OTHERS,
        Examples(images, labels[::-1]),
        Examples(images[::-1], labels),
        Examples(images.view(np.int8), labels),
        Examples(images.reshape(2, 3072), labels),
    ]
    assert len({each.digest for each in variants}) == len(variants)
    assert Examples(np.asfortranarray(images), labels).digest == EXAMPLES.digest


def test_examples_replaced_during_a_run_stay_as_they_were_loaded(saved_examples):
    dataset = ExamplesDataset(filepath=str(saved_examples))
    loaded = dataset.load()
    ExamplesDataset(filepath=str(saved_examples)).save(OTHERS)  # by another run
    np.testing.assert_array_equal(loaded.images, EXAMPLES.images)
    assert loaded.digest == EXAMPLES.digest
    dataset.release()
    np.testing.assert_array_equal(dataset.load().images, OTHERS.images)


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def flip_bit(content, place):
    damaged = bytearray(content)
    damaged[place] ^= 64
    return bytes(damaged)


def empty(content):
    return b""


def truncated(content):
    return content[: len(content) // 2]


def noise(content):
    return np.random.default_rng(0).bytes(5000)


def instead(content):
    """Return a function that puts this in the place of what was there."""
    return lambda _: content


IMAGES, LABELS = EXAMPLES.images, EXAMPLES.labels
TABLE = pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]})
MAIN, VECTOR, RECORD = "artifact.keras", "artifact.svg", "record.json"
OF_ANY_KIND = [  # class, what is saved, and the file that is damaged; `MAIN` is that by which versions are recognised
    (ExamplesDataset, EXAMPLES, MAIN),
    (StatisticsDataset, STATISTICS, MAIN),
    (EvaluationsDataset, make_evaluations(make_evaluation()), MAIN),
    (JSONDataset, {"a": [1, 2]}, MAIN),
    (CSVDataset, TABLE, MAIN),
    (FigureDataset, Figure(), VECTOR),
    (FiguresDataset, {"a": Figure()}, f"{MAIN}/a.svg"),
    (ModelDataset, trained(), RECORD),
    (ModelDataset, trained(), MAIN),
]
DAMAGES = [(*case, damage) for case in OF_ANY_KIND for damage in (empty, truncated, noise)] + [
    (ExamplesDataset, EXAMPLES, MAIN, lambda content: content[:-30]),
    (ExamplesDataset, EXAMPLES, MAIN, lambda content: flip_bit(content, content.rindex(LABELS.tobytes()))),
    (ExamplesDataset, EXAMPLES, MAIN, lambda content: flip_bit(content, content.index(b"NUMPY"))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(np.savez_compressed, images=IMAGES, labels=LABELS))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(labels=LABELS))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(images=IMAGES))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(images=IMAGES.astype(np.float32), labels=LABELS))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(images=IMAGES[:, 1:], labels=LABELS))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(images=IMAGES, labels=LABELS[1:]))),
    (ExamplesDataset, EXAMPLES, MAIN, instead(npz(images=IMAGES, labels=LABELS.astype(np.int64)))),
    (StatisticsDataset, STATISTICS, MAIN, instead(b"[1]")),
    (EvaluationsDataset, make_evaluations(make_evaluation()), MAIN, instead(b"{}")),
    (CSVDataset, TABLE, MAIN, instead(b"epoch,accuracy\n1,0.5\n")),
    (CSVDataset, TABLE, MAIN, instead(b"epoch,loss\n1,high\n")),
    (CSVDataset, TABLE, MAIN, instead(b"epoch,loss\n1,0.5\n2,0.25,3\n")),
    (CSVDataset, TABLE, MAIN, instead(b"epoch,more,loss\n1,0.5\n2,0.25\n")),
    (CSVDataset, TABLE, MAIN, instead(b"epoch,loss,loss\n1,0.5,0.25\n")),
    (CSVDataset, TABLE, MAIN, instead(b'epoch,loss\n1,"0.5\n2,0.25\n')),
    (FigureDataset, Figure(), VECTOR, instead(b"<html/>")),
    (FiguresDataset, {"a": Figure()}, f"{MAIN}/a.svg", instead(b"<html/>")),
    (ModelDataset, trained(), RECORD, instead(b'{"schema": 2}')),
    (ModelDataset, trained(), RECORD, instead(make_record(architecture="vgg16").to_json().encode())),
    (ModelDataset, trained(), MAIN, instead(npz(layers=np.ones(3)))),
    (ModelDataset, trained(), MAIN, lambda content: saved_network(keras.layers.Dense(3))),
]


def saved_network(layer):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        keras.Sequential([keras.Input((3,)), layer]).save(path)
        return path.read_bytes()


@pytest.mark.parametrize(("cls", "data", "file", "damage"), DAMAGES)
def test_damage_ends_in_one_sentence_with_the_name_of_the_file(tmp_path, cls, data, file, damage):
    options = {"load_args": {"dtype": {"loss": float}}, "save_args": {"index": False}} if cls is CSVDataset else {}

    def dataset(save=None):
        return cls(filepath=str(tmp_path / MAIN), version=Version(None, save), **options)

    dataset(FIRST).save(data)
    path = tmp_path / MAIN / FIRST / file
    path.write_bytes(damage(path.read_bytes()))
    reads = [dataset().load, lambda: dataset().check("kedro run --x")]
    if (cls, file) == (ModelDataset, MAIN):
        reads = [dataset().load().load_network]  # networks are read when they are used
    for read in reads:
        with pytest.raises((DatasetError, InputError)) as error:
            read()
        message = next(str(each) for each in causes(error.value) if isinstance(each, InputError))
        assert message.startswith(str(path))
        assert "\n" not in message
        assert re.search("(?i)create it again|draw it again|move the folder", message)


def test_a_missing_file_beside_a_model_is_named(tmp_path):
    path = tmp_path / MAIN
    ModelDataset(filepath=str(path), version=Version(None, FIRST)).save(trained())
    (path / "2026-01-01T00.00.00.000Z/record.json").unlink()
    with pytest.raises(
        DatasetError, match=r"2026-01-01T00.00.00.000Z/record\.json could not be read: No such file .*Move the folder"
    ):
        ModelDataset(filepath=str(path), version=Version(None, None)).load()


def test_what_reads_a_damaged_file_names_the_command(tmp_path):
    (tmp_path / "examples.npz").write_bytes(b"noise")
    with pytest.raises(
        InputError, match=r"examples\.npz could not be read: .*\. Create it again with kedro run --x, or move it"
    ):
        ExamplesDataset(filepath=str(tmp_path / "examples.npz")).check("kedro run --x")


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        truncated,
        noise,
        lambda content: flip_bit(content, content.rindex(PREDICTIONS.test.tobytes())),
        instead(npz(a=IMAGES)),
        instead(npz(identity=MODEL.identity, val=PREDICTIONS.val, test=PREDICTIONS.test, other=PREDICTIONS.test)),
        lambda content: npz(**{**dict(np.load(io.BytesIO(content))), "identity": "another"}),
    ],
)  # fmt: skip
def test_damaged_predictions_are_as_good_as_none(tmp_path, damage):
    """Evaluation makes them again; whoever only reads them says which file is meant."""
    store = PredictionStore(tmp_path)
    assert store.find(MODEL) is None
    store.save(MODEL, PREDICTIONS)
    assert store.find(MODEL) is not None
    path = tmp_path / "vgg16/2026-01-01T00.00.00.000Z.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert store.find(MODEL) is None
    with pytest.raises(
        InputError, match=r"vgg16/2026-01-01T00.00.00.000Z\.npz is missing.*kedro run --pipelines=evaluation"
    ):
        store.load(MODEL)


def test_changed_pixel_is_noticed_by_the_digest(saved_examples):
    """Mapping does not check the images, but whoever uses them compares their digest."""
    content = saved_examples.read_bytes()
    saved_examples.write_bytes(flip_bit(content, content.index(EXAMPLES.images.tobytes()[:100])))
    loaded = ExamplesDataset(filepath=str(saved_examples)).load()
    with pytest.raises(InputError, match="The train images have changed"):
        verify({"train": EXAMPLES.digest}, train=loaded)


@pytest.mark.parametrize("predictions", [PREDICTIONS, AVERAGED], ids=["plain", "with views"])
def test_predictions_are_loaded_as_they_were_saved(tmp_path, predictions):
    store = PredictionsDataset(filepath=str(tmp_path / "predictions")).load()
    store.save(MODEL, predictions)
    store.save(make_evaluation(version=SECOND), PREDICTIONS._replace(test=PREDICTIONS.test[::-1] / 2))
    loaded = store.load(MODEL)
    assert type(loaded) is Predictions
    for before, after in zip(predictions, loaded, strict=True):
        assert type(after) is type(before)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(after, before)
            assert after.dtype == before.dtype
        else:
            assert after == before
    assert set(files(tmp_path)) == {
        tmp_path / f"predictions/vgg16/2026-01-0{number}T00.00.00.000Z.npz" for number in (1, 2)
    }


def test_predictions_that_do_not_fit_on_the_disk_leave_nothing_behind(tmp_path):
    with full_disk(100), pytest.raises(InputError, match="could not be written"):
        PredictionStore(tmp_path / "predictions").save(MODEL, PREDICTIONS)
    assert not list(tmp_path.iterdir())


def draw(title):
    figure = Figure()
    figure.subplots().set_title(title)
    return figure


class BadFigure(Figure):
    """Fails while its PNG is drawn, after its SVG."""

    def savefig(self, fname, **options):
        if options.get("format") != "svg":
            raise RuntimeError("cannot be drawn")
        super().savefig(fname, **options)


def test_figures_are_loaded_as_svg_by_name(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path / "portraits"), version=Version(None, FIRST))
    figures = {name: draw(name) for name in ("vgg19", "vgg16")}
    dataset.save(figures)
    loaded = dataset.load()
    assert list(loaded) == ["vgg16", "vgg19"]
    for name, svg in loaded.items():
        FigureDataset(filepath=str(tmp_path / "single.png")).save(figures[name])
        assert svg == (tmp_path / "single.svg").read_text(encoding="utf-8")
    folder = tmp_path / "portraits/2026-01-01T00.00.00.000Z/portraits"
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    assert all((folder / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in figures)


@pytest.mark.parametrize("size", [(8, 2), (2, 4), (4, 3)])
def test_preview_of_a_figure_is_not_stretched(tmp_path, size):
    """Kedro-Viz gives every image the shape of its panel, 458 by 300 pixels."""
    dataset = FigureDataset(filepath=str(tmp_path / "figure.png"))
    dataset.save(Figure(size, dpi=50, facecolor="black"))
    preview = Image.open(io.BytesIO(base64.b64decode(dataset.preview()))).convert("L")
    assert preview.width / preview.height == pytest.approx(458 / 300, rel=0.01)
    left, top, right, bottom = ImageOps.invert(preview).getbbox()
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.02)


def test_same_figure_gives_the_same_svg(tmp_path):
    for name in ("first", "second"):
        FigureDataset(filepath=str(tmp_path / f"{name}.png")).save(draw("a title"))
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def save_bad_figures(folder):
    """Save a version of both kinds of figures, which fails midway."""
    version = Version(None, SECOND)
    with pytest.raises(DatasetError, match="cannot be drawn"):
        FiguresDataset(filepath=str(folder / "portraits"), version=version).save({"good": draw(""), "bad": BadFigure()})
    with pytest.raises(DatasetError, match="cannot be drawn"):
        FigureDataset(filepath=str(folder / "figure.png"), version=version).save(BadFigure())


def test_figure_that_cannot_be_drawn_leaves_no_file_behind(tmp_path):
    dataset = FiguresDataset(filepath=str(tmp_path / "portraits"), version=Version(None, FIRST))
    dataset.save({"a": draw("a")})
    before = files(tmp_path)
    save_bad_figures(tmp_path)
    assert files(tmp_path) == before
    assert list(FiguresDataset(filepath=str(tmp_path / "portraits"), version=Version(None, None)).load()) == ["a"]


def test_figure_that_cannot_be_drawn_leaves_no_folder_behind(tmp_path):
    save_bad_figures(tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_evaluations_are_loaded_oldest_first(tmp_path):
    path = str(tmp_path / "evaluations.json")
    assert AllEvaluationsDataset(filepath=path).load() == []
    saved = {}
    for version in ("2025-12-31T00.00.00.000Z", SECOND, "2026-01-10T00.00.00.000Z"):
        saved[version] = make_evaluations(make_evaluation(version=version))
        EvaluationsDataset(filepath=path, version=Version(None, version)).save(saved[version])
    dataset = AllEvaluationsDataset(filepath=path)
    assert dataset.load() == [saved[version] for version in sorted(saved)]
    assert [each.rows[0].first.version for each in dataset.load()] == [
        "2025-12-31T00.00.00.000Z",
        SECOND,
        "2026-01-10T00.00.00.000Z",
    ]
    assert dataset.exists()
    (tmp_path / "evaluations.json/2026-01-02T00.00.00.000Z/evaluations.json").write_text("{}")
    with pytest.raises(
        (InputError, DatasetError), match=r"2026-01-02T00.00.00.000Z/evaluations\.json was written by another"
    ):
        dataset.load()


PREVIEWS = {
    CSVDataset: ("TablePreview", lambda preview: preview["data"] == [[1, 0.5]]),
    JSONDataset: ("JSONPreview", lambda preview: json.loads(preview) == {"a": [1, 2]}),
    StatisticsDataset: ("JSONPreview", lambda preview: json.loads(preview)["data_version"] == "def"),
    EvaluationsDataset: ("JSONPreview", lambda preview: json.loads(preview)["data_version"] == "a data version"),
    TrialsDataset: ("JSONPreview", lambda preview: json.loads(preview)["trials"][0]["number"] == 0),
    BlockDataset: (
        "JSONPreview",
        lambda preview: json.loads(preview) == {"comment": ["A comment."], "simple_cnn": {"epochs": 3}},
    ),
    MarkdownDataset: (
        "HTMLPreview",
        lambda preview: (
            preview
            == (
                "<h1>Title</h1>&#13;<table>&#13;<thead>&#13;<tr>&#13;<th>model</th>&#13;<th>test</th>&#13;</tr>&#13;</thead>"
                "&#13;<tbody>&#13;<tr>&#13;<td><code>a_b</code></td>&#13;<td>90%</td>&#13;</tr>&#13;</tbody>&#13;</table>"
                "&#13;<p></p>"
            )
        ),
    ),
    HTMLDataset: ("HTMLPreview", lambda preview: "<body>&#13;<h1>a_b&#13;&amp;&#13;c</h1>&#13;</body>" in preview),
    FigureDataset: ("ImagePreview", lambda preview: base64.b64decode(preview).startswith(b"\x89PNG")),
}


def test_a_block_that_says_only_why_there_is_none_has_a_preview(tmp_path):
    """As where no trial was better than the recipe."""
    dataset = BlockDataset(filepath=str(tmp_path / "tuned.yml"))
    dataset.save("# No trial was better.\n")
    assert json.loads(dataset.preview()) == {"comment": ["No trial was better."]}


@pytest.mark.parametrize(("cls", "data"), [(cls, data) for cls, data, _ in SAVES if cls in PREVIEWS])
def test_previews_are_those_of_kedro_viz(tmp_path, cls, data):
    """Kedro-Viz chooses how to show a preview by the name of its return type."""
    dataset = cls(filepath=str(tmp_path / "artifact"), **({"save_args": {"index": False}} if cls is CSVDataset else {}))
    dataset.save(data)
    kind, is_right = PREVIEWS[cls]
    assert inspect.signature(dataset.preview).return_annotation.__name__ == kind
    assert is_right(dataset.preview(**({"nrows": 1} if cls is CSVDataset else {})))


def interrupted(target):
    with atomic(target) as path:
        path.write_text("half of it")
        raise KeyboardInterrupt


def test_interrupted_write_keeps_the_existing_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    with pytest.raises(KeyboardInterrupt):
        interrupted(target)
    assert files(tmp_path) == {target: b"before"}


def test_two_runs_may_write_to_one_file_at_once(tmp_path):
    """Each writes a complete file, whatever happens to the other; the later one remains."""
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


def test_old_unfinished_files_of_killed_runs_are_removed(tmp_path):
    target = tmp_path / "file"
    for name, age in (("old-file", 7200), ("new-file", 0), ("old-other", 7200)):
        leftover = tmp_path / f".unfinished-{name}"
        leftover.touch()
        os.utime(leftover, (time.time() - age,) * 2)
    with atomic(target) as path:
        path.write_text("complete")
    assert {path.name for path in files(tmp_path)} == {"file", ".unfinished-new-file", ".unfinished-old-other"}


def test_old_unfinished_files_are_removed_whatever_the_name_of_the_target(tmp_path):
    for name in (".unfinished-old-run[1]", ".unfinished-old-run1"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    with atomic(tmp_path / "run[1]") as path:
        path.write_text("complete")
    assert {path.name for path in files(tmp_path)} == {"run[1]", ".unfinished-old-run1"}


def test_an_old_unfinished_folder_of_a_killed_run_is_removed(tmp_path):
    leftover = tmp_path / ".unfinished-old-folder"
    leftover.mkdir()
    (leftover / "file").touch()
    for path in (leftover / "file", leftover):
        os.utime(path, (time.time() - 7200,) * 2)
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_text("complete")
    assert {path.name for path in tmp_path.iterdir()} == {"folder"}


def test_read_only_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="Permission denied"), atomic(tmp_path / "a" / "b" / "file"):
        raise OSError(errno.EACCES, "Permission denied")
    assert not list(tmp_path.iterdir())


def test_a_misspelt_architecture_is_not_said_to_be_untrained(tmp_path):
    """None stands for what has not been trained yet, and would hide a typing error in a notebook."""
    options = {"version": Version(None, None), "optional": True}
    assert ModelDataset(filepath=str(tmp_path / "simple_cnn.keras"), **options).load() is None
    with pytest.raises(DatasetError, match=r"There is no architecture simple_cn; did you mean simple_cnn\?"):
        ModelDataset(filepath=str(tmp_path / "simple_cn.keras"), **options).load()
