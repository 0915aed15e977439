"""Whatever a pipeline reads and is damaged ends in one sentence with its name and what to do."""

import io
import logging
import os
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from PIL import Image

from cifar10.cli import _message as message
from cifar10.contracts import TrainedModel
from cifar10.datasets.arrays import ExamplesDataset
from cifar10.datasets.model import ModelDataset
from cifar10.errors import InputError
from tests.helpers import kedro, make_record, run, save_data

OPTIONS = {"robustness": {"examples": 20, "seed": 0}}
EPOCH = {
    "phase": "training", "epoch": 1, "accuracy": 0.1, "loss": 2.0, "val_accuracy": 0.1, "val_loss": 2.0,
    "learning_rate": 1e-3, "seconds": 1.5, "joules": None,
}  # fmt: skip
LEADERBOARD = "08_reporting/leaderboard.csv/*/leaderboard.csv"
EVALUATIONS = "08_reporting/evaluations.json/*/evaluations.json"
RECORD = "06_models/simple_cnn.keras/*/record.json"
NETWORK = "06_models/simple_cnn.keras/*/simple_cnn.keras"
READERS = {  # file -> pipelines that read it, not all of them: its dataset refuses it, whoever reads
    "02_intermediate/train_examples.npz": ["preprocessing"],
    "02_intermediate/test_examples.npz": ["preprocessing", "evaluation"],
    "03_primary/train.npz": ["train_simple_cnn"],
    "03_primary/val.npz": ["export"],
    "03_primary/statistics.json": ["evaluation", "predict"],
    RECORD: ["evaluation", "robustness", "history", "predict", "export"],
    NETWORK: ["evaluation", "robustness", "predict", "export"],
    EVALUATIONS: ["reporting", "history", "export"],
    LEADERBOARD: ["predict", "export"],
    "08_reporting/robustness.csv/*/robustness.csv": ["reporting"],
    "08_reporting/portraits/*/portraits/simple_cnn_mistakes.svg": ["reporting"],
}
DAMAGES = [  # one of them for each case here; all of them for each kind of file in datasets/test_artifact.py
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: np.random.default_rng(0).bytes(5000),
    lambda content: b"a,b\n1,2\n",
]
CASES = [(file, pipeline) for file, pipelines in READERS.items() for pipeline in pipelines]


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawn, eager):
    """A data folder with a small network that has been evaluated and reported, and an image."""
    folder = tmp_path_factory.mktemp("data")
    ExamplesDataset(filepath=f"{folder}/02_intermediate/train_examples.npz").save(drawn[0])
    statistics = save_data(folder, drawn[0].take(slice(300)), drawn[0].take(slice(300, None)), drawn[1])
    inputs = keras.Input((32, 32, 3))
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.Conv2D(4, 3, 4)(inputs))
    network = keras.Model(inputs, keras.layers.Softmax()(keras.layers.Dense(10, name="logits")(features)))
    record = make_record(
        architecture="simple_cnn",
        parameters=network.count_params(),
        data_version=statistics.data_version,
        digests=statistics.digests,
        training_digest=statistics.digests["train"],
        history=[EPOCH],
    )
    models = ModelDataset(
        filepath=str(folder / "06_models/simple_cnn.keras"), version=Version(None, "2026-01-01T00.00.00.000Z")
    )
    models.save(TrainedModel(record, lambda: network))
    run(folder, "evaluation", "robustness", "reporting", **OPTIONS)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "image.png")
    return folder


@pytest.fixture
def copy(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data", copy_function=os.link)  # damaged files are replaced, not written to


@pytest.mark.parametrize(("number", "file", "pipeline"), [(number, *case) for number, case in enumerate(CASES)])
def test_damaged_file_ends_in_one_sentence_with_its_name(copy, number, file, pipeline):
    (path,) = copy.glob(file)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(DAMAGES[number % len(DAMAGES)](content))
    before = {each: each.stat().st_mtime_ns for each in copy.rglob("*") if each.is_file()}
    with pytest.raises((InputError, DatasetError)) as error:
        run(copy, pipeline, image=str(copy / "image.png"), **OPTIONS)
    text = message(error.value)
    if (file, pipeline) in ((NETWORK, "predict"), (NETWORK, "export")):
        assert "simple_cnn in version 2026-01-01T00.00.00.000Z, which has been replaced or damaged" in text
    else:
        assert text.startswith(str(path)), text
    assert "\n" not in text
    assert "kedro run --pipelines=" in text or "Draw it again" in text, text
    assert {each: each.stat().st_mtime_ns for each in copy.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize("number", range(len(DAMAGES) + 1))
def test_robustness_is_evaluated_anew_where_the_earlier_table_is_damaged(copy, caplog, number):
    """It only spares work; the last case is the table as it was saved."""
    (path,) = copy.glob("08_reporting/robustness.csv/*/robustness.csv")
    content = path.read_bytes()
    if number < len(DAMAGES):
        path.unlink()
        path.write_bytes(DAMAGES[number](content))
    with caplog.at_level(logging.INFO):
        run(copy, "robustness", **OPTIONS)
    new = max(copy.glob("08_reporting/robustness.csv/*/robustness.csv"))
    assert new != path
    assert new.read_bytes() == content
    assert ("simple_cnn: reusing the accuracy" in caplog.text) == (number == len(DAMAGES))


def test_a_truncated_network_is_said_to_be_damaged(copy):
    (path,) = copy.glob(NETWORK)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="could not be read: it is damaged, or no model at all"):
        run(copy, "evaluation", **OPTIONS)


def without_seed(text):
    """Remove the seed of a record, or of those in evaluations."""
    return re.sub(r'"seed": \d+,', "", text)


def without_temperature(text):
    table = pd.read_csv(io.StringIO(text), dtype=str)
    return table.drop(columns="temperature").to_csv(index=False)


@pytest.mark.parametrize(
    ("file", "damage", "problem"),
    [
        (RECORD, without_seed, "is not valid: recipe: seed is missing. Move the folder of this version away"),
        (EVALUATIONS, without_seed, "record.recipe: seed is missing. Create it again with kedro run --pipelines=eval"),
        (LEADERBOARD, without_temperature, "could not be read: it has no column temperature. Create it again with"),
    ],
)
def test_a_missing_field_is_named_before_any_work(copy, caplog, file, damage, problem):
    (path,) = copy.glob(file)
    text = path.read_text()
    path.unlink()
    path.write_text(damage(text))
    for pipeline in READERS[file]:
        caplog.clear()
        with pytest.raises((InputError, DatasetError)) as error:
            run(copy, pipeline, image=str(copy / "image.png"), **OPTIONS)
        assert message(error.value).startswith(str(path))
        assert problem in message(error.value)
        assert "Using simple_cnn" not in caplog.text


def test_damaged_predictions_are_made_again(copy):
    (path,) = copy.glob("07_model_output/predictions/simple_cnn/*.npz")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-100])
    run(copy, "evaluation", nodes=["evaluation.evaluate"], **OPTIONS)
    assert path.read_bytes() == content


def test_the_command_line_shows_the_sentence_alone(copy):
    (path,) = copy.glob(LEADERBOARD)
    path.unlink()
    path.write_bytes(b"")
    result = kedro("run", "--env=demo", "--pipelines=predict", f"--params=data_root={copy},image={copy / 'image.png'}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {path} could not be read: its last row is incomplete.")
    assert "Create it again with kedro run --pipelines=reporting --env=demo" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
