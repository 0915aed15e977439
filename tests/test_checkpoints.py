"""Which checkpoints a run leaves, and what the same command makes of them."""

import shutil

import keras
import pandas as pd
import pytest

from cifar10.architectures import plain
from cifar10.contracts import Evaluations, Record
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError
from tests.helpers import run, save_data
from tests.training.interruptions import interrupt_after

TINY = {"epochs": 1, "batch_size": 32, "examples": 32}

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory, drawn):
    """A data folder with 300 images of the demo for training, and no models."""
    folder = tmp_path_factory.mktemp("data")
    save_data(folder, drawn[0].take(slice(300)), drawn[0].take(slice(300, None)), drawn[1])
    return folder


@pytest.fixture
def data(preprocessed, tmp_path):
    return shutil.copytree(preprocessed, tmp_path / "data")


def checkpoints(data):
    return sorted(data.glob("06_models/*_checkpoint/*/*.npz"))


def test_failed_evaluation_repeats_the_training_of_changed_code_only(data, monkeypatch, caplog):
    """Trained to its end, then `relu` is changed to `tanh` without a commit, and back, always with the same recipe."""

    def fail(*arguments):
        raise InputError("no space left")

    with monkeypatch.context() as context:
        context.setattr(PredictionStore, "save", fail)
        with pytest.raises(InputError, match="no space left"):
            run(data, "train_simple_cnn", "evaluation", simple_cnn=TINY)
    (kept,) = checkpoints(data)

    caplog.clear()
    with monkeypatch.context() as context:
        relu, simple_cnn = keras.activations.relu, plain.simple_cnn

        def with_tanh(*arguments):
            network = simple_cnn(*arguments)
            for layer in network.layers:
                if getattr(layer, "activation", None) is relu:
                    layer.activation = keras.activations.tanh
            return network

        context.setattr(plain, "simple_cnn", with_tanh)
        run(data, "train_simple_cnn", simple_cnn=TINY)
    assert "starting from scratch" in caplog.text
    assert "fingerprint" in caplog.text
    assert checkpoints(data) == [kept]

    caplog.clear()
    run(data, "train_simple_cnn", simple_cnn=TINY)
    assert f"simple_cnn: resuming after epoch 1, from {kept}" in caplog.text
    assert "epoch 1 of 1: accuracy" not in caplog.text  # so nothing was trained
    assert checkpoints(data) == []


def versions(data, name="06_models/simple_cnn.keras"):
    return sorted(path.name for path in (data / name).iterdir())


def test_only_missing_outputs_keeps_the_checkpoints_of_what_it_does_not_train(data, monkeypatch, caplog):
    """A training of another seed is complete, so no output is missing; the unfinished one can still be resumed."""
    run(data, "train_simple_cnn", simple_cnn=TINY)
    unfinished = {**TINY, "epochs": 3, "seed": 4}
    with monkeypatch.context() as context:
        interrupt_after(context, 2)
        with pytest.raises(KeyboardInterrupt):
            run(data, "train_simple_cnn", simple_cnn=unfinished)
    before = checkpoints(data)
    assert len(before) == 2
    for recipe, warned in ((unfinished, True), (TINY, False)):
        caplog.clear()
        run(data, "train_simple_cnn", only_missing_outputs=True, simple_cnn=recipe)
        assert checkpoints(data) == before
        assert ("simple_cnn was not trained: any version satisfies --only-missing-outputs" in caplog.text) is warned
        assert "saved as" not in caplog.text
        assert "Next: " not in caplog.text
        assert "Skipping all 3 nodes" in caplog.text
    run(data, "train_simple_cnn", simple_cnn=unfinished)
    assert "simple_cnn: resuming after epoch 2" in caplog.text
    assert checkpoints(data) == []


def test_a_run_evaluates_what_it_has_trained_although_there_is_a_later_version(data, caplog):
    """Of the same recipe and seed: from a clock that was ahead, or of a run that started later and ended before."""
    run(data, "train_simple_cnn", simple_cnn=TINY)
    models = data / "06_models/simple_cnn.keras"
    (models / versions(data)[0]).rename(models / "2099-01-01T00.00.00.000Z")
    nodes = ["training.simple_cnn.train", "evaluation.evaluate"]
    run(data, "train_simple_cnn", "evaluation", nodes=nodes, simple_cnn=TINY)
    own = versions(data)[0]
    (path,) = data.glob("08_reporting/evaluations.json/*/evaluations.json")
    (row,) = Evaluations.read(path).rows
    assert [each.version for each in row.seeds] == [own]
    assert f"simple_cnn: version {own} (seed 0); left out: 2099-01-01" in caplog.text


@pytest.mark.filterwarnings("ignore:Save version")
def test_two_seeds_that_start_in_the_same_millisecond_are_both_saved(data, monkeypatch):
    same = "2026-01-01T00.00.00.000Z"
    monkeypatch.setattr("cifar10.datasets.artifact._REPLACED", {})
    monkeypatch.setattr("kedro.framework.session.session.generate_timestamp", lambda: same)
    for seed in (0, 1):
        run(data, "train_simple_cnn", simple_cnn={**TINY, "seed": seed})
    first, second = versions(data)
    assert first == same
    for version, seed in ((first, 0), (second, 1)):
        record = Record.read(data / f"06_models/simple_cnn.keras/{version}/record.json")
        history = pd.read_csv(data / f"06_models/simple_cnn_history.csv/{version}/simple_cnn_history.csv")
        assert (record.seed, record.history[0]["loss"]) == (seed, history.loss[0])
    for name in ("06_models/simple_cnn_layers.csv", "08_reporting/simple_cnn_learning_curves.png"):
        assert versions(data, name) == [first, second]
    assert checkpoints(data) == []


def test_a_version_of_what_the_run_trains_is_refused(data):
    """Its layers and learning curves would be drawn under the version of the new model."""
    run(data, "train_simple_cnn", simple_cnn=TINY)
    (version,) = versions(data)
    with pytest.raises(InputError, match=r"--load-versions=simple_cnn\.model: this run saves a version of its own"):
        run(data, "train_simple_cnn", load_versions={"simple_cnn.model": version}, simple_cnn={**TINY, "seed": 3})
    assert versions(data) == [version]


def test_too_many_examples_are_refused_before_any_training_starts(preprocessed, tmp_path, caplog):
    """Of the last training of the run, whose data the run itself makes."""
    with pytest.raises(InputError, match=r"simple_cnn\.examples is 2,701, but there are only 2,700 training images"):
        run(
            tmp_path, "ingestion", "preprocessing", "train_deep_cnn", "train_simple_cnn",
            simple_cnn={**TINY, "examples": 2701}, deep_cnn=TINY,
        )  # fmt: skip
    assert "deep_cnn: " not in caplog.text
    assert not list(tmp_path.glob("06_models/*"))
    too_many = {**TINY, "train_on": "all", "early_stopping": None, "examples": 401}
    with pytest.raises(InputError, match=r"only 400 training images"):
        run(preprocessed, "train_simple_cnn", simple_cnn=too_many)
