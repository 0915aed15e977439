import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.contracts import Examples
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training import device
from cifar10.training.checkpoint import Checkpoint
from cifar10.training.fit import fit
from cifar10.training.model import Training
from cifar10.training.progress import Progress
from tests.helpers import PROJECT

TIMED = ["seconds", "joules"]  # of the history, which differ each time


@pytest.fixture(scope="module")
def parts(drawn):
    train = drawn[0]
    return Examples(train.images[:300], train.labels[:300]), Examples(train.images[300:], train.labels[300:])


@pytest.fixture(scope="module")
def statistics(parts, drawn):
    return measure(*parts, drawn[1])


def quick_fit(parts, statistics, recipe, **changes):
    changes = {"epochs": 8, "batch_size": 16, "learning_rate": 0.003, **changes}
    checkpoint = changes.pop("checkpoint", None) or Checkpoint(Path(tempfile.mkdtemp()))
    return fit("simple_cnn", *parts, statistics, 10, recipe(**changes), checkpoint)


@pytest.fixture(scope="module")
def fitted(parts, statistics, recipe):
    return quick_fit(parts, statistics, recipe, seed=3, precision="float32")  # in which the saved network answers


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
    again, other = (quick_fit(parts, statistics, recipe, seed=seed, precision="float32")[1] for seed in (3, 4))
    exact = keras.distribution.list_devices()[0].startswith("cpu")
    pd.testing.assert_frame_equal(
        again.drop(columns=TIMED, errors="ignore"), fitted[1].drop(columns=TIMED, errors="ignore"), check_exact=exact
    )
    assert not np.allclose(other.loss, fitted[1].loss)


def test_early_stopping_ends_and_plateau_slows(parts, statistics, recipe):
    changes = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 4e-6, "epochs": 30, "early_stopping": 3}
    (_, record), history = quick_fit(parts, statistics, recipe, **changes)
    assert len(history) == record["best_epoch"] + 3 < 30
    assert history.learning_rate.iloc[-1] <= 2e-6


def test_loss_that_is_no_number_stops_and_names_the_knob(parts, statistics, recipe):
    with pytest.raises(
        InputError,
        match=r"simple_cnn: the loss is no longer a number, as of training step [12]. .* learning_rate \(now 1e\+30\)",
    ):
        quick_fit(parts, statistics, recipe, learning_rate=1e30, optimizer="sgd")


def test_weights_that_the_last_step_of_an_epoch_spoils_are_not_saved(parts, statistics, recipe, tmp_path):
    """The loss of that step is still a number."""
    changes = {"optimizer": "sgd", "learning_rate": 1e30, "weight_decay": 1e30, "batch_size": 300, "epochs": 1}
    with pytest.raises(InputError, match=r"simple_cnn: the weights are no longer numbers, as of training step 1\."):
        quick_fit(parts, statistics, recipe, **changes, checkpoint=Checkpoint(tmp_path))
    assert not list(tmp_path.glob("*/*.npz"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 1 GB")])
@pytest.mark.parametrize("where", ["fit", "evaluate"])
def test_memory_that_runs_out_names_the_knob(parts, statistics, recipe, monkeypatch, where, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(f"cifar10.training.model.Training.{where}", fail)
    with pytest.raises(
        InputError, match=r"simple_cnn: there is no memory left for batches of 16.* Lower its batch_size"
    ):
        quick_fit(parts, statistics, recipe)


def test_all_pictures_are_trained_on_and_the_last_epoch_is_kept(parts, statistics, recipe):
    (_, record), history = quick_fit(parts, statistics, recipe, train_on="all", early_stopping=None, epochs=2)
    assert record["training_pictures"] == 400
    assert (record["best_epoch"], record["val_accuracy"]) == (2, None)
    assert history.val_accuracy.isna().all()
    assert record["recipe"]["train_on"] == "all"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX always compiles with XLA")
@pytest.mark.parametrize(
    ("gpus", "deterministic", "expected"),
    [([], False, False), (["gpu:0"], False, "auto"), ([], True, False), (["gpu:0"], True, False)],
)
def test_xla_is_for_gpus_that_need_not_be_deterministic(monkeypatch, gpus, deterministic, expected):
    monkeypatch.setattr(device, "_gpus", lambda: gpus)
    from tensorflow.python.framework import config

    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: deterministic)
    assert device.jit_compile() == expected


def test_precision_is_the_recipes_and_is_recorded(parts, statistics, recipe):
    ends = {}
    for precision in ("float32", "bfloat16"):
        (network, record), _ = quick_fit(parts, statistics, recipe, precision=precision, epochs=1)
        assert record["precision"] == precision
        assert {layer.compute_dtype for layer in network.layers} == {"float32"}
        ends[precision] = network.get_weights()[0]
    assert not np.array_equal(*ends.values())


@pytest.mark.parametrize(
    ("flags", "gpus", "on_bfloat16_cpu", "expected"),
    [
        ({"avx2"}, [], "bfloat16", "float32"),
        ({"avx2", "avx512_bf16"}, [], "bfloat16", "bfloat16"),
        ({"amx_bf16"}, [], "float32", "float32"),
        ({"avx2"}, ["gpu:0"], "float32", "bfloat16"),
    ],
)
def test_precision_by_itself_follows_the_machine(recipe, monkeypatch, flags, gpus, on_bfloat16_cpu, expected):
    monkeypatch.setattr(device, "_processor_flags", lambda: flags)
    monkeypatch.setattr(device, "_gpus", lambda: gpus)
    assert device.choose_precision(recipe(precision="auto", bfloat16_cpu=on_bfloat16_cpu)) == expected
    assert device.choose_precision(recipe(precision="float32")) == "float32"


def test_log_says_what_it_is_computed_on_and_what_that_will_take(parts, statistics, recipe, caplog):
    caplog.set_level("INFO")
    quick_fit(parts, statistics, recipe, epochs=1)
    assert f"simple_cnn: on {device.hardware()}; {keras.backend.backend()}, " in caplog.text
    assert device.has_gpu() or "no GPU was found. The recipe is" in caplog.text


def test_recipes_that_differ_in_their_seed_have_one_hash(parts, statistics, recipe):
    hashes = [
        quick_fit(parts, statistics, recipe, epochs=1, examples=16, **changes)[0].record["recipe_hash"]
        for changes in ({"seed": 1}, {"seed": 2}, {"seed": 2, "shift": 1})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def cut_off(monkeypatch, epochs):
    """Have trainings end, as by Ctrl-C, when so many epochs have been saved."""
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
def test_training_that_was_cut_off_ends_as_if_it_had_not_been(
    parts, statistics, recipe, checkpoint, tmp_path, monkeypatch, changes
):
    changes = {**changes, "epochs": 6}
    (whole, record), history = quick_fit(parts, statistics, recipe, **changes)
    for epochs in (1, 3):
        with monkeypatch.context() as context:
            cut_off(context, epochs)
            with pytest.raises(KeyboardInterrupt):
                quick_fit(parts, statistics, recipe, checkpoint=checkpoint, **changes)
    (again, same_record), same_history = quick_fit(parts, statistics, recipe, checkpoint=checkpoint, **changes)
    exact = keras.distribution.list_devices()[0].startswith("cpu")
    pd.testing.assert_frame_equal(
        same_history.drop(columns=TIMED, errors="ignore"),
        history.drop(columns=TIMED, errors="ignore"),
        check_exact=exact,
    )
    assert same_record["best_epoch"] == record["best_epoch"]
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=0 if exact else 1e-3)


def test_training_that_other_code_began_is_not_continued(parts, statistics, recipe, checkpoint, monkeypatch):
    with monkeypatch.context() as context:
        cut_off(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(parts, statistics, recipe, epochs=2, checkpoint=checkpoint)
    state = Training.state
    monkeypatch.setattr(Training, "state", lambda model: state(model)[1:])
    with pytest.raises(InputError, match=r"was begun by other code.*Go back to commit .*or delete"):
        quick_fit(parts, statistics, recipe, epochs=2, checkpoint=checkpoint)


def test_finished_training_that_was_not_saved_is_there_at_once(parts, statistics, recipe, checkpoint):
    options = {"epochs": 2, "checkpoint": checkpoint}
    first, _ = quick_fit(parts, statistics, recipe, **options)
    second, _ = quick_fit(parts, statistics, recipe, **options)
    assert second.record == first.record  # seconds and all


def test_continued_training_keeps_its_precision(parts, statistics, recipe, checkpoint, monkeypatch):
    monkeypatch.setattr(device, "_processor_flags", lambda: {"avx512_bf16"})
    options = {"epochs": 2, "checkpoint": checkpoint, "precision": "auto", "bfloat16_cpu": "bfloat16"}
    with monkeypatch.context() as context:
        cut_off(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(parts, statistics, recipe, **options)
    monkeypatch.setattr(device, "_processor_flags", set)
    assert quick_fit(parts, statistics, recipe, **options)[0].record["precision"] == "bfloat16"


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
