"""Trials are ordinary trainings: killed ones end as if they had not been."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pytest

from cifar10.contracts import Trials
from cifar10.errors import InputError
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.recipe import RECIPES
from cifar10.tuning import worker
from cifar10.tuning.study import Study
from cifar10.tuning.worker import Data, run, work
from tests.helpers import PROJECT, kedro
from tests.training.interruptions import interrupt_after
from tests.tuning.dying import Dying

optuna = pytest.importorskip("optuna")

RECIPE = {"epochs": 4, "batch_size": 16, "learning_rate": 0.003}
SHIFT = {"shift": {"low": 0, "high": 4}}


def accuracies_of(data, recipe, folder):
    """Return the validation accuracies of an ordinary training."""
    from cifar10.training.fit import fit

    _, history = fit("simple_cnn", *data, RECIPES["simple_cnn"].model_validate(recipe), Checkpoints(folder))
    return history.val_accuracy.tolist()


def test_trial_that_was_taken_over_has_the_value_of_an_undisturbed_training(make_plan, data, monkeypatch, tmp_path):
    plan = make_plan(SHIFT, trials=1, recipe=RECIPE)
    lines = []
    with monkeypatch.context() as context:
        interrupt_after(context, 2)
        with pytest.raises(KeyboardInterrupt):
            work(Study(plan), data, lambda *message: None, 1)
    study = Study(plan)
    work(study, data, lambda *message: lines.append(message), 1)
    (trial,) = study.results()
    assert lines[0] == ("line", "simple_cnn: taking over trial 0, whose process has ended")
    undisturbed = accuracies_of(data, {**plan.recipe, **trial.options}, tmp_path / "undisturbed")
    assert trial.val_accuracies == undisturbed
    assert trial.val_accuracy == max(undisturbed) > min(undisturbed)


def test_real_divergence_ends_one_trial(make_plan, data):
    plan = make_plan(SHIFT, trials=1, recipe={**RECIPE, "learning_rate": 1e30})
    study = Study(plan)
    work(study, data, lambda *message: None, 1)
    (trial,) = study.results()
    assert (trial.state, trial.val_accuracy) == ("failed", None)
    assert "not finite" in trial.message


@pytest.mark.parametrize(
    ("serve", "error", "message"),
    [
        (Dying(0, [("error", "the disk is full")]), InputError, "^the disk is full$"),
        (Dying(-signal.SIGKILL), InputError, "was ended by the system .*not enough memory"),
        (Dying(3), RuntimeError, "the process of its trials failed, see above"),
    ],
)
def test_end_of_a_process_is_explained(make_plan, monkeypatch, serve, error, message):
    monkeypatch.setattr(worker, "_serve", serve)
    with pytest.raises(error, match=message):
        run(make_plan(), Data(None, None, None, None))


def test_a_process_that_dies_before_it_has_read_its_data_is_noticed(make_plan, monkeypatch):
    """They are larger than what a pipe holds."""
    monkeypatch.setattr(worker, "_serve", Dying(-signal.SIGKILL))
    with pytest.raises(InputError, match="was ended by the system"):
        run(make_plan(), Data(bytes(10_000_000), None, None, None))


def test_process_that_is_killed_in_a_trial_is_noted(make_plan, monkeypatch, caplog):
    plan = make_plan(trials=1)
    with Study(plan).claim():
        pass
    monkeypatch.setattr(worker, "_serve", Dying(-signal.SIGKILL, [("trial", 0)]))
    worker._run_process(study := Study(plan), Data(None, None, None, None))
    assert "the process of its trials was ended by the system" in caplog.text
    assert study.study.trials[0].user_attrs["deaths"] == 1


SPACE = "tuning.space.learning_rate.low=0.0003,tuning.space.learning_rate.high=0.03,tuning.space.learning_rate.log=true"


@pytest.fixture
def root(tmp_path):
    """A data folder with the demo's images."""
    result = kedro("run", "--env=demo", "--pipelines=ingestion,preprocessing", f"--params=data_root={tmp_path}")
    assert result.returncode == 0, result.stderr
    return tmp_path


def start(root, *parameters):
    """Start a search as a user does."""
    values = [f"data_root={root}", "simple_cnn.epochs=4", "simple_cnn.examples=600", SPACE, "tuning.min_epochs=2"]
    command = [sys.executable, "-m", "kedro", "run", "--env=demo", "--pipelines=tune_simple_cnn"]
    return subprocess.Popen(
        [*command, f"--params={','.join([*values, *parameters])}"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TF_NUM_INTRAOP_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_checkpoint(root, trial):
    folder = root / "06_models/simple_cnn_study/search" / f"{trial:05}"
    while not list(folder.glob("*/epoch_*.npz")):
        threading.Event().wait(0.05)


@pytest.mark.slow
def test_study_that_was_killed_twice_is_finished_by_two_workers(root, monkeypatch):
    """Every trial once, and each completed one with the value of an undisturbed training on as many threads."""
    for trial in (0, 2):
        process = start(root, "tuning.trials=4")
        wait_for_checkpoint(root, trial)
        process.kill()  # its own process, which trains, ends with it
        process.communicate()
    workers = [start(root, "tuning.trials=4") for _ in range(2)]
    outputs = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert "taking over trial 2" in "".join(outputs)
    assert len(re.findall(r"simple_cnn: trial \d+ \(", "".join(outputs))) >= 2

    first, second = (Trials.read(path) for path in sorted(root.glob("06_models/simple_cnn_trials.json/*/*.json")))
    assert first == second
    assert [trial.number for trial in first.trials] == list(range(4))
    for trial in first.trials:
        if trial.state != "complete":
            continue
        options = ",".join(f"simple_cnn.{name}={value}" for name, value in trial.options.items())
        undisturbed = root / f"undisturbed_{trial.number}"
        undisturbed.mkdir()
        (undisturbed / "03_primary").symlink_to(root / "03_primary")
        parameters = f"data_root={undisturbed},simple_cnn.epochs=4,simple_cnn.examples=600,{options}"
        result = kedro(
            "run", "--env=demo", "--pipelines=train_simple_cnn", f"--params={parameters}", TF_NUM_INTRAOP_THREADS="1"
        )
        assert result.returncode == 0, result.stderr
        (record,) = undisturbed.glob("06_models/simple_cnn.keras/*/record.json")
        history = json.loads(record.read_text())["history"]
        assert [row["val_accuracy"] for row in history] == trial.val_accuracies
        assert len(set(trial.val_accuracies)) > 1 or trial.number  # the recipe learns; others need not
