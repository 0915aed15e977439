"""Experiment tracking, without MLflow: a module that records the calls takes its place."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import Mock, call

import pandas as pd
import pytest
from matplotlib.figure import Figure

from cifar10.contracts import TrainedModel
from tests.helpers import PROJECT, make_evaluation, make_evaluations, make_record

EPOCHS = [
    {
        "phase": "training",
        "epoch": epoch,
        "accuracy": 0.5 + epoch / 10,
        "loss": 1.0 / epoch,
        "val_accuracy": None,
        "val_loss": None,
        "learning_rate": 0.1,
        "seconds": 2.0,
        "joules": None,
    }
    for epoch in (1, 2)
]
WITHOUT_MLFLOW = "import sys; sys.modules['mlflow'] = None; from kedro.framework.cli import main; main()"


@pytest.fixture
def mlflow(monkeypatch):
    """The functions of `mlflow` that the hooks call, as mocks."""
    functions = Mock(spec=["log_metrics", "log_figure", "log_artifact"])
    module = ModuleType("mlflow")
    vars(module).update({name: getattr(functions, name) for name in ("log_metrics", "log_figure", "log_artifact")})
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return functions


@pytest.fixture
def hooks(mlflow):
    sys.modules.pop("cifar10.tracking", None)
    yield importlib.import_module("cifar10.tracking").TrackingHooks()
    del sys.modules["cifar10.tracking"]


def test_model_is_logged_as_one_step_per_epoch(hooks, mlflow):
    model = TrainedModel(make_record(history=EPOCHS), load_network=Mock())
    hooks.after_dataset_saved("vgg16.model", model)
    assert mlflow.mock_calls == [
        call.log_metrics(
            {
                "vgg16.epoch.accuracy": 0.5 + epoch / 10,
                "vgg16.epoch.loss": 1.0 / epoch,
                "vgg16.epoch.learning_rate": 0.1,
                "vgg16.epoch.seconds": 2.0,
            },
            epoch,
        )
        for epoch in (1, 2)
    ]
    model.load_network.assert_not_called()


def test_evaluations_are_logged_as_numbers_of_each_model(hooks, mlflow):
    evaluations = make_evaluations(make_evaluation("vgg16", accuracy=0.9), make_evaluation("vgg19", accuracy=0.8))
    hooks.after_dataset_saved("evaluations", evaluations)
    first, second = (each.args[0] for each in mlflow.log_metrics.call_args_list)
    assert (first["vgg16.accuracy"], second["vgg19.accuracy"]) == (0.9, 0.8)
    assert (first["vgg16.flops"], first["vgg16.latency_ms"], first["vgg16.test_examples"]) == (10**7, 1.5, 1000)
    assert all(isinstance(value, int | float) for value in first.values())
    assert "vgg16.averaged_accuracy" not in first  # None without test-time augmentation
    assert "vgg16.confusion" not in first
    assert len(mlflow.mock_calls) == 2


def test_figure_is_logged_by_its_name(hooks, mlflow):
    figure = Figure()
    hooks.after_dataset_saved("figure.comparison", figure)
    assert mlflow.mock_calls == [call.log_figure(figure, "figure.comparison.png")]


def test_portraits_are_logged_one_by_one(hooks, mlflow):
    figures = {"vgg16_mistakes": Figure(), "vgg16_confusion_matrix": Figure()}
    hooks.after_dataset_saved("portraits", figures)
    assert mlflow.mock_calls == [call.log_figure(figure, f"{name}.png") for name, figure in figures.items()]


def test_report_is_logged_as_a_file(hooks, mlflow, tmp_path):
    copy = tmp_path / "copy.html"
    mlflow.log_artifact.side_effect = lambda path: copy.write_bytes(Path(path).read_bytes())
    hooks.after_dataset_saved("report", "<p>Größe</p>")
    assert copy.read_text(encoding="utf-8") == "<p>Größe</p>"
    [logged] = mlflow.mock_calls
    assert Path(logged.args[0]).name == "report.html"


@pytest.mark.parametrize(
    ("name", "data"),
    [("leaderboard", pd.DataFrame({"rank": [1]})), ("leaderboard_table", "| |"), ("data_card", {"images": 8})],
)
def test_other_datasets_are_not_logged(hooks, mlflow, name, data):
    hooks.after_dataset_saved(name, data)
    assert mlflow.mock_calls == []


def test_missing_mlflow_is_one_sentence():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_MLFLOW, "run", "--env=demo", "--pipelines=ingestion"],
        cwd=PROJECT,
        env={**os.environ, "CIFAR10_MLFLOW": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "Error: CIFAR10_MLFLOW is set, but mlflow is not installed: pip install '.[mlflow]', or unset it."
    ]
