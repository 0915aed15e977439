"""Trainings that are killed, again and again, and end as if they had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest

from tests.helpers import PROJECT, run

# What a step depends on differs: dropout, mixing and a schedule that looks back; accumulated gradients and their
# momenta; two phases, of which the second stops early.
RECIPES = {
    "batchnorm_cnn": {
        "epochs": 10, "examples": 512, "batch_size": 32, "cutmix": 1.0, "shift": 2, "plateau_patience": 1,
        "early_stopping": 6, "optimizer": "adamw", "weight_decay": 0.01,
    },
    "airbench94": {"epochs": 8, "examples": 260, "batch_size": 20, "accumulate": 4, "cutout": 6},
    "mobilenetv2_imagenet": {
        "head_epochs": 3, "epochs": 5, "examples": 128, "batch_size": 32, "feature_copies": 2, "early_stopping": 2,
        "flip": "alternating",
    },
}  # fmt: skip

SEEDS = [1, 2]  # of the moments


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with all that a training needs."""
    folder = tmp_path_factory.mktemp("prepared")
    run(folder, "ingestion", "preprocessing")
    return folder / "03_primary"


def start(root, name, builder_options):
    """`kedro run --pipelines=train_NAME`, as a process of its own."""
    recipe = {**RECIPES[name], **builder_options(name)}
    values = [f"{name}.{option}={value}" for option, value in recipe.items()]
    command = [sys.executable, "-m", "kedro", "run", "--env=demo", f"--pipelines=train_{name}"]
    return subprocess.Popen(
        [*command, f"--params={','.join([f'data_root={root}', *values])}"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(process, sign):
    """Read on until a line has the sign in it; False where the process ends before."""
    return any(sign in line for line in process.stdout)


def kill_in_a_save(process, root):
    """As soon as a bundle is being written; False if the run ended without that having been seen."""
    while process.poll() is None:
        for folder in root.glob("06_models/*_checkpoint/*"):
            if any(name.startswith(".unfinished-") and "-epoch_" in name for name in os.listdir(folder)):
                kill(process)
                return True
        time.sleep(0.0002)
    return False


def ended(root, name):
    """What a finished run has left: history, record and weights."""
    model = max((root / f"06_models/{name}.keras").glob("*/*.keras"))  # two, if it was killed after it had saved one
    history = pd.read_csv(max((root / f"06_models/{name}_history.csv").glob("*/*.csv")))
    record = json.loads(model.with_name("record.json").read_text())
    for timed in (record, *record["history"], *record["phases"].values()):
        timed.pop("seconds")
        timed.pop("joules", None)
    return (
        history.drop(columns=["seconds", "joules"], errors="ignore"),
        record,
        keras.saving.load_model(model).get_weights(),
    )


def interrupt(process, root, generator):
    """Kill the run at a moment drawn at random; False if it ended before."""
    moment = generator.random()
    if moment < 0.3:
        return kill_in_a_save(process, root)
    # While it gets ready or soon after; or in a later epoch, or between two: by lines, for some machines are faster.
    signs, most = (["training pictures"], 2.0) if moment < 0.5 else ([", epoch "] * generator.randint(1, 2), 0.3)
    if not all(wait_for(process, sign) for sign in signs):
        return False
    try:
        process.communicate(timeout=generator.uniform(0, most))
    except subprocess.TimeoutExpired:
        kill(process)
        return True
    return False


def disturb(prepared, root, name, builder_options, kills, seed):
    """Train, killed so many times or until the training is done, and say how often it was, and whether it continued."""
    root.mkdir()
    (root / "03_primary").symlink_to(prepared)
    generator = random.Random(seed)
    done = 0
    while done < kills:
        process = start(root, name, builder_options)
        if not interrupt(process, root, generator):
            process.communicate()
            assert process.returncode == 0
            return done, done > 0
        done += 1
        if list(root.glob(f"06_models/{name}.keras/*/*.keras")) and not list(root.glob("06_models/*_checkpoint")):
            return done, done > 1  # all was done: it died on its way out
    process = start(root, name, builder_options)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return done, "continues after epoch" in output


@pytest.fixture(scope="module")
def undisturbed(prepared, tmp_path_factory, builder_options):
    """Give how the training of that name ends when it is left alone."""
    ends = {}

    def train(name):
        if name not in ends:
            root = tmp_path_factory.mktemp("undisturbed") / "data"
            disturb(prepared, root, name, builder_options, kills=0, seed=0)
            ends[name] = ended(root, name)
        return ends[name]

    return train


def check(root, name, expected):
    history, record, weights = ended(root, name)
    pd.testing.assert_frame_equal(history, expected[0], check_exact=True)
    assert record == expected[1]
    for one, other in zip(weights, expected[2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((root / "06_models").glob("*_checkpoint"))


def test_a_killed_training_ends_as_if_it_had_not_been(prepared, undisturbed, tmp_path, builder_options):
    """The short form of the next."""
    name, root = "batchnorm_cnn", tmp_path / "data"
    done, continued = disturb(prepared, root, name, builder_options, kills=2, seed=3)
    assert (done, continued) == (2, True)
    check(root, name, undisturbed(name))


def test_interrupted_and_started_twice(prepared, tmp_path, builder_options):
    """While one run trains, the same command is refused; Ctrl-C ends the first with what to do next."""
    root, name = tmp_path / "data", "batchnorm_cnn"
    root.mkdir()
    (root / "03_primary").symlink_to(prepared)
    first = start(root, name, lambda _: {"epochs": 500, "early_stopping": 500})
    assert wait_for(first, "epoch 1 of")
    second, _ = start(root, name, lambda _: {"epochs": 500, "early_stopping": 500}).communicate()
    assert "Error: batchnorm_cnn is being trained by another run, with the same recipe" in second
    os.killpg(first.pid, signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "Error: Interrupted. What was saved is whole" in output
    assert "Traceback" not in output + second
    assert list((root / "06_models").glob(f"{name}_checkpoint/*/epoch_*.npz"))
    assert not (root / f"06_models/{name}.keras").exists()


@pytest.fixture(scope="module")
def kills():
    """Of each run; all runs together are killed at least twenty times."""
    kills = []
    yield kills
    assert len(kills) < len(SEEDS) * len(RECIPES) or sum(kills) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RECIPES)
def test_training_killed_again_and_again(prepared, undisturbed, tmp_path, builder_options, name, seed, kills, capsys):
    root = tmp_path / "data"
    done, continued = disturb(prepared, root, name, builder_options, kills=4, seed=seed)
    kills.append(done)
    assert continued
    with capsys.disabled():
        print(f"\n{name}, seed {seed}: killed {done} times; the last run continued: {continued}")
    check(root, name, undisturbed(name))
