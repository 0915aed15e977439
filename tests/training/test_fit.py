import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.contracts import Examples
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training.fit import fit
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def parts(drawn):
    train = drawn[0]
    return Examples(train.images[:300], train.labels[:300]), Examples(train.images[300:], train.labels[300:])


@pytest.fixture(scope="module")
def statistics(parts, drawn):
    return measure(*parts, drawn[1])


def quick_fit(parts, statistics, recipe, **changes):
    changes = {"epochs": 8, "batch_size": 16, "learning_rate": 0.003, **changes}
    return fit("simple_cnn", *parts, statistics, 10, recipe(**changes))


@pytest.fixture(scope="module")
def fitted(parts, statistics, recipe):
    return quick_fit(parts, statistics, recipe, seed=3)


def test_saved_network_is_that_of_the_best_epoch(fitted, parts):
    (network, record), history = fitted
    val = parts[1]
    accuracy = (network.predict(val.images, verbose=0).argmax(axis=1) == val.labels).mean()
    assert accuracy == pytest.approx(history.val_accuracy.max(), abs=1e-6)
    assert record["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert record["best_epoch"] == history.epoch[history.val_accuracy.argmax()]
    assert accuracy > 0.2  # it learns


def test_record_says_how_the_model_came_to_be(fitted, statistics):
    (network, record), history = fitted
    assert record["architecture"] == "simple_cnn"
    assert record["recipe"]["seed"] == 3
    assert record["data_version"] == statistics.data_version
    assert record["parameters"] == network.count_params()
    assert record["epochs"] == len(history) == 8
    assert record["seconds"] >= history.seconds.sum() * 0.9
    assert {"cifar10", "commit", "python", "keras", keras.backend.backend()} <= record["versions"].keys()
    assert keras.distribution.list_devices()[0].startswith("gpu") or record["hardware"].endswith(" cores")
    assert (record["initialisation"], record["image_size"], record["training_pictures"]) == ("random", 32, 300)
    phase = record["phases"]["training"]
    assert (phase["epochs"], phase["val_accuracy"]) == (8, record["val_accuracy"])
    pd.testing.assert_frame_equal(pd.DataFrame(record["history"]), history)


def test_history_has_a_row_an_epoch(fitted):
    _, history = fitted
    assert list(history.epoch) == list(range(1, 9))
    assert {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"} < set(history.columns)
    assert not history.isna().any().any()


def test_same_seed_same_training(fitted, parts, statistics, recipe):
    again = quick_fit(parts, statistics, recipe, seed=3)[1]
    other = quick_fit(parts, statistics, recipe, seed=4)[1]
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), fitted[1].drop(columns="seconds"), atol=1e-4)
    assert not np.allclose(other.loss, fitted[1].loss)


def test_early_stopping_ends_and_plateau_slows(parts, statistics, recipe):
    changes = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 4e-6, "epochs": 30, "early_stopping": 3}
    (_, record), history = quick_fit(parts, statistics, recipe, **changes)
    assert len(history) == record["best_epoch"] + 3 < 30
    assert history.learning_rate.iloc[-1] <= 2e-6


def test_loss_that_is_no_number_stops_and_names_the_knob(parts, statistics, recipe):
    with pytest.raises(
        InputError, match=r"simple_cnn_training: the loss is no longer a number.* learning rate \(now 1e\+30\)"
    ):
        quick_fit(parts, statistics, recipe, learning_rate=1e30, optimizer="sgd")


def test_fewer_examples_are_drawn_at_random_and_told(parts, statistics, recipe):
    (_, record), history = quick_fit(parts, statistics, recipe, epochs=1, examples=48)
    (_, again), same = quick_fit(parts, statistics, recipe, epochs=1, examples=48)
    assert record["training_pictures"] == again["training_pictures"] == record["recipe"]["examples"] == 48
    assert history.loss[0] == pytest.approx(same.loss[0], rel=1e-4)
    with pytest.raises(InputError, match=r"simple_cnn\.examples asks for 301 training pictures, but there are 300"):
        quick_fit(parts, statistics, recipe, examples=301)


def test_parts_that_do_not_belong_together_are_refused(parts, statistics, recipe):
    """As after a preprocessing that was cut off between its files."""
    train, val = parts
    for changed in ((val, train), (Examples(train.images, train.labels[::-1]), val), (train, train)):
        with pytest.raises(InputError, match="pictures have changed since preprocessing was last completed"):
            quick_fit(changed, statistics, recipe)


@pytest.mark.jax
def test_jax_trains_and_predicts_too():
    pytest.importorskip("jax", reason='needs the extra: pip install -e ".[jax]"')
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not jax", "tests/training", "tests/architectures"]
    result = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
