"""The project as an installed package: `python -m cifar10`, and the commands that pyproject.toml declares."""

import importlib
import os
import subprocess
import sys
import tomllib

import click
import pytest
from click.testing import CliRunner

from cifar10 import cli
from tests.helpers import PROJECT

SCRIPTS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def _package(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cifar10", *arguments],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_lists_the_options_of_kedro_run():
    result = _package("--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: python -m cifar10 [OPTIONS]")
    assert all(option in result.stdout for option in ("--pipelines", "--env", "--params", "--conf-source"))


def test_pipeline_runs(tmp_path):
    result = _package("--env=demo", "--pipelines=ingestion", f"--params=data_root={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "02_intermediate").iterdir()} == {
        "train_examples.npz",
        "test_examples.npz",
    }


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--pipelines=nonsense", "Error: There is no pipeline nonsense; "),
        ("--pipelines=trian_vgg16", "Error: There is no pipeline trian_vgg16; did you mean train_vgg16"),
    ],
)
def test_mistake_is_one_message(argument, message):
    result = _package(argument)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(message)
    assert "Traceback" not in result.stdout


def test_a_user_without_a_name_and_a_home_can_import_keras(tmp_path):
    """As in a container whose user is a bare number; IPython, which Keras imports where it is installed, would fail."""
    script = """
import pwd
def unknown(user):
    raise KeyError(user)
pwd.getpwuid = pwd.getpwnam = unknown
import cifar10, keras
print("imported")
"""
    known = {"KERAS_HOME": str(tmp_path)} | {
        name: value for name, value in os.environ.items() if name not in ("HOME", "LOGNAME", "USER")
    }
    result = subprocess.run([sys.executable, "-c", script], env=known, capture_output=True, text=True, check=False)
    assert result.stdout == "imported\n", result.stderr


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_everything_can_be_shown_on_any_terminal(encoding):
    command = cli._Command("show", callback=lambda: click.echo("Käfer ≈ \udcff"))
    result = CliRunner(charset=encoding).invoke(command)
    assert result.exit_code == 0
    assert result.stdout.startswith("K")


@pytest.mark.parametrize(("name", "target"), SCRIPTS.items())
def test_command_exists(name, target):
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_package_has_its_command():
    assert SCRIPTS["cifar10"] == "cifar10.__main__:main"
