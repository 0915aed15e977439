"""What is predicted for the user's images: calibrated by the temperature of this very model, in its own class names."""

import io
import logging
import os
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cifar10.contracts import Predictions, TrainedModel
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError
from cifar10.figures import to_svg
from cifar10.images import read_image
from cifar10.pipelines.predict import nodes
from cifar10.pipelines.predict.nodes import predict_images
from cifar10.pipelines.reporting.nodes import rank
from tests.helpers import CLASS_NAMES, make_evaluation, make_evaluations, make_record, make_row

LOOKS_AT_FIGURES = True

NOTHING = PredictionStore(Path("/nowhere"))
RAW = np.array([[0.7, 0.2, *[0.0125] * 8]], np.float32)


class Models:
    """Those of the catalog: two versions of one architecture."""

    def versions(self, name):
        return ["2026-01-01", "2026-01-02"]

    def load(self, name, version="2026-01-02"):
        recipe_hash = {"2026-01-01": "0123456789ab", "2026-01-02": "9876543210ab"}[version]
        record = make_record(recipe_hash=recipe_hash, training_digest=version)
        return TrainedModel(record, lambda: "a network", version)


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "cifar10.compute.inference.infer", lambda network, images, image_size: RAW.repeat(len(images), axis=0)
    )
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "cat.png")
    return str(tmp_path / "cat.png")


@pytest.mark.parametrize(
    ("evaluated", "chosen", "temperature"), [("2026-01-01", "2026-01-01", 2.0), (None, "2026-01-02", 1.0)]
)
def test_the_temperature_is_that_of_the_model(image, caplog, evaluated, chosen, temperature):
    """Without an evaluation, the probabilities are as the network gives them."""
    leaderboard = evaluations = None
    if evaluated:
        model = Models().load("vgg16", evaluated)
        evaluation = make_evaluation(version=evaluated, record=model.record, temperature=temperature)
        evaluation = evaluation.model_copy(update={"identity": model.identity})
        evaluations = make_evaluations(make_evaluation("vgg19", temperature=5.0), evaluation)
        leaderboard = rank(evaluations, CLASS_NAMES)
    with caplog.at_level(logging.INFO):
        table, figure = predict_images(Models(), leaderboard, evaluations, None, NOTHING, CLASS_NAMES, image, "vgg16")
    powers = RAW[0] ** (1 / temperature)
    assert table.loc[0, CLASS_NAMES].tolist() == pytest.approx((powers / powers.sum()).tolist(), rel=1e-6)
    assert (table.image[0], table.label[0]) == ("cat.png", CLASS_NAMES[0])
    assert table.probability[0] == pytest.approx(powers[0] / powers.sum())
    assert figure._suptitle.get_text() == f"vgg16, version {chosen}"
    assert f"cat.png: {CLASS_NAMES[0]}, {table.probability[0]:.1%} ({CLASS_NAMES[1]} " in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="other systems only permit names in Unicode")
def test_a_file_name_that_is_not_utf8_is_escaped(image, tmp_path, caplog):
    other = os.fsencode(tmp_path) + b"/caf\xe9.png"
    os.rename(image, other)
    table, figure = predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, os.fsdecode(other), "vgg16")
    assert table.image.tolist() == [r"caf\xe9.png"]
    assert r"caf\xe9.png: " in caplog.text
    caplog.text.encode()
    table.to_csv(io.BytesIO())
    to_svg(figure)


def test_another_seed_than_the_first_of_its_row_is_calibrated_too(image, caplog):
    """The leaderboard has the temperature of the first alone."""
    model = Models().load("vgg16", "2026-01-02")
    seeds = [make_evaluation(version=f"2026-01-0{day}", temperature=day + 1.0) for day in (1, 2)]
    seeds[1] = seeds[1].model_copy(update={"identity": model.identity})
    evaluations = make_evaluations(make_row(*seeds))
    with caplog.at_level(logging.INFO):
        table, _ = predict_images(Models(), None, evaluations, None, NOTHING, CLASS_NAMES, image, "vgg16:2026-01-02")
    powers = RAW[0] ** (1 / 3)
    assert table.probability[0] == pytest.approx(powers[0] / powers.sum())
    assert "The probabilities are calibrated, with temperature 3.00." in caplog.text


@pytest.mark.parametrize(("certain", "unsure"), [(0.1, False), (0.9, True)])
def test_an_unsure_prediction_is_marked_as_by_the_service(image, tmp_path, caplog, certain, unsure):
    """The image has a probability of 0.7, and the validation images have another one each."""
    model = Models().load("vgg16")
    val = np.full((100, 10), (1 - certain) / 9, np.float32)
    val[:, 3] = certain
    store = PredictionStore(tmp_path / "predictions")
    store.save(model, Predictions(model.identity, val, val, val))
    with caplog.at_level(logging.INFO):
        table, figure = predict_images(Models(), None, None, None, store, CLASS_NAMES, image, "vgg16")
    assert table.unsure[0] == unsure
    sure, guess = "disc, 70.0%", "Best guess: disc, 70.0%"
    note = "; unsure: less certain than for 95% of its validation images"
    others = "(ring 20.0%, square 1.3%)"
    expected = f"{image}: {guess} {others}{note}" if unsure else f"{image}: {sure} {others}"
    assert caplog.messages[-1] == expected
    assert figure.axes[2].get_title(loc="left").startswith("unsure: ") == unsure


def test_without_predictions_on_the_validation_images_none_is_unsure(image, caplog):
    with caplog.at_level(logging.INFO):
        table, _ = predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, image, "vgg16")
    assert table.unsure.isna().all()
    assert "No prediction is marked as unsure" in caplog.text


@pytest.mark.parametrize(
    ("train_on", "reason"),
    [("train", "this model is not in the latest evaluation: kedro run --pipelines=evaluation,reporting"),
     ("all", "was trained on the validation images, too")],
)  # fmt: skip
def test_why_probabilities_are_not_calibrated(image, caplog, train_on, reason):
    """No evaluation calibrates a model that was trained on all images, so none is suggested."""
    record = make_record(recipe={"train_on": train_on})
    models = SimpleNamespace(
        versions=lambda name: ["2026-01-01"], load=lambda *_: TrainedModel(record, lambda: "a network", "2026-01-01")
    )
    with caplog.at_level(logging.INFO):
        predict_images(models, None, None, None, NOTHING, CLASS_NAMES, image, "vgg16")
    (message,) = [each for each in caplog.messages if "not calibrated" in each]
    assert reason in message
    assert ("kedro run" in message) == (train_on == "train")


def test_other_class_names_are_refused(image):
    with pytest.raises(InputError, match="vgg16, version 2026-01-02, has other class names than class_names"):
        predict_images(Models(), None, None, None, NOTHING, list(reversed(CLASS_NAMES)), image, "vgg16")


def test_no_image_is_refused():
    with pytest.raises(InputError, match="No image is given"):
        predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, None, "vgg16")


def test_files_of_a_folder_that_are_not_images_are_skipped_and_counted(image, tmp_path, caplog):
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" * 100)
    (tmp_path / "damaged.png").write_bytes((tmp_path / "cat.png").read_bytes()[:-40])
    (tmp_path / "notes.txt").write_text("notes")
    table, _ = predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, str(tmp_path), "vgg16")
    assert table.image.tolist() == ["cat.png"]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for name, warning in zip(("Thumbs.db", "damaged.png", "notes.txt"), warnings, strict=False):
        assert warning.startswith(f"Skipped: {tmp_path / name} ")
    assert warnings[3:] == [f"Skipped 3 of the 4 files in {tmp_path}."]


@pytest.mark.parametrize(
    ("names", "message"), [(["a.txt"], "a.txt is not an image"), (["a.txt", "b"], "None of the 2")]
)
def test_a_folder_without_a_readable_image_is_refused(image, tmp_path, names, message):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("text")
    with pytest.raises(InputError, match=message):
        predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, str(folder), "vgg16")


def test_a_folder_of_any_size_is_read_in_parts(image, tmp_path, monkeypatch):
    """Each image has a brightness of its own, by which the network classifies it."""
    opened, sizes, kept = [], [], []

    def infer(network, images, image_size):
        sizes.append(len(images))
        kept.append(sum(reference() is not None for reference in opened))
        return np.eye(10, dtype=np.float32)[images[:, 0, 0, 0]]

    def read(path):
        image = read_image(path)
        opened.append(weakref.ref(image))
        return image

    monkeypatch.setattr("cifar10.compute.inference.infer", infer)
    monkeypatch.setattr(nodes, "read_image", read)
    monkeypatch.setattr(nodes, "IMAGES_AT_ONCE", 4)
    (tmp_path / "cat.png").unlink()
    for number in range(30):
        Image.new("RGB", (40, 40), (number % 10,) * 3).save(tmp_path / f"{number:02}.png")
    table, figure = predict_images(Models(), None, None, None, NOTHING, CLASS_NAMES, str(tmp_path), "vgg16")
    assert sizes == [4] * 7 + [2]
    assert max(kept) <= 1  # the images themselves, which may have 50 megapixels, are not kept
    assert table.image.tolist() == [f"{number:02}.png" for number in range(30)]
    assert table.label.tolist() == CLASS_NAMES * 3
    assert figure._suptitle.get_text().endswith("the first 12 of 30 images")
