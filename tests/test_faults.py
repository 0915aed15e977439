"""Trainings that are killed repeatedly end like uninterrupted ones."""

import json
import os
import random
import re
import signal
import subprocess
import time

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.datasets.drawn import DrawnBatchesDataset
from cifar10.errors import BUSY
from cifar10.pipelines.ingestion.nodes import read_batches
from tests.helpers import CLASS_NAMES, kill, launch, save_data

# They differ in what a step depends on: dropout, mixing and a schedule that depends on the history; accumulated
# gradients and momenta; two phases, of which the second stops early.
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

SHORT = {**RECIPES["batchnorm_cnn"], "epochs": 4, "examples": 128}
SEEDS = [1, 2]  # of the moments at which runs are killed


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder with everything that a training reads."""
    folder = tmp_path_factory.mktemp("prepared")
    train, test = read_batches(DrawnBatchesDataset(train=900, test=100, seed=0).load(), CLASS_NAMES)
    save_data(folder, train.take(slice(600)), train.take(slice(600, None)), test)
    return folder / "03_primary"


def arguments(root, name, recipe):
    """Return those of `kedro` that train by a recipe."""
    values = [f"data_root={root}", *(f"{name}.{option}={value}" for option, value in recipe.items())]
    return ["--env=demo", f"--pipelines=train_{name}", f"--params={','.join(values)}"]


def wait_for(process, sign):
    """Read the output up to a line that contains `sign`; return False if the process ends before."""
    return any(sign in line for line in process.stdout)


def kill_while_saving(process, root):
    """Kill the run as soon as a checkpoint is being written; return False if it ends before that is seen."""
    while process.poll() is None:
        for folder in root.glob("06_models/*_checkpoint/*"):
            if any(name.startswith(".unfinished-") and "-epoch_" in name for name in os.listdir(folder)):
                kill(process)
                return True
        time.sleep(0.0002)
    return False


def results(root, name):
    """Return history, record and weights that a finished run has saved, without its times."""
    model = max((root / f"06_models/{name}.keras").glob("*/*.keras"))  # two, if a run was killed after it had saved one
    history = pd.read_csv(max((root / f"06_models/{name}_history.csv").glob("*/*.csv")))
    record = json.loads(model.with_name("record.json").read_text())
    del record["training_seconds"], record["training_joules"]
    for epoch in record["history"]:
        del epoch["seconds"], epoch["joules"]
    for phase in record["phases"].values():
        del phase["seconds"]
    return history.drop(columns=["seconds", "joules"]), record, keras.saving.load_model(model).get_weights()


def interrupt(process, root, generator):
    """Kill the run at a random moment; return False if it ends before."""
    moment = generator.random()
    if moment < 0.3:
        return kill_while_saving(process, root)
    # During the preparation or soon after; or in a later epoch, or between two. Speeds differ, so wait for lines.
    signs, longest = (["training images"], 2.0) if moment < 0.5 else ([", epoch "] * generator.randint(1, 2), 0.3)
    if not all(wait_for(process, sign) for sign in signs):
        return False
    try:
        process.communicate(timeout=generator.uniform(0, longest))
    except subprocess.TimeoutExpired:
        kill(process)
        return True
    return False


def train_and_kill(prepared, root, name, recipe, kills, seed):
    """Train, killing the run up to `kills` times; return how often it was killed, and whether the last run resumed."""
    root.mkdir()
    (root / "03_primary").symlink_to(prepared)
    generator = random.Random(seed)
    killed = 0
    while killed < kills:
        process = launch("run", *arguments(root, name, recipe))
        if not interrupt(process, root, generator):
            process.communicate()
            assert process.returncode == 0
            return killed, killed > 0
        killed += 1
        if list(root.glob(f"06_models/{name}.keras/*/*.keras")) and not list(root.glob("06_models/*_checkpoint")):
            return killed, killed > 1  # everything was done: it was killed while it exited
    process = launch("run", *arguments(root, name, recipe))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return killed, "resuming after epoch" in output


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
    """Return a function that returns the results of the training by a recipe without interruption."""
    found = {}

    def train(name, recipe):
        if (key := str(recipe)) not in found:
            root = tmp_path_factory.mktemp("uninterrupted") / "data"
            train_and_kill(prepared, root, name, recipe, kills=0, seed=0)
            found[key] = results(root, name)
        return found[key]

    return train


def check(root, name, expected):
    history, record, weights = results(root, name)
    pd.testing.assert_frame_equal(history, expected[0], check_exact=True)
    assert record == expected[1]
    for one, other in zip(weights, expected[2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((root / "06_models").glob("*_checkpoint"))


def test_killed_training_ends_like_an_uninterrupted_one(prepared, uninterrupted, tmp_path):
    """The short form of `test_training_killed_repeatedly`."""
    name, root = "batchnorm_cnn", tmp_path / "data"
    killed, resumed = train_and_kill(prepared, root, name, SHORT, kills=1, seed=2)
    assert (killed, resumed) == (1, True)
    check(root, name, uninterrupted(name, SHORT))


def test_second_run_is_refused_and_ctrl_c_ends_the_first_in_one_message(prepared, tmp_path, kedro_run):
    root, name = tmp_path / "data", "batchnorm_cnn"
    root.mkdir()
    (root / "03_primary").symlink_to(prepared)
    endless = arguments(root, name, {**SHORT, "examples": 64, "epochs": 500, "early_stopping": 500})
    first = launch("run", *endless)
    assert wait_for(first, "epoch 1 of")
    second = kedro_run(*endless)
    assert "Error: batchnorm_cnn is being trained by another run, with the same recipe" in second.stderr
    assert second.exit_code == BUSY
    os.killpg(first.pid, signal.SIGINT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "All saved files are complete." in output
    assert re.search(rf"Error: {name} was interrupted after epoch \d+, from which the same command resumes", output)
    assert "Traceback" not in output + second.output
    assert list((root / "06_models").glob(f"{name}_checkpoint/*/epoch_*.npz"))
    assert not (root / f"06_models/{name}.keras").exists()


@pytest.fixture(scope="module")
def kills():
    """The number of kills of each training; all together are killed at least twenty times."""
    kills = []
    yield kills
    assert len(kills) < len(SEEDS) * len(RECIPES) or sum(kills) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RECIPES)
def test_training_killed_repeatedly(prepared, uninterrupted, tmp_path, builder_options, name, seed, kills, capsys):
    root, recipe = tmp_path / "data", {**RECIPES[name], **builder_options(name)}
    killed, resumed = train_and_kill(prepared, root, name, recipe, kills=4, seed=seed)
    kills.append(killed)
    assert resumed
    with capsys.disabled():
        print(f"\n{name}, seed {seed}: killed {killed} times; the last run resumed: {resumed}")
    check(root, name, uninterrupted(name, recipe))
