"""What `kedro` says of this project, and what Bash and Zsh complete, as click's own script asks for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI
from kedro.framework.project import pipelines

from cifar10 import cli
from cifar10.architectures import ARCHITECTURES
from cifar10.pipeline_registry import LAPTOP_RUN
from tests.helpers import PROJECT, bootstrap

VGG = [name for name in ARCHITECTURES if name.startswith("vgg")]


@pytest.fixture(scope="module", autouse=True)
def project():
    bootstrap()


def test_kedro_shows_how_to_start():
    text = CliRunner().invoke(KedroCLI(PROJECT), ["--help"]).output
    assert "\n  kedro run --env=demo " in text
    assert re.findall(r"^  run +(.*)", text, re.MULTILINE) == [cli.run.short_help]  # and not Kedro's own, too
    assert all((PROJECT / path).exists() for path in re.findall(r"conf/\w[\w/.]+\w", text))


def test_the_help_of_run_names_every_pipeline_and_the_recipes():
    text = CliRunner().invoke(cli.run, ["--help"]).output
    stages = {name for name in pipelines if not name.startswith(("_", "train_", "tune_"))}
    assert stages | {"train_NAME", "tune_NAME"} <= set(re.findall(r"\w+", text))
    assert all(f"train_{name}" in text for name in LAPTOP_RUN)
    assert "conf/base/parameters_architectures.yml" in text
    assert re.findall(r"^  (-.*?)  ", text, re.MULTILINE)[:3] == [
        "--pipelines NAME,...",
        "--params NAME=VALUE,...",
        "-e, --env NAME",
    ]


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("predict", "kedro run --pipelines=predict\n"),
        ("train_vgg16", "kedro run --pipelines=train_vgg16\n"),
        ("tune", "kedro run --pipelines=tune_NAME\n"),
        ("registry", "Commands:"),
        ("modles", "No such command 'modles'"),
    ],
)
def test_the_name_of_a_pipeline_is_no_command(name, advice):
    result = CliRunner().invoke(KedroCLI(PROJECT), [name])
    assert advice in result.output
    assert ("Did you mean" in result.output) == (name == "modles")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg16"], "vgg16 belongs to no option. Name what to run with commas and without spaces, as in --pipelines="),
        (["--pipelines", "train_vgg16,", "evaluation"], "evaluation belongs to no option."),
        (["--epochs=3"], "No such option '--epochs'. For one run, set it by --params=NAME.epochs=VALUE; NAME is the"),
        (
            ["--weight-decay", "0"],
            "No such option '--weight-decay'. For one run, set it by --params=NAME.weight_decay=",
        ),
        (["--epoch=3"], "No such option '--epoch'."),
        (
            ["--params=vgg16.epochs=2,", "vgg16.seed=1"],
            "vgg16.seed=1 belongs to no option. Separate parameters",
        ),
        (["--params=vgg16.epochs", "=", "2"], "Write no spaces around the = of an option or a parameter."),
        (
            ["--params=vgg16.learning_rate=0,001"],
            "Invalid format of `params` option: Item `001` must contain a key and a value separated by `=`. A comma "
            "begins the next parameter: write decimals with a point, and several values with spaces, as in",
        ),
        (
            ["--params=vgg16.epochs:3"],
            "Invalid format of `params` option: Item `vgg16.epochs:3` must contain a key and a value separated by "
            "`=`.\n",
        ),
    ],
)
def test_what_is_typed_in_place_of_an_option(arguments, message):
    result = CliRunner().invoke(cli.run, arguments)
    assert result.exit_code == 2
    assert f"Error: {message}" in result.output


@pytest.mark.parametrize(
    ("raised", "code"), [(cli._Busy("is being trained"), 75), (click.ClickException("wrong"), 1), (ValueError(), 1)]
)
def test_one_of_several_processes_ends_at_once_with_the_code_of_its_error(monkeypatch, raised, code):
    def fail():
        raise raised

    codes = []

    def end(code):
        codes.append(code)
        sys.exit(code)

    monkeypatch.setattr(cli, "several_processes", lambda: True)
    monkeypatch.setattr(cli.os, "_exit", end)
    CliRunner().invoke(cli._Command("run", callback=fail))
    assert codes == [code]


@pytest.mark.parametrize(("raised", "code"), [(click.Abort(), 1), (click.exceptions.Exit(3), 3)])
def test_one_of_several_processes_may_end_without_an_error(monkeypatch, raised, code):
    def leave():
        raise raised

    monkeypatch.setattr(cli, "several_processes", lambda: True)
    monkeypatch.setattr(cli.os, "_exit", lambda code: pytest.fail("ended at once"))
    result = CliRunner().invoke(cli._Command("prune", callback=leave))
    assert (result.exit_code, "Traceback" in result.output) == (code, False)


def test_the_farm_takes_a_file_of_options_as_run_does(in_project, tmp_path):
    pytest.importorskip("distributed")
    options = tmp_path / "run.yml"
    options.write_text("run:\n  env: nowhere\n")
    result = CliRunner().invoke(cli.farm, ["--pipelines=train_vgg16", f"--config={options}"])
    assert "There is no environment nowhere" in result.output


def complete(shell, line, monkeypatch):
    """Return the completions of the last of these words, between which there is a space each."""
    words = line.split(" ")
    monkeypatch.setenv("COMP_WORDS", "\n".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    lines = get_completion_class(shell)(cli.cli, {}, "kedro", "_KEDRO_COMPLETE").complete().splitlines()
    return [each.removeprefix("plain,") for each in lines] if shell == "bash" else lines[1::3]


@pytest.mark.parametrize(
    ("line", "expected"),
    [  # Bash makes a word of each = and :
        ("kedro run --pipelines = train_vgg", [f"train_{name}" for name in VGG]),
        ("kedro run --pipelines train_vgg16_", ["train_vgg16_imagenet"]),
        ("kedro run --pipelines = ingestion,prep", ["ingestion,preprocessing"]),
        ("kedro run --pipelines = robustness,ro", []),
        ("kedro run --env = de", ["demo"]),
        ("kedro run -e publ", ["published"]),
        ("kedro run --env = demo --pipelines = expo", ["export"]),
        ("kedro run --conf-source = tests --env = serv", ["serving"]),
        ("kedro run --par", ["--params"]),
        ("kedro run vgg16 --env = demo --env = de", ["demo"]),
        ("kedro farm --pipelines = train_simple_cnn,tune_si", ["train_simple_cnn,tune_simple_cnn"]),
        ("kedro farm --pipelines = rep", []),
        ("kedro models vgg", VGG),
        ("kedro models --env =", ["base", "demo", "local", "long", "notebook", "published", "s3"]),
        ("kedro fa", ["farm"]),
    ],
)
def test_bash(line, expected, monkeypatch):
    assert complete("bash", line, monkeypatch) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [  # Zsh replaces the whole word
        ("kedro run --pipelines=ingestion,prep", ["--pipelines=ingestion,preprocessing"]),
        ("kedro run --pipelines prep", ["preprocessing"]),
        ("kedro run --env=de", ["--env=demo"]),
        ("kedro models vgg", VGG),
    ],
)
def test_zsh(line, expected, monkeypatch):
    assert complete("zsh", line, monkeypatch) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="a path of Windows is no word of Bash")
def test_versions_are_completed_with_the_newest_first(tmp_path, monkeypatch):
    for version in ("2026-01-01T00.00.00.000Z", "2026-02-01T00.00.00.000Z"):
        network = tmp_path / "06_models/vgg16.keras" / version / "vgg16.keras"
        network.parent.mkdir(parents=True)
        network.touch()
    command = f"kedro compare --params = data_root = {tmp_path} "
    both = ["2026-02-01T00.00.00.000Z", "2026-01-01T00.00.00.000Z"]
    assert complete("bash", f"{command}vg", monkeypatch) == ["vgg16", *(f"vgg16:{version}" for version in both)]
    assert complete("bash", f"{command}vgg16 :", monkeypatch) == both


@pytest.mark.skipif(not shutil.which("bash") or sys.platform == "win32", reason="there is no bash")
def test_the_script_of_click_works_and_loads_no_keras():
    script = (
        'eval "$(_KEDRO_COMPLETE=bash_source kedro)"; COMP_WORDS=(kedro run --pipelines = "eval"); COMP_CWORD=4; '
        'PYTHONPROFILEIMPORTTIME=1 _kedro_completion kedro; echo "${COMPREPLY[@]}"'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-c", script],
        cwd=PROJECT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "evaluation\n"
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "cifar10.completion" in loaded
    assert not loaded & {"keras", "tensorflow"}
