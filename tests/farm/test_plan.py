"""What a farm runs, and what it leaves out because it has been trained."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from cifar10.errors import InputError
from cifar10.farm.plan import Training, parse_seeds, plan
from cifar10.training.checkpoint import IDENTITY, IN_RECORD, Checkpoints
from cifar10.training.identity import engine_version
from cifar10.training.recipe import RECIPES
from tests.helpers import CLASS_NAMES, make_record

RECIPE = {"epochs": 3, "batch_size": 64, "optimizer": "adam", "learning_rate": 0.001, "schedule": "constant", "seed": 4}


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("7", [7]), ("0..3", [0, 1, 2, 3]), ("5,0..2", [5, 0, 1, 2]), ("0..2, 1..3", [0, 1, 2, 3]), ("4..4", [4])],
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "3..1", "0-9", "-1", "1,,2", "a", "0..", "4294967296"])
def test_other_seeds_are_refused(text):
    with pytest.raises(InputError, match=r"--seeds=.* is not valid: give numbers"):
        parse_seeds(text)


def checkpoints(models, name):
    return Checkpoints(models / f"{name}_checkpoint")


@pytest.fixture
def planned(tmp_path, statistics):
    """Return a function that plans, for a project with two architectures of one recipe."""

    def make(pipelines, seeds=None, workers=1, options=(), params="", given=None, prepared=True):
        catalog = SimpleNamespace(
            load={
                "statistics": statistics if prepared else None,
                **{f"{name}.checkpoint": checkpoints(tmp_path / "06_models", name) for name in ("vgg16", "resnet50")},
            }.get,
            get={"models": SimpleNamespace(path=tmp_path / "06_models")}.get,
        )
        context = SimpleNamespace(
            catalog=catalog,
            params={"class_names": CLASS_NAMES, "vgg16": RECIPE, "resnet50": RECIPE},
            config_loader=SimpleNamespace(runtime_params=given or {}),
        )
        return plan(context, pipelines, seeds, workers, list(options), params, "kedro run --pipelines=ingestion")

    return make


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        (
            {"pipelines": ["train_vgg16", "train_resnet50"], "seeds": [0, 1]},
            {
                f"{name} seed {seed}": f"run --pipelines=train_{name} --params={name}.seed={seed}"
                for name in ("vgg16", "resnet50")
                for seed in (0, 1)
            },
        ),
        (
            {"pipelines": ["train_vgg16"], "options": ["--env", "demo"], "params": "data_root=a b"},
            {"vgg16 seed 4": "run --env demo --pipelines=train_vgg16 '--params=data_root=a b'"},
        ),
        (
            {"pipelines": ["train_vgg16"] * 2, "seeds": [9], "params": "vgg16.epochs=2"},
            {"vgg16 seed 9": "run --pipelines=train_vgg16 --params=vgg16.epochs=2,vgg16.seed=9"},
        ),
        (
            {"pipelines": ["train_vgg16", "train_resnet50"], "params": "data_root=a,vgg16.epochs=2"},
            {
                "vgg16 seed 4": "run --pipelines=train_vgg16 --params=data_root=a,vgg16.epochs=2",
                "resnet50 seed 4": "run --pipelines=train_resnet50 --params=data_root=a",
            },
        ),
        (
            {"pipelines": ["tune_vgg16"], "workers": 2},
            {f"tune_vgg16 worker {number}": "run --pipelines=tune_vgg16" for number in (1, 2)},
        ),
    ],
)
def test_a_task_is_a_command(planned, options, commands):
    tasks = planned(**options)
    assert {task.name: shlex.join(task.arguments) for task in tasks} == commands
    assert len({task.log for task in tasks}) == len(tasks)


def test_tasks_have_absolute_paths(planned, tmp_path):
    (task,) = planned(["train_vgg16"])
    assert task.log.parent.parent == tmp_path / "09_logs"
    assert task.folder == Path.cwd()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pipelines": ["evaluation"]}, r"but not evaluation, which is for one machine: kedro run --pipelines=evalu"),
        ({"pipelines": ["tune_vgg16"], "seeds": [0]}, "tune_vgg16 has seeds of its own"),
        (
            {"pipelines": ["train_vgg16"], "seeds": [0], "given": {"vgg16": {"seed": 3}}},
            r"--seeds and --params=vgg16.seed are both given",
        ),
        (
            {"pipelines": ["train_vgg16"], "prepared": False},
            "prepared first: kedro run --pipelines=ingestion",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(planned, options, message):
    with pytest.raises(InputError, match=message):
        planned(**options)


def save(models, version="2026-01-01T00.00.00.000Z", **changes):
    """Save a record as the training of `planned` with seed 4 would, with changes."""
    recipe = RECIPES["vgg16"].model_validate({**RECIPE, **changes.pop("recipe", {})})
    values = {"recipe": recipe.model_dump(), "recipe_hash": recipe.hash, "engine_version": engine_version("vgg16")}
    record = make_record(**{**values, "versions": {"commit": None, "tensorflow": "2"}, **changes})
    folder = models / "vgg16.keras" / version
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(record.to_json())
    (folder / "vgg16.keras").touch()
    return record


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, True),
        ({"recipe": {"seed": 5}}, False),
        ({"recipe": {"epochs": 4}}, False),
        ({"data_version": "another"}, False),
        ({"class_names": CLASS_NAMES[::-1]}, False),
        ({"engine_version": engine_version("vgg16") + 1}, False),
    ],
)
def test_only_the_same_training_counts(planned, tmp_path, changes, trained):
    save(tmp_path / "06_models", **changes)
    (task,) = planned(["train_vgg16"])
    assert bool(task.training.record()) == trained


def test_the_newest_model_of_the_same_training_counts(planned, tmp_path):
    for second, accuracy in enumerate((0.7, 0.8)):
        save(tmp_path / "06_models", f"2026-01-01T00.00.0{second}.000Z", val_accuracy=accuracy)
    save(tmp_path / "06_models", "2026-01-01T00.00.09.000Z", recipe={"seed": 0})
    (task,) = planned(["train_vgg16"])
    assert task.training.record().val_accuracy == 0.8


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        ({}, False),
        ({"fingerprint": "another"}, True),
        ({"recipe": {"seed": 5}}, True),
        ({"backend": "jax"}, True),
    ],
)
def test_a_run_that_was_killed_after_it_had_saved_the_model_is_not_complete(tmp_path, changes, trained):
    record = save(tmp_path)
    recipe = RECIPES["vgg16"].model_validate({**RECIPE, **changes.pop("recipe", {})})
    identity = {name: getattr(record, name) for name in IN_RECORD}
    identity |= {"recipe": recipe.model_dump(exclude_defaults=True), "backend": "tensorflow"} | changes
    folder = tmp_path / "vgg16_checkpoint/0123"
    folder.mkdir(parents=True)
    (folder / IDENTITY).write_text(json.dumps(identity))
    training = Training(tmp_path, checkpoints(tmp_path, "vgg16").folder, "vgg16", {"seed": 4})
    for epoch in (1, 2):
        assert training.record()  # what has fewer epochs is another run of the same, which may have been a mistake
        (folder / f"epoch_0000{epoch}.npz").touch()
    (folder / "epoch_00003.npz").touch()
    assert bool(training.record()) == trained
    assert training.newest()  # that of a run that has ended without an error, whoever else holds its checkpoint
    (folder / IDENTITY).write_text("[]")
    assert training.record()
