"""Trainings as a whole: what they return and record, what stops them, and how they resume."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.compute import device
from cifar10.compute.energy import read_counters
from cifar10.contracts import Examples
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.fit import fit
from cifar10.training.model import TrainingModel
from cifar10.training.progress import Progress
from tests.helpers import PROJECT

TIMED = ["seconds", "joules"]  # columns of the history that differ each time
EXACT = keras.distribution.list_devices()[0].startswith("cpu")  # the same seed gives the same bits


@pytest.fixture(scope="module")
def splits(drawn):
    return drawn[0].take(slice(300)), drawn[0].take(slice(300, None))


@pytest.fixture(scope="module")
def statistics(splits, drawn):
    return measure(*splits, drawn[1])


@pytest.fixture(scope="module")
def quick_fit(splits, statistics, recipe, tmp_path_factory):
    """Fit the simple CNN on 300 images for eight epochs, except for what the arguments change."""

    def make(train=splits[0], val=splits[1], checkpoints=None, **changes):
        options = recipe(**{"epochs": 8, "batch_size": 16, "learning_rate": 0.003, **changes})
        checkpoints = checkpoints or Checkpoints(tmp_path_factory.mktemp("checkpoints"))
        return fit("simple_cnn", train, val, statistics, 10, options, checkpoints)

    return make


@pytest.fixture(scope="module")
def fitted(quick_fit):
    return quick_fit(seed=3, compute_dtype="float32")  # in which the saved network predicts


def test_network_is_that_of_the_best_epoch(fitted, splits):
    trained, history = fitted
    val = splits[1]
    accuracy = (trained.load_network().predict(val.images, verbose=0).argmax(axis=1) == val.labels).mean()
    assert accuracy == pytest.approx(history.val_accuracy.max(), abs=1e-6)
    assert trained.record.val_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert trained.record.best_epoch == history.epoch[history.val_accuracy.argmax()]
    assert accuracy > 0.2  # it learns


def test_record_says_how_the_model_was_trained(fitted, statistics):
    trained, history = fitted
    record = trained.record
    assert record.architecture == "simple_cnn"
    assert record.recipe["seed"] == record.seed == 3
    assert not record.trained_on_val
    assert (record.data_version, record.digests) == (statistics.data_version, statistics.digests)
    assert record.parameters == trained.load_network().count_params()
    assert record.epochs == len(history) == 8
    assert record.training_seconds >= history.seconds.sum() * 0.9
    assert {"cifar10", "commit", "python", "keras", keras.backend.backend()} <= record.versions.keys()
    assert keras.distribution.list_devices()[0].startswith("gpu") or record.hardware.endswith(" cores")
    assert (record.initial_weights, record.image_size, record.training_examples) == ("random", 32, 300)
    phase = record.phases["training"]
    assert (phase["epochs"], phase["val_accuracy"]) == (8, record.val_accuracy)
    pd.testing.assert_frame_equal(pd.DataFrame(record.history), history)


def test_history_has_one_row_per_epoch(fitted):
    _, history = fitted
    assert list(history.epoch) == list(range(1, 9))
    assert {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"} < set(history.columns)
    assert not history.drop(columns="joules").isna().any().any()
    assert (history.joules.notna() == bool(read_counters())).all()


def test_same_seed_gives_the_same_training(fitted, quick_fit):
    again, other = (quick_fit(seed=seed, compute_dtype="float32")[1] for seed in (3, 4))
    pd.testing.assert_frame_equal(again.drop(columns=TIMED), fitted[1].drop(columns=TIMED), check_exact=EXACT)
    assert not np.allclose(other.loss, fitted[1].loss)


def test_early_stopping_ends_and_plateau_lowers_the_learning_rate(quick_fit):
    changes = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 4e-6, "epochs": 30, "early_stopping": 3}
    trained, history = quick_fit(**changes)
    assert len(history) == trained.record.best_epoch + 3 < 30
    assert history.learning_rate.iloc[-1] <= 2e-6


def test_loss_that_is_not_finite_stops_and_names_the_option(quick_fit):
    with pytest.raises(
        InputError,
        match=r"simple_cnn: the loss is not finite since training step [12]\. .* learning_rate \(now 1e\+30\)",
    ):
        quick_fit(learning_rate=1e30, optimizer="sgd")


def test_weights_that_the_last_step_of_an_epoch_makes_infinite_are_not_saved(quick_fit, tmp_path):
    """The loss of that step is still finite."""
    changes = {"optimizer": "sgd", "learning_rate": 1e30, "weight_decay": 1e30, "batch_size": 300, "epochs": 1}
    with pytest.raises(InputError, match=r"simple_cnn: the weights are not finite since training step 1\."):
        quick_fit(**changes, checkpoints=Checkpoints(tmp_path))
    assert not list(tmp_path.glob("*/*.npz"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 1 GB")])
@pytest.mark.parametrize("where", ["fit", "evaluate"])
def test_out_of_memory_names_the_option(quick_fit, monkeypatch, where, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(f"cifar10.training.model.TrainingModel.{where}", fail)
    with pytest.raises(
        InputError, match=r"simple_cnn: there is not enough memory for batches of 16 images.* Lower its batch_size"
    ):
        quick_fit()


def test_train_on_all_uses_the_val_images_too_and_keeps_the_last_epoch(quick_fit):
    trained, history = quick_fit(train_on="all", early_stopping=None, epochs=2)
    record = trained.record
    assert record.training_examples == 400
    assert (record.best_epoch, record.val_accuracy) == (2, None)
    assert history.val_accuracy.isna().all()
    assert record.recipe["train_on"] == "all"
    assert record.trained_on_val


def test_compute_dtype_is_that_of_the_recipe_and_recorded(quick_fit):
    weights = {}
    for compute_dtype in ("float32", "bfloat16"):
        trained, _ = quick_fit(compute_dtype=compute_dtype, epochs=1)
        network = trained.load_network()
        assert trained.record.compute_dtype == compute_dtype
        assert {layer.compute_dtype for layer in network.layers} == {"float32"}
        weights[compute_dtype] = network.get_weights()[0]
    assert not np.array_equal(*weights.values())


def test_log_names_the_device_and_estimates_the_time_on_a_cpu(quick_fit, caplog):
    caplog.set_level("INFO")
    quick_fit(epochs=1)
    assert f"simple_cnn: on {device.hardware()}; {keras.backend.backend()}, " in caplog.text
    assert device.has_gpu() or "no GPU found: the recipe needs about" in caplog.text


def test_recorded_hash_is_that_of_the_recipe_without_its_seed(quick_fit):
    hashes = [
        quick_fit(epochs=1, examples=16, **changes)[0].record.recipe_hash
        for changes in ({"seed": 1}, {"seed": 2}, {"seed": 2, "shift": 1})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def interrupt_after(monkeypatch, epochs):
    """Interrupt trainings, as by Ctrl-C, once that number of epochs has been saved."""
    add = Progress.add

    def add_and_stop(progress, row, variables):
        add(progress, row, variables)
        if len(progress.history) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "add", add_and_stop)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "plateau", "plateau_patience": 1, "early_stopping": 2, "learning_rate": 1e-5, "mixup": 0.5},
        {"optimizer": "muon", "accumulate": 3, "schedule": "triangular", "flip": "alternating", "learning_rate": 0.05},
        {"optimizer": "sgd", "lookahead": 5, "schedule": "cosine", "shift": 3, "cutout": 4},
    ],
)
def test_interrupted_training_ends_like_an_uninterrupted_one(quick_fit, checkpoints, monkeypatch, changes):
    changes = {**changes, "epochs": 6}
    uninterrupted, history = quick_fit(**changes)
    for epochs in (1, 3):
        with monkeypatch.context() as context:
            interrupt_after(context, epochs)
            with pytest.raises(KeyboardInterrupt):
                quick_fit(checkpoints=checkpoints, **changes)
    resumed, same_history = quick_fit(checkpoints=checkpoints, **changes)
    pd.testing.assert_frame_equal(same_history.drop(columns=TIMED), history.drop(columns=TIMED), check_exact=EXACT)
    assert resumed.record.best_epoch == uninterrupted.record.best_epoch
    weights = (each.load_network().get_weights() for each in (uninterrupted, resumed))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=0 if EXACT else 1e-3)


def test_checkpoint_of_another_version_of_the_code_is_not_resumed(quick_fit, checkpoints, monkeypatch):
    with monkeypatch.context() as context:
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(epochs=2, checkpoints=checkpoints)
    state = TrainingModel.state
    monkeypatch.setattr(TrainingModel, "state", lambda model: state(model)[1:])
    message = r"was created by another version of the code.*Go back to that commit, or delete"
    with pytest.raises(InputError, match=message):
        quick_fit(epochs=2, checkpoints=checkpoints)


def test_finished_training_that_was_not_saved_is_not_repeated(quick_fit, checkpoints):
    first, _ = quick_fit(epochs=2, checkpoints=checkpoints)
    second, _ = quick_fit(epochs=2, checkpoints=checkpoints)
    assert second.record == first.record  # including its seconds


def test_resumed_training_keeps_its_compute_dtype(quick_fit, checkpoints, monkeypatch):
    monkeypatch.setattr(device, "_processor_flags", lambda: {"avx512_bf16"})
    options = {"epochs": 2, "checkpoints": checkpoints, "compute_dtype": "auto", "cpu_compute_dtype": "bfloat16"}
    with monkeypatch.context() as context:
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(**options)
    monkeypatch.setattr(device, "_processor_flags", set)
    assert quick_fit(**options)[0].record.compute_dtype == "bfloat16"


def test_examples_limits_the_training_images_and_is_recorded(quick_fit):
    trained, history = quick_fit(epochs=1, examples=48)
    again, same = quick_fit(epochs=1, examples=48)
    record = trained.record
    assert record.training_examples == again.record.training_examples == record.recipe["examples"] == 48
    assert history.loss[0] == pytest.approx(same.loss[0], rel=1e-4)
    with pytest.raises(InputError, match=r"simple_cnn\.examples is 301, but there are only 300 training images"):
        quick_fit(examples=301)


def test_splits_that_are_not_those_of_the_statistics_are_refused(quick_fit, splits):
    """As after a preprocessing that was interrupted between its files."""
    train, val = splits
    for changed in ((val, train), (Examples(train.images, train.labels[::-1]), val), (train, train)):
        with pytest.raises(InputError, match="images have changed since preprocessing was last completed"):
            quick_fit(*changed)


@pytest.mark.jax
def test_jax_trains_and_predicts_too():
    pytest.importorskip("jax", reason='needs the extra: pip install -e ".[jax]"')
    command = [sys.executable, "-m", "pytest", "-q", "-k", "not jax", "tests/training", "tests/architectures"]
    result = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]
