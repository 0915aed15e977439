"""Trainings on two devices, and in two processes, give what one device gives, within rounding."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pandas as pd
import pytest

from cifar10.keras_settings import ADDRESSES, PROCESS, PROCESSES
from tests.helpers import PROJECT, kedro, kill, launch

pytestmark = pytest.mark.jax

VALUES = ["loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"]
QUICK_COMPILER = "--xla_backend_optimization_level=0"
TRAIN = {"epochs": 3, "examples": 70, "batch_size": 35, "flip": "none", "shift": 0, "compute_dtype": "float32"}


@pytest.fixture(scope="module", autouse=True)
def _jax():
    pytest.importorskip("jax", reason='needs the extra: pip install -e ".[jax]"')


def check_close(history, expected):
    pd.testing.assert_frame_equal(history[VALUES], expected[VALUES], check_dtype=False, rtol=1e-4)


def test_two_devices_give_what_one_gives():
    """The batches are odd, and the training on both is interrupted and resumed."""
    flags = f"--xla_force_host_platform_device_count=2 {QUICK_COMPILER}"
    result = subprocess.run(
        [sys.executable, "-m", "tests.training.two_devices"],
        cwd=PROJECT,
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    one, both = (json.loads(line) for line in result.stdout.splitlines()[-2:])
    assert (one["devices"], one["shares"]) == (1, [8])
    assert (both["devices"], both["shares"]) == (2, [4, 4])
    check_close(pd.DataFrame(both["history"]), pd.DataFrame(one["history"]))
    assert both["weights"] == pytest.approx(one["weights"], abs=1e-4)
    assert both["predictions"] == pytest.approx(one["predictions"], abs=1e-4)


def arguments(folder, **more):
    values = {"data_root": folder, **{f"simple_cnn.{name}": value for name, value in TRAIN.items()}, **more}
    options = ",".join(f"{name}={value}" for name, value in values.items())
    return "run", "--env=demo", "--pipelines=train_simple_cnn", f"--params={options}"


def start(folder):
    """Start two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    variables = {"KERAS_BACKEND": "jax", "XLA_FLAGS": QUICK_COMPILER, ADDRESSES: address, PROCESSES: "2"}
    return [launch(*arguments(folder, devices="all"), **variables, **{PROCESS: str(number)}) for number in range(2)]


def history(folder):
    (path,) = folder.glob("06_models/simple_cnn_history.csv/*/*.csv")
    return pd.read_csv(path)


def test_two_processes_give_what_one_gives_although_one_is_lost(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    made = kedro("run", "--env=demo", "--pipelines=ingestion,preprocessing", f"--params=data_root={alone}")
    assert made.returncode == 0, made.stderr
    shutil.copytree(alone, together)
    undisturbed = kedro(*arguments(alone), KERAS_BACKEND="jax", XLA_FLAGS=QUICK_COMPILER)
    assert undisturbed.returncode == 0, undisturbed.stdout + undisturbed.stderr

    first, second = start(together)
    assert any("epoch 1 of 3" in line for line in first.stdout)
    kill(second)
    output, _ = first.communicate()
    assert first.returncode == 1
    assert "Error: Another process of this training has ended, so this one ends, too" in output
    assert "Traceback" not in output
    assert not list(together.glob("06_models/*.keras"))

    processes = start(together)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "simple_cnn: resuming after epoch" in outputs[0]
    assert "2 devices" in outputs[0]
    assert outputs[1].splitlines()[-1].endswith("Training along with the first process, which locks, saves and logs")
    check_close(history(together), history(alone))
