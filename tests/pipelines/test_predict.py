"""What is predicted for the user's images: calibrated by the temperature of this very model, in its own class names."""

import logging

import numpy as np
import pytest
from PIL import Image

from cifar10.contracts import TrainedModel
from cifar10.errors import InputError
from cifar10.pipelines.predict.nodes import predict_images
from cifar10.pipelines.reporting.nodes import rank
from tests.helpers import CLASS_NAMES, make_evaluation, make_evaluations, make_record

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
    """Of a model that no leaderboard has, the probabilities are as the network gives them."""
    leaderboard = None
    if evaluated:
        model = Models().load("vgg16", evaluated)
        evaluation = make_evaluation(version=evaluated, record=model.record, temperature=temperature)
        evaluation = evaluation.model_copy(update={"identity": model.identity})
        leaderboard = rank(make_evaluations(make_evaluation("vgg19", temperature=5.0), evaluation), CLASS_NAMES)
    with caplog.at_level(logging.INFO):
        table, figure = predict_images(Models(), leaderboard, None, CLASS_NAMES, image, "vgg16")
    powers = RAW[0] ** (1 / temperature)
    assert table.loc[0, CLASS_NAMES].tolist() == pytest.approx((powers / powers.sum()).tolist(), rel=1e-6)
    assert (table.image[0], table.label[0]) == ("cat.png", CLASS_NAMES[0])
    assert table.probability[0] == pytest.approx(powers[0] / powers.sum())
    assert figure._suptitle.get_text() == f"vgg16, version {chosen}"
    assert f"cat.png: {CLASS_NAMES[0]} {table.probability[0]:.1%}, {CLASS_NAMES[1]}" in caplog.text


def test_other_class_names_are_refused(image):
    with pytest.raises(InputError, match="vgg16, version 2026-01-02, has other class names than class_names"):
        predict_images(Models(), None, None, list(reversed(CLASS_NAMES)), image, "vgg16")


def test_no_image_is_refused():
    with pytest.raises(InputError, match="No image is given"):
        predict_images(Models(), None, None, CLASS_NAMES, None, "vgg16")
