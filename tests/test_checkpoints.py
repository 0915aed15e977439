"""Which checkpoints a run leaves, and what the same command makes of them."""

import shutil

import keras
import pytest

from cifar10.architectures import plain
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError
from tests.helpers import run

TINY = {"epochs": 1, "batch_size": 32, "examples": 32}


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    """A data folder with the demo's images, and no models."""
    folder = tmp_path_factory.mktemp("data")
    run(folder, "ingestion", "preprocessing")
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


def test_checkpoints_are_cleared_although_another_version_was_asked_for(data):
    run(data, "train_simple_cnn", simple_cnn=TINY)
    (version,) = (path.name for path in (data / "06_models/simple_cnn.keras").iterdir())
    changed = {**TINY, "seed": 3}
    with pytest.warns(UserWarning, match="did not match load version"):
        run(data, "train_simple_cnn", load_versions={"simple_cnn.model": version}, simple_cnn=changed)
    assert checkpoints(data) == []


def test_too_many_examples_are_refused_before_any_training_starts(preprocessed, tmp_path, caplog):
    """Of the last training of the run, whose data the run itself makes."""
    with pytest.raises(InputError, match=r"simple_cnn\.examples is 2,701, but there are only 2,700 training images"):
        run(
            tmp_path, "ingestion", "preprocessing", "train_deep_cnn", "train_simple_cnn",
            simple_cnn={**TINY, "examples": 2701}, deep_cnn=TINY,
        )  # fmt: skip
    assert "deep_cnn: " not in caplog.text
    assert not list(tmp_path.glob("06_models/*"))
    too_many = {**TINY, "train_on": "all", "early_stopping": None, "examples": 3001}
    with pytest.raises(InputError, match=r"only 3,000 training images"):
        run(preprocessed, "train_simple_cnn", simple_cnn=too_many)
