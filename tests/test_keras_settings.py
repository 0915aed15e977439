"""What the user's settings of Keras decide: the backend, and nothing else."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from cifar10.errors import InputError
from cifar10.keras_settings import ADDRESSES, PROCESS, PROCESSES, check_backend, check_devices, choose_backend
from tests.helpers import kedro

SHOW = """
from keras import config
print(config.backend(), config.image_data_format(), config.floatx(), config.epsilon(), config.max_epochs(),
      config.max_steps_per_epoch(), config.is_nnx_enabled())
"""
OURS = "tensorflow channels_last float32 1e-07 None None False\n"


def python(tmp_path, script, settings, **environment):
    """Run a script with these settings in keras.json."""
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**variables, "KERAS_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("imports", "settings"),
    [
        (  # as a library does, to look for it
            "import cifar10, importlib.util; importlib.util.find_spec('keras')",
            {"backend": "torch", "nnx_enabled": True},
        ),
        ("import keras, cifar10", {}),
    ],
)
def test_results_do_not_depend_on_the_settings_in_the_home_folder(tmp_path, imports, settings):
    others = {"image_data_format": "channels_first", "floatx": "float16", "epsilon": 0.1}
    limits = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    result = python(tmp_path, imports + SHOW, {**others, **settings}, **limits)
    assert result.stdout == OURS, result.stderr


def test_settings_that_keras_refuses_are_reported(tmp_path):
    script = "import cifar10\ntry:\n    import keras\nexcept cifar10.errors.InputError as error:\n    print(error)"
    result = python(tmp_path, script, {"floatx": "float128"})
    assert result.stdout.startswith("Keras cannot be imported: Invalid `floatx` configuration."), result.stderr
    assert "Correct ~/.keras/keras.json" in result.stdout


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("tensorflow", None),
        ("", None),
        (None, None),
        ("torch", "KERAS_BACKEND is torch, on which this project does not run; valid names: jax, tensorflow. Set the "),
        ("theano", "KERAS_BACKEND is theano, on which"),
        ("Tensorflow", "did you mean tensorflow?"),
        ("jax", r"JAX is not installed: pip install -c constraints.txt -e '\.\[jax\]', or unset"),
    ],
)
def test_backends_are_checked_without_keras(monkeypatch, backend, message):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # so that it is restored
    if backend is None:
        monkeypatch.delenv("KERAS_BACKEND")
    else:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    choose_backend()
    if message:
        with pytest.raises(InputError, match=message):
            check_backend()
    else:
        check_backend()
        assert os.environ["KERAS_BACKEND"] == "tensorflow"


@pytest.mark.parametrize(
    ("devices", "backend", "variables", "options", "message"),
    [
        ("one", "tensorflow", "", {}, None),
        ("all", "jax", "", {}, None),
        ("all", "tensorflow", "", {}, "devices=all needs the JAX backend: set KERAS_BACKEND=jax"),
        ("all", "jax", "host:1 2 1", {}, None),
        ("all", "jax", "host:1 2 2", {}, f"{PROCESS}=2 does not describe one of several"),
        ("all", "jax", "host:1 two 0", {}, f"{PROCESSES}=two {PROCESS}=0 does not describe one of several"),
        ("all", "jax", "host:1", {}, f"{ADDRESSES}=host:1 {PROCESSES}= {PROCESS}= does not"),
        ("all", "jax", "host 2 0", {}, f"{ADDRESSES}=host "),
        ("one", "tensorflow", "host:1 2 0", {}, "is set, but devices is one: add --params=devices=all"),
        ("all", "jax", "host:1 2 0", {"only_trains": False}, "several processes can only train"),
        ("all", "jax", "host:1 2 0", {"only_missing_outputs": True}, "several processes can only train"),
    ],
)
def test_devices_and_processes_are_checked_without_keras(monkeypatch, devices, backend, variables, options, message):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    for name, value in zip((ADDRESSES, PROCESSES, PROCESS), variables.split(), strict=False):
        monkeypatch.setenv(name, value)
    options = {"only_trains": True, "only_missing_outputs": False, **options}
    if message:
        with pytest.raises(InputError, match=message):
            check_devices(devices, **options)
    else:
        check_devices(devices, **options)


def test_a_run_on_another_backend_ends_before_any_work(tmp_path):
    result = kedro("run", "--env=demo", f"--params=data_root={tmp_path}", KERAS_BACKEND="theano")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: KERAS_BACKEND is theano")
    assert "Traceback" not in result.stdout + result.stderr
    assert not list(tmp_path.iterdir())
