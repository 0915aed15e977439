"""`kedro farm` as its users run it: a worker dies, and the trainings end as if it had not."""

import os
import re
import signal
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.datasets.model import Models
from tests.helpers import kedro, launch, run

pytest.importorskip("distributed")

PARAMS = "batchnorm_cnn.examples=640,batchnorm_cnn.batch_size=32,batchnorm_cnn.epochs=6"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    run(folder, "ingestion", "preprocessing")
    return folder / "03_primary"


def options(root, prepared, *params):
    """Return the options that both commands take; the folder of the data is made."""
    if not root.exists():
        root.mkdir()
        (root / "03_primary").symlink_to(prepared)
    return [
        "--env=demo",
        "--pipelines=train_batchnorm_cnn",
        f"--params={','.join([f'data_root={root}', PARAMS, *params])}",
    ]


def models(root):
    """Return the history without times, and the weights, by seed."""
    found = Models(root / "06_models")
    trained = [found.load("batchnorm_cnn", version) for version in found.versions("batchnorm_cnn")]
    return {
        each.record.seed: (
            pd.DataFrame(each.record.history).drop(columns=["seconds", "joules"]),
            keras.saving.load_model(each.path).get_weights(),
        )
        for each in trained
    }


def worker_of_a_training_in_an_epoch(root):
    """Wait until a training is in its third epoch, and return the process that has started it."""
    while True:
        for log in root.glob("09_logs/*/*.log"):
            if "epoch 2 of" in log.read_text():
                seed = re.search(r"batchnorm_cnn.seed=\d", log.read_text())[0]
                return next(parent for parent, command in processes() if seed in command and "kedro run" in command)
        time.sleep(0.02)


def processes():
    """Yield the parent and the command of each process."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            yield int((folder / "stat").read_text().rpartition(")")[2].split()[1]), command
        except OSError:  # it has ended
            continue


@pytest.mark.slow
def test_four_trainings_on_two_workers_one_of_which_is_killed(prepared, tmp_path):
    farmed, alone = tmp_path / "farmed", tmp_path / "alone"
    cores = len(os.sched_getaffinity(0)) // 2 or 1
    arguments = ["farm", "--seeds=0..3", "--workers=2", *options(farmed, prepared)]
    process = launch(*arguments)
    os.kill(worker_of_a_training_in_an_epoch(farmed), signal.SIGKILL)
    output, _ = process.communicate()
    print(output)
    assert process.returncode == 0, output
    assert "4 tasks: 4 trained\n" in output
    logs = [log.read_text() for log in farmed.glob("09_logs/*/*.log")]
    assert len(logs) == 4
    assert any("resuming after epoch" in log for log in logs)
    assert "4 tasks: 4 trained before\n" in kedro(*arguments).stdout

    for seed in range(4):
        command = options(alone, prepared, f"batchnorm_cnn.seed={seed}")
        done = kedro("run", *command, TF_NUM_INTRAOP_THREADS=str(cores))
        assert done.returncode == 0, done.stdout + done.stderr
    together, separately = models(farmed), models(alone)
    assert sorted(together) == sorted(separately) == [0, 1, 2, 3]
    for seed, (history, weights) in together.items():
        pd.testing.assert_frame_equal(history, separately[seed][0])
        assert all(map(np.array_equal, weights, separately[seed][1]))
