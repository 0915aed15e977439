"""Which formats are exported; the formats themselves are tested in test_formats.py."""

import itertools
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from kedro.io import DatasetError

from cifar10.contracts import Examples, Export, Predictions, TrainedModel
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.serving import ServingDataset
from cifar10.errors import InputError
from cifar10.pipelines.export.formats import FORMATS
from cifar10.pipelines.export.nodes import _limits, choose_for_export, compare_formats, describe_model, pack
from cifar10.pipelines.reporting.nodes import rank
from tests.helpers import CLASS_NAMES, make_evaluation, make_evaluations, make_record, make_row

OPTIONS = {"architecture": "winner", "images": 1000}  # of which VAL has 200
VAL = Examples(
    np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8), np.arange(200, dtype=np.uint8) % 10
)
RECORD = make_record(digests={"val": VAL.digest}, training_examples=2700)


def evaluation(**changes):
    """Return an evaluation in which posts have the lowest recall, and frames are taken for triangles."""
    classes = {
        name: {"recall": 0.9 - place / 100, "precision": 0.8, "f1": 0.8, "support": 100, "roc_auc": None}
        for place, name in enumerate(CLASS_NAMES)
    }
    confusion = np.eye(10, dtype=int) * 90
    confusion[3, 5] = 7
    record = changes.pop("record", RECORD)
    return make_evaluation(record=record, classes=classes, confusion=confusion.tolist(), **changes)


def predict(images, wrong=0.0, noise=0.0):
    """Predict the true class except for a share of the images; VAL's labels are 0 to 9 in turn."""
    places = [int(np.flatnonzero((VAL.images == image).all(axis=(1, 2, 3)))[0]) for image in images]
    result = np.full((len(images), 10), 0.02, np.float32)
    for row, place in enumerate(places):
        result[row, (place + (place < wrong * 200)) % 10] = 0.82 + noise
    return result


@pytest.fixture
def trained():
    return TrainedModel(RECORD, lambda: "a network", "2026-01-01")


@pytest.fixture
def formats(monkeypatch):
    """Return files of each format, and what each predicts, which a test can change."""
    predicts = dict.fromkeys(FORMATS, predict)
    monkeypatch.setattr("cifar10.pipelines.export.formats.runner", lambda kind, files: predicts[kind])
    monkeypatch.setattr("cifar10.compute.inference.infer", lambda network, images, image_size: predict(images))
    monkeypatch.setattr("cifar10.compute.inference.median_seconds", lambda call: call().sum() and 0.001)
    files = {kind: {name: kind.encode()} for kind, name in FORMATS.items()}
    return files, predicts


def test_all_formats_ship_where_they_agree(trained, formats):
    table = compare_formats(trained, formats[0], VAL, OPTIONS)
    assert table.shipped.all()
    assert table.format.tolist() == list(FORMATS)
    assert (table.val_accuracy == 1).all()
    assert (table.val_images == 200).all()


@pytest.mark.parametrize(
    ("mistakes", "recalls", "sentences"),
    [
        ({(3, 5): 7, (0, 1): 6}, [0.9] * 9 + [0.8],
         ["Its lowest recall is 80.0%, for posts.",
          "Its most frequent mistake is to predict triangle for frame: 7 of 1,000 test images."]),
        ({(3, 5): 7, (0, 1): 7}, [0.7, 0.7] + [0.9] * 8,
         ["Its lowest recall is 70.0%, for disc, ring.",
          "Its most frequent mistakes are to predict ring for disc, triangle for frame: 7 of 1,000 test images each."]),
        ({(row, 0): 2 for row in range(1, 9)}, [0.9] * 10, ["Its lowest recall is 90.0%, for every class."]),
        ({}, [1.0] * 10, ["Its lowest recall is 100.0%, for every class."]),
    ],
)  # fmt: skip
def test_limits_are_those_of_the_model_whatever_they_are(mistakes, recalls, sentences):
    confusion = np.eye(10, dtype=int) * 90
    for place, count in mistakes.items():
        confusion[place] = count
    scores = make_evaluation(confusion=confusion.tolist()).metrics
    assert _limits(RECORD, scores, dict(zip(CLASS_NAMES, recalls, strict=True)))[2:] == sentences


def test_each_format_has_an_accuracy_of_its_own(trained, formats, monkeypatch):
    """A difference that is allowed can change the class of an image for which two classes are as probable."""
    files, predicts = formats

    def tied(images, label=0):
        result = predict(images)
        result[(images == VAL.images[0]).all(axis=(1, 2, 3)), :2] = 0.42
        result[:, label] += 1e-5
        return result

    monkeypatch.setattr("cifar10.compute.inference.infer", lambda network, images, image_size: tied(images))
    predicts.update(dict.fromkeys(FORMATS, tied), onnx=lambda images: tied(images, 1))
    table = compare_formats(trained, files, VAL, OPTIONS)
    assert table.val_accuracy.tolist() == [0.995 if kind == "onnx" else 1 for kind in FORMATS]


@pytest.mark.parametrize("noise", [2e-4, float("nan")])
def test_a_float_format_that_differs_ends_the_export(trained, formats, noise):
    files, predicts = formats
    predicts["onnx"] = lambda images: predict(images, noise=noise)
    with pytest.raises(
        InputError, match=r"vgg16 as onnx differs from the Keras model by up to .* Nothing was exported"
    ):
        compare_formats(trained, files, VAL, OPTIONS)


@pytest.mark.parametrize(("wrong", "shipped"), [(0.01, True), (0.015, False)])
def test_int8_may_lose_one_point(trained, formats, wrong, shipped, caplog):
    files, predicts = formats
    predicts["litert_int8"] = lambda images: predict(images, wrong=wrong)
    with caplog.at_level(logging.WARNING):
        table = compare_formats(trained, files, VAL, OPTIONS)
    assert table.shipped.tolist() == [True, True, True, True, shipped]
    assert table.val_accuracy.iloc[-1] == pytest.approx(1 - wrong)
    assert ("model_int8.tflite is left out" in caplog.text) == (not shipped)

    card, text = describe_model(trained, evaluation(), table, predict(VAL.images), "Drawings.", None)
    packed = pack(trained, files, table, card, text, VAL)
    assert ("model_int8.tflite" in packed.files) == shipped
    assert ("it loses 1.5 points of accuracy" in text) == (not shipped)


def test_card_and_package(trained, formats):
    table = compare_formats(trained, formats[0], VAL, OPTIONS)
    card, text = describe_model(trained, evaluation(), table, predict(VAL.images), "Drawings.", None)
    packed = pack(trained, formats[0], table, card, text, VAL)
    assert set(packed.files) == {
        *FORMATS.values(), "model_card.json", "README.md", "class_names.txt",
        *(f"samples/{label}.png" for label in range(10)),
    }  # fmt: skip
    assert json.loads(packed.files["model_card.json"]) == card
    assert packed.files["class_names.txt"].decode().split() == CLASS_NAMES
    logits = np.log([0.82, 0.02]) / 1.5
    assert card["unsure_below"] == pytest.approx(1 / (1 + 9 * np.exp(logits[1] - logits[0])), rel=1e-5)
    assert (card["identity"], card["training"]["fingerprint"]) == (trained.identity, RECORD.fingerprint)
    for expected in ("90.00% (95% CI 88.00 to 92.00)", "predict triangle for frame: 7 of 1,000",
                 "lowest recall is 81.0%, for posts",
                 "Drawings.", "divided by 1.500", "| `model.onnx` | 0.0 | 1.00 |",
                 "A calibrated confidence below", "the model is less certain than for 95% of its validation images.",
                 "epoch and temperature were chosen on validation images",
                 "that on 200 validation images."):  # fmt: skip
        assert expected in text
    assert "None" not in text
    assert "built-in" not in text


@pytest.mark.parametrize("dataset", ["uoft-cs/cifar10", None])
def test_the_card_begins_with_metadata_for_the_hub(trained, formats, dataset):
    table = compare_formats(trained, formats[0], VAL, OPTIONS)
    _, text = describe_model(trained, evaluation(), table, predict(VAL.images), "Drawings.", dataset)
    empty, metadata, body = text.split("---\n", maxsplit=2)
    metadata = yaml.safe_load(metadata)
    assert (empty, body[:8]) == ("", "\n# vgg16")
    assert (metadata["library_name"], metadata["metrics"]) == ("keras", ["accuracy"])
    assert "license" not in metadata  # that of the weights is not known
    if dataset is None:
        assert "cifar" not in text.lower()
        return
    ((model,), datasets) = metadata["model-index"], metadata["datasets"]
    (result,) = model["results"]
    assert (model["name"], datasets, result["dataset"]["type"]) == ("vgg16", [dataset], dataset)
    assert result["metrics"] == [{"type": "accuracy", "name": "Test accuracy", "value": 0.9, "verified": False}]


def test_card_of_a_model_that_was_trained_on_the_validation_images(formats):
    record = make_record(digests={"val": VAL.digest}, recipe={"train_on": "all"}, val_accuracy=None)
    model = TrainedModel(record, lambda: "a network", "2026-01-01")
    table = compare_formats(model, formats[0], VAL, OPTIONS)
    known = evaluation(record=record, temperature=None, val_accuracy=None, calibrated_error=None)
    card, text = describe_model(model, known, table, predict(VAL.images), "Drawings.", None)
    assert card["temperature"] == 1
    for expected in ("its confidence is not calibrated", "validation images included; the last epoch was kept",
                     "A confidence below", "95% of its validation images, on which\nit was trained, too.",
                     "No temperature could be fitted",
                     "on which the model was trained, so it only compares"):  # fmt: skip
        assert expected in text
    for untrue in ("Validation accuracy", "calibrated confidence", "chosen on validation", "divided by"):
        assert untrue not in text


@pytest.mark.parametrize("architecture", ["winner", "vgg16", "vgg16:2026-01-01"])
def test_what_is_exported_has_been_evaluated(monkeypatch, tmp_path, trained, architecture):
    """And its predictions are kept, and the leaderboard that chooses it is of the same evaluations."""
    store = PredictionStore(tmp_path)
    monkeypatch.setattr("cifar10.pipelines.export.nodes.choose", lambda *given: trained)

    def choose(evaluations, leaderboard):
        options = {**OPTIONS, "architecture": architecture}
        return choose_for_export(None, leaderboard, evaluations, store, None, CLASS_NAMES, options)

    known = evaluation().model_copy(update={"identity": trained.identity})
    other = evaluation(record=make_record(recipe={"seed": 0}))
    with pytest.raises(InputError, match=r"2026-01-01.npz is missing, .* kedro run --pipelines=evaluation"):
        choose(make_evaluations(make_row(known)), None)
    val = predict(VAL.images)
    store.save(known, Predictions(known.identity, val[:0], val, val[:0]))
    for row in (make_row(known), make_row(other, older=(known,))):
        evaluations = make_evaluations(row)
        for leaderboard in (None, rank(evaluations, CLASS_NAMES)):
            *chosen, probabilities = choose(evaluations, leaderboard)
            assert chosen == [trained, known]
            np.testing.assert_array_equal(probabilities, val)
    with pytest.raises(InputError, match=r"vgg16, version 2026-01-01, is not in the latest evaluation"):
        choose(make_evaluations(other), None)
    stale = rank(make_evaluations(other), CLASS_NAMES)
    if ":" in architecture:
        assert choose(make_evaluations(make_row(known)), stale)[0] is trained
        return
    with pytest.raises(
        InputError, match=r"leaderboard is not of the latest evaluation.* kedro run --pipelines=reporting"
    ):
        choose(make_evaluations(make_row(known)), stale)


def test_exports_are_numbered_and_appear_whole(tmp_path):
    dataset = ServingDataset(filepath=str(tmp_path / "serving"))
    for content in (b"first", b"second"):
        dataset.save(Export("vgg16", {"model.onnx": content, "variables/index": b"x"}, "config"))
    folder = tmp_path / "serving/vgg16"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2", "config.pbtxt"]
    assert (folder / "2/model.onnx").read_bytes() == b"second"
    assert (folder / "1/variables/index").read_bytes() == b"x"
    assert (folder / "1").stat().st_mode & 0o555 == 0o555  # for a server that is another user
    (folder / ".unfinished-1234-3").mkdir()  # of an export that was killed
    (folder / ".unfinished-1234-3/rest").write_bytes(b"half")
    (folder / "9").mkdir()
    (folder / "a note").mkdir()
    dataset.save(Export("vgg16", {"model.onnx": b"tenth"}, "config"))
    assert [path.name for path in (folder / "10").iterdir()] == ["model.onnx"]
    assert not list(folder.glob(".unfinished*"))


def test_simultaneous_exports_are_numbered_and_whole(tmp_path):
    def save(number):
        content = {name: bytes([number]) for name in ("model.onnx", "model.tflite")}
        ServingDataset(filepath=str(tmp_path / "serving")).save(Export("vgg16", content, str(number)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(8)))
    folders = [path for path in (tmp_path / "serving/vgg16").iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == list("12345678")
    exports = sorted((path / "model.onnx").read_bytes() + (path / "model.tflite").read_bytes() for path in folders)
    assert exports == [bytes([number] * 2) for number in range(8)]
    assert (tmp_path / "serving/vgg16/config.pbtxt").read_text() in list("01234567")


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "second"])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["first file", "second file", "configuration"])
def test_an_export_that_cannot_be_written_leaves_everything_as_it_was(tmp_path, monkeypatch, place, earlier):
    dataset = ServingDataset(filepath=str(tmp_path / "serving"))
    if earlier:
        dataset.save(Export("vgg16", {"model.onnx": b"first"}, "config"))
    folder = tmp_path / "serving/vgg16"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    calls = itertools.count()

    def fsync(file):
        if next(calls) == place:
            raise OSError(28, "No space")

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(DatasetError, match=r"vgg16.* could not be written: No space.*saved before is unchanged"):
        dataset.save(Export("vgg16", {"model.onnx": b"content", "model.tflite": b"content"}, "another config"))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert folder.exists() == earlier
    dataset.save(Export("vgg16", {"model.onnx": b"content"}, "another config"))
    assert sorted(path.name for path in folder.iterdir()) == [*(["1", "2"] if earlier else ["1"]), "config.pbtxt"]
    assert (folder / "config.pbtxt").read_text() == "another config"
