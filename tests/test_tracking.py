"""Experiment tracking: what is told to MLflow, with a client that only notes it; and what MLflow then has, if it is
installed."""

import importlib.util
import logging
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from cifar10 import settings
from cifar10.contracts import TrainedModel
from cifar10.errors import InputError
from cifar10.tracking import LoggedCheckpoints, Tracker, TrackingHooks
from cifar10.training.checkpoint import Checkpoint, Checkpoints
from cifar10.training.identity import identity_of
from tests.helpers import PROJECT, bootstrap, eagerly, make_evaluation, make_record

RECIPE = {"epochs": 3, "batch_size": 8, "optimizer": "adam", "learning_rate": 0.01, "schedule": "cosine"}
needs_mlflow = pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="the extra mlflow is not installed")


def epoch(number):
    """Return one row of a history."""
    return {
        "phase": "training",
        "epoch": number,
        "accuracy": 0.5 + number / 10,
        "loss": 1.0 / number,
        "val_accuracy": None,
        "val_loss": None,
        "learning_rate": 0.1,
        "seconds": 2.0,
        "joules": None,
    }


def make(architecture="vgg16", **recipe):
    """Return the record of a training of three epochs on a small recipe."""
    history = [epoch(number) for number in (1, 2, 3)]
    return make_record(architecture=architecture, recipe={**RECIPE, **recipe}, history=history)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "tracked"), [(None, False), ("", False), ("0", False), ("False", False), ("off", False), ("1", True)]
)
def test_variable_turns_tracking_on(monkeypatch, value, tracked):
    monkeypatch.delenv("CIFAR10_MLFLOW", raising=False)
    if value is not None:
        monkeypatch.setenv("CIFAR10_MLFLOW", value)
    hooks = runpy.run_path(settings.__file__)["HOOKS"]
    assert [type(hook).__name__ for hook in hooks] == ["ProjectHooks", "TrackingHooks"][: 1 + tracked]


def test_missing_mlflow_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError) as raised:
        Tracker(tmp_path, name="a run", env="demo")
    message = (
        "CIFAR10_MLFLOW is set, but mlflow is not installed: pip install -c constraints.txt -e '.[mlflow]', or unset "
        "it."
    )
    assert str(raised.value) == message


@pytest.fixture
def client(monkeypatch):
    """A client that notes what it is asked, and the module `mlflow` that has it."""
    client = Mock()
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient = lambda uri: client
    entities.Metric, entities.Param = lambda *fields: fields, lambda *fields: fields
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    client.get_metric_history.return_value = []
    return client


def _after(cause):
    """Return an error as `requests` raises it."""
    error = OSError(f"HTTPConnectionPool(host='127.0.0.1'): Max retries exceeded ({cause})")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "why"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError("timed out"), "timed out"),
    ],
)
@pytest.mark.parametrize("returns", [False, True])
def test_server_that_goes_away_is_one_warning(client, tmp_path, caplog, cause, why, returns):
    tracker = Tracker(tmp_path, name="a run", env="demo")
    checkpoints = LoggedCheckpoints(tmp_path, tracker)
    identity = identity_of(make())
    with checkpoints.lock(identity):
        checkpoints.latest(identity)
        client.log_batch.side_effect = _after(cause)
        client.set_terminated.side_effect = None if returns else _after(cause)
        for epochs in (1, 2, 3):
            history = [epoch(number + 1) for number in range(epochs)]
            checkpoints.save(identity, Checkpoint([], None, {"history": history}))
    tracker.close("FINISHED")
    [warning] = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert warning.endswith(f"failed ({why}): nothing more of this run is logged there")
    client.set_terminated.assert_called_once_with(client.create_run().info.run_id, "FAILED")  # not left running
    assert [path.stem for path in sorted(tmp_path.glob("*/*.npz"))] == ["epoch_00002", "epoch_00003"]


def test_epoch_is_logged_when_it_is_saved_and_an_interruption_ends_the_run(client, tmp_path):
    tracker = Tracker(tmp_path, name="a run", env="demo")
    tracker.later = Mock(side_effect=lambda call, *arguments: call(*arguments))
    checkpoints = LoggedCheckpoints(tmp_path, tracker)
    identity = identity_of(make())
    with pytest.raises(KeyboardInterrupt), checkpoints.lock(identity):  # noqa: PT012
        assert checkpoints.latest(identity) is None
        for number in (1, 2):
            checkpoints.save(identity, Checkpoint([], None, {"history": [epoch(1), epoch(2)][:number]}))
            metrics = client.log_batch.call_args.kwargs["metrics"]
            assert [(name, value) for name, value, _, step in metrics if step == number] == [
                ("epoch/accuracy", 0.5 + number / 10),
                ("epoch/loss", 1.0 / number),
                ("epoch/learning_rate", 0.1),
                ("epoch/seconds", 2.0),
            ]
        raise KeyboardInterrupt
    run = client.create_run.return_value.info.run_id
    client.set_terminated.assert_called_once_with(run, "KILLED")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a data folder, in which the first use creates the store."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def track(store, monkeypatch, request):
    """Log in an experiment of this test as one `kedro run` does, and return what it then has, by name of its run."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)

    def log(*calls):
        tracker = Tracker(store, name="a run", env="demo")
        for call in calls:
            tracker.later(call, tracker)
        tracker.close("FAILED")
        assert not tracker.lost
        runs = tracker.client.search_runs([tracker.experiment], order_by=["attributes.start_time"])
        return SimpleNamespace(runs={run.info.run_name: run for run in runs}, count=len(runs), client=tracker.client)

    return log


def start(record, epochs=0):
    return lambda tracker: tracker.start(identity_of(record), "7e662ab", record.history[:epochs])


def log(record, number):
    return lambda tracker: tracker.log_epoch(record.architecture, epoch(number))


def finish(record, version="2026-01-01T00.00.00.000Z"):
    return lambda tracker: tracker.finish(record, version)


def steps(logged, name):
    history = logged.client.get_metric_history(logged.runs[name].info.run_id, "epoch/loss")
    return [(each.step, each.value) for each in history]


@needs_mlflow
def test_training_is_one_run_with_its_recipe_as_parameters(track):
    record = make(seed=1)
    logged = track(start(record), *(log(record, number) for number in (1, 2, 3)), finish(record))
    [(name, run)] = logged.runs.items()
    assert (name, run.info.status) == ("vgg16 seed 1 7e662ab", "FINISHED")
    assert run.data.params == {key: str(value) for key, value in {**RECIPE, "seed": 1}.items()}
    tags = {"architecture", "seed", "version", "data_version", "commit", "recipe", "training", "env"}
    assert tags < set(run.data.tags)
    assert (run.data.tags["version"], run.data.tags["commit"]) == ("2026-01-01T00.00.00.000Z", "7e662ab")
    assert steps(logged, name) == [(number, pytest.approx(1 / number, rel=1e-5)) for number in (1, 2, 3)]
    assert (run.data.metrics["val/accuracy"], run.data.metrics["best_epoch"]) == (0.9, 2)


@needs_mlflow
def test_resumed_training_continues_its_run_and_a_new_one_does_not(track):
    record, name = make(), "vgg16 seed 0 7e662ab"
    logged = track(start(record), log(record, 1))
    assert logged.runs[name].info.status == "FAILED"
    logged = track(start(record, epochs=2), log(record, 3), finish(record))  # the second epoch could not be logged
    assert [step for step, _ in steps(logged, name)] == [1, 2, 3]
    assert (logged.count, logged.runs[name].info.status) == (1, "FINISHED")
    assert track(start(record), log(record, 1)).count == 2


@needs_mlflow
def test_evaluations_are_columns_that_all_models_share(track):
    vgg16, vgg19 = make(), make("vgg19")
    evaluations = [
        make_evaluation(record=record, version=version, accuracy=accuracy)
        for record, version, accuracy in ((vgg16, "2026-01-01", 0.9), (vgg19, "2026-01-02", 0.8))
    ]
    logged = track(
        *(start(vgg16), log(vgg16, 1), finish(vgg16, "2026-01-01")),
        *(lambda tracker, each=each: tracker.log_evaluation(each) for each in evaluations),
    )
    first, second = logged.runs["vgg16 seed 0 7e662ab"], logged.runs["vgg19 seed 0 abc"]  # trained without tracking
    assert logged.count == 2
    assert (first.data.metrics["test/accuracy"], second.data.metrics["test/accuracy"]) == (0.9, 0.8)
    assert set(first.data.metrics) == set(second.data.metrics)
    assert {"train/accuracy", "val/accuracy", "test/loss", "latency_ms", "flops", "parameters"} < set(
        first.data.metrics
    )
    assert second.info.status == "FINISHED"
    assert [step for step, _ in steps(logged, "vgg19 seed 0 abc")] == [1, 2, 3]


@needs_mlflow
def test_server_that_cannot_be_reached_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(InputError) as raised:
        Tracker(tmp_path, name="a run", env="demo")
    assert str(raised.value) == (
        "CIFAR10_MLFLOW is set, but MLflow cannot use http://127.0.0.1:9: Connection refused. Start its server, "
        "correct MLFLOW_TRACKING_URI, or unset CIFAR10_MLFLOW."
    )


@needs_mlflow
def test_run_logs_model_and_figures_and_ends_with_the_command(store, caplog):
    bootstrap()
    options = {"data_root": str(store), "simple_cnn": {"epochs": 1, "examples": 32}}
    with eagerly(), KedroSession.create(PROJECT, env="demo", runtime_params=options) as session:
        session._hook_manager.register(TrackingHooks())
        caplog.set_level(logging.INFO)
        session.run(pipeline_names=["ingestion", "preprocessing", "train_simple_cnn"])
    assert caplog.messages[-1] == f"mlflow ui --backend-store-uri sqlite:///{store}/mlflow.db"
    assert not [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    report, model = client.search_runs([client.get_experiment_by_name("cifar10").experiment_id])
    assert (report.info.run_name, model.data.params["examples"]) == ("ingestion, preprocessing, train_simple_cnn", "32")
    files = {run.info.run_name.split()[0]: client.list_artifacts(run.info.run_id) for run in (report, model)}
    assert {name: [Path(file.path).name for file in each] for name, each in files.items()} == {
        "ingestion,": ["data_card.json", "samples.png"],
        "simple_cnn": ["simple_cnn_learning_curves.png"],
    }


def test_of_several_processes_only_the_first_is_tracked(monkeypatch, client):
    """The others keep what they make in memory, where it has no version."""
    monkeypatch.setattr("cifar10.tracking.several_processes", lambda: True)
    monkeypatch.setattr("cifar10.compute.parallel.is_first", lambda: False)
    hooks, catalog = TrackingHooks(), DataCatalog({"vgg16.model": MemoryDataset()})
    hooks.before_pipeline_run({"pipeline_names": ["train_vgg16"], "env": None}, catalog)
    assert hooks.before_node_run({"vgg16.checkpoint": Checkpoints(Path("/nowhere"))}) == {}
    hooks.after_dataset_saved("vgg16.model", TrainedModel(make_record(), lambda: None))
    hooks.after_pipeline_run(Pipeline([]), catalog)
    hooks.on_pipeline_error()
    assert not client.method_calls


def test_what_is_not_saved_as_a_version_is_not_logged(tmp_path, client):
    """Export chooses a model that a training has logged."""
    hooks = TrackingHooks()
    hooks.catalog, hooks.tracker = DataCatalog({"exported.model": MemoryDataset()}), Mock()
    hooks.after_dataset_saved("exported.model", TrainedModel(make_record(), lambda: None))
    assert not hooks.tracker.method_calls
