"""Datasets with other numbers of classes than ten, through every stage."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifar10.contracts import Evaluations
from tests.helpers import run

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow exports")


def write_csv(path, count, classes):
    """Write images whose brightness tells the class, in the layout of Kaggle."""
    generator = np.random.default_rng(count)
    labels = np.arange(count) % classes
    squares = generator.integers(0, 40, (count, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3)
    pixels = (labels[:, None] * 200 / classes + squares.reshape(count, 3072)).astype(np.uint8)
    table = pd.DataFrame(pixels, columns=[f"pixel{number}" for number in range(3072)])
    path.parent.mkdir(parents=True, exist_ok=True)
    table.assign(label=labels).to_csv(path, index=False)


@pytest.mark.parametrize("classes", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_stage_works_with_that_number_of_classes(tmp_path, monkeypatch, classes):
    monkeypatch.setattr("cifar10.pipelines.robustness.nodes.SEVERITIES", (1, 5))
    names = [f"kind {number}" for number in range(classes)]
    write_csv(tmp_path / "01_raw/cifar10-csv/train.csv", 240, classes)
    write_csv(tmp_path / "01_raw/cifar10-csv/test.csv", 80, classes)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "black.png")
    tiny = {"epochs": 1, "batch_size": 32, "examples": 160}
    parameters = {
        "class_names": names, "val_fraction": 0.25, "test_time_augmentation": "flip",
        "robustness": {"examples": 20, "seed": 0}, "simple_cnn": tiny,
        "airbench94": {**tiny, "accumulate": 1, "whitening_epochs": 1},
    }  # fmt: skip
    run(tmp_path, "ingestion_csv", "preprocessing", "train_simple_cnn", "train_airbench94", "evaluation", "robustness",
        "reporting", "history", eager=True, **parameters)  # fmt: skip
    run(tmp_path, "export", "predict", image=str(tmp_path / "black.png"), **parameters)

    reporting = tmp_path / "08_reporting"
    (path,) = reporting.glob("evaluations.json/*/evaluations.json")
    for row in Evaluations.read(path).rows:
        assert list(row.first.metrics.classes) == names
        assert np.shape(row.first.metrics.confusion) == (classes, classes)
    (path,) = reporting.glob("report.html/*/report.html")
    assert "has the best validation accuracy of 2 models" in path.read_text()
    (path,) = (tmp_path / "07_model_output/serving").glob("*/1/model_card.json")
    card = json.loads(path.read_text())
    assert (card["class_names"], card["output"]["shape"]) == (names, [None, classes])
    assert f"It knows {classes} classes" in " ".join(card["limits"])
    (path,) = (tmp_path / "07_model_output").glob("prediction.csv/*/prediction.csv")
    assert list(pd.read_csv(path).columns) == ["image", "label", "probability", "unsure", *names]
