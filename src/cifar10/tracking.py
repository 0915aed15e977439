"""Experiment tracking with MLflow: one run per model.

A training is followed through its checkpoints: they have each epoch as soon as it is complete, and a training that is
resumed continues its run because it continues them. MLflow is called in a thread of its own, so that no training waits
for it, and the first call that fails is the last.

Runs are not nested, because MLflow's pages hide nested runs, and their charts, until each parent is opened.
"""

import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cifar10.contracts import Epoch, Evaluation, Evaluations, Record, TrainedModel
from cifar10.datasets.artifact import LocalDataset
from cifar10.errors import InputError, reason
from cifar10.keras_settings import several_processes
from cifar10.store import check_local
from cifar10.training.checkpoint import Checkpoint, Checkpoints, key_of

logger = logging.getLogger(__name__)

SETTINGS = {  # of MLflow, unless the user has set them
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # each would be a warning; and a run shall not wait minutes for a server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds
}
NOT_LOGGED = {  # of an evaluation: what is no metric, or equals another one where all classes have as many test images
    *("temperature", "test_examples"),
    *("weighted_precision", "weighted_recall", "weighted_f1"),
}
EPOCHS_PER_CALL = 100  # MLflow accepts 1,000 values at once


class TrackingHooks:
    """Log trainings, evaluations, and what a run reports; of several processes, only the first does."""

    tracker: "Tracker | None" = None

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Connect to MLflow, once everything else about the run has been checked.

        Raises:
            InputError: MLflow is not installed, or its store cannot be used.
        """
        if several_processes():
            from cifar10.compute.parallel import is_first

            if not is_first():
                return
        self.catalog = catalog
        data_root = catalog.get("train").path.parents[1]  # type: ignore[union-attr]
        names = [name for name in run_params["pipeline_names"] or [] if name != "__default__"]
        self.tracker = Tracker(
            data_root, name=", ".join(sorted(names)) or "kedro run", env=run_params["env"] or "local"
        )

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give a training checkpoints that are logged."""
        if not self.tracker:
            return {}
        return {
            name: LoggedCheckpoints(value.folder, self.tracker)
            for name, value in inputs.items()
            if isinstance(value, Checkpoints)
        }

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log a model or evaluations."""
        if not self.tracker:
            return
        dataset = self.catalog.get(dataset_name)
        if isinstance(data, TrainedModel) and isinstance(dataset, LocalDataset):  # what export chooses stays in memory
            self.tracker.later(self.tracker.finish, data.record, dataset.path.parent.name)
        elif isinstance(data, Evaluations):
            for row in data.rows:
                for evaluation in (*row.seeds, *row.older):
                    self.tracker.later(self.tracker.log_evaluation, evaluation)

    @hook_impl(trylast=True)
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Log the figures, tables and pages that the run has saved, and how to see them, as its last line."""
        if not self.tracker:
            return
        for name in sorted(pipeline.all_outputs()):
            dataset = catalog.get(name)
            if isinstance(dataset, LocalDataset) and dataset.saved and _is_report(dataset) and name != "published":
                self.tracker.later(self.tracker.log_file, name.partition(".")[0], dataset.path)
        self.tracker.close("FINISHED")
        for line in self.tracker.how_to_see():
            logger.info("%s", line)

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Mark what is unfinished as failed."""
        if self.tracker:
            self.tracker.close("FAILED")


def _is_report(dataset: LocalDataset) -> bool:
    return (dataset.metadata or {}).get("kedro-viz", {}).get("layer") == "reporting"


class LoggedCheckpoints(Checkpoints):
    """Checkpoints of trainings of which each epoch is logged."""

    def __init__(self, folder: Path, tracker: "Tracker") -> None:
        super().__init__(folder)
        self.tracker = tracker

    @contextmanager
    def lock(self, identity: dict[str, Any]) -> Iterator[None]:
        """Keep other runs out of this training; Kedro has no hook for its interruption."""
        with super().lock(identity):
            try:
                yield
            except KeyboardInterrupt:
                self.tracker.close("KILLED")
                raise

    def latest(self, identity: dict[str, Any]) -> Checkpoint | None:
        """Return the latest checkpoint of a training that starts, or is resumed from it, and log which."""
        from cifar10.compute.provenance import provenance

        checkpoint = super().latest(identity)
        facts: dict[str, Any] = checkpoint.facts if checkpoint else {"history": [], "provenance": provenance()}
        commit = facts["provenance"]["versions"]["commit"]
        self.tracker.later(self.tracker.start, identity, commit, [*facts["history"]])
        return checkpoint

    def save(self, identity: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Save a checkpoint, and log the epoch after which it is."""
        super().save(identity, checkpoint)
        self.tracker.later(self.tracker.log_epoch, identity["architecture"], checkpoint.facts["history"][-1])


class Tracker:
    """What one `kedro run` logs. What calls MLflow, from `start` on, runs in a thread of its own, by `later`.

    Attributes:
        client: of MLflow.
        experiment: its number.
        uri: of the store, without a password.
        trained: the run of each architecture that is trained.
        open: the runs that are unfinished.
        lost: whether a call has failed.
    """

    def __init__(self, data_root: Path, *, name: str, env: str) -> None:
        """Connect to the store of MLFLOW_TRACKING_URI, or open that of the data folder.

        Args:
            data_root: the data folder.
            name: of the run of this `kedro run`.
            env: its environment.

        Raises:
            InputError: MLflow is not installed, the store cannot be used, or there is none because the data are in an
                object store.
        """
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as error:
            raise InputError(
                f"CIFAR10_MLFLOW is set, but {error.name} is not installed: pip install -c constraints.txt -e "
                "'.[mlflow]', or unset it."
            ) from error
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            check_local(data_root, "MLflow without MLFLOW_TRACKING_URI")
        local = f"sqlite:///{(data_root / 'mlflow.db').absolute().as_posix()}"
        self.uri = re.sub("//[^/@]*@", "//", uri or local)
        self.name, self.env = name, env
        self.trained: dict[str, str] = {}
        self.open: set[str] = set()
        self.lost = False
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        try:
            if not uri:
                data_root.mkdir(parents=True, exist_ok=True)
            self.client = MlflowClient(uri or local)
            files = None if uri else (data_root / "mlflow").absolute().as_uri()  # a server has its own place for them
            self.experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "cifar10", files)
        except Exception as error:  # of MLflow, its database or the network
            raise InputError(
                f"CIFAR10_MLFLOW is set, but MLflow cannot use {self.uri}: {_why(error)}. Start its server, correct "
                "MLFLOW_TRACKING_URI, or unset CIFAR10_MLFLOW."
            ) from error

    def later(self, call: Callable, *arguments: Any) -> None:
        """Call a function in the thread, unless an earlier call has failed; warn if this is the first."""
        self.thread.submit(self._call, call, arguments)

    def _call(self, call: Callable, arguments: tuple) -> None:
        if self.lost:
            return
        try:
            call(*arguments)
        except Exception as error:  # whatever it is, the run goes on
            self.lost = True
            logger.warning("MLflow at %s failed (%s): nothing more of this run is logged there", self.uri, _why(error))

    def close(self, status: str) -> None:
        """End the runs that are unfinished, and wait until everything is logged; after a failure they have failed."""
        self.later(self._end, status)
        self.thread.shutdown()
        if self.lost:
            with suppress(Exception):  # the server may be there again
                self._end("FAILED")

    def how_to_see(self) -> list[str]:
        """Return the page of the runs, and of a local store the command that serves it, last."""
        server = self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"
        page = f"{server}/#/experiments/{self.experiment}/runs?workflowType=machine_learning"  # not those of prompts
        if self.uri.startswith("http"):
            return [f"MLflow: {page}"]
        return [
            f"MLflow: {page} shows the models, once this command runs:",
            f"mlflow ui --backend-store-uri {shlex.quote(self.uri)}",
        ]

    def start(self, identity: dict[str, Any], commit: str | None, history: list[Epoch]) -> None:
        """Start the run of a training, or continue the one that it has already.

        Args:
            identity: of the training.
            commit: of the code that started it.
            history: its epochs so far.
        """
        query = f"tags.training = '{key_of(identity)}' and attributes.status != 'FINISHED'"
        run = self._find(query) if history else None
        if run:
            self.client.update_run(run, status="RUNNING")
        else:
            run = self._create(identity, commit)
        self.trained[identity["architecture"]] = run
        self.open.add(run)
        known = {each.step for each in self.client.get_metric_history(run, "epoch/loss")}
        self._log_epochs(run, [row for row in history if row["epoch"] not in known])

    def log_epoch(self, architecture: str, row: Epoch) -> None:
        """Log an epoch of a training that has started."""
        self._log_epochs(self.trained[architecture], [row])

    def finish(self, record: Record, version: str) -> None:
        """Log the result of a training whose model is saved."""
        run = self.trained[record.architecture]
        self._log_result(run, record, version)
        self.open.discard(run)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Log an evaluation to the run of the model, which gets one now if it was trained without tracking."""
        record = evaluation.record
        run = self._find(f"tags.architecture = '{record.architecture}' and tags.version = '{evaluation.version}'")
        if run is None:
            from cifar10.training.identity import identity_of

            run = self._create(identity_of(record), record.versions["commit"])
            self._log_epochs(run, record.history)
            self._log_result(run, record, evaluation.version)
        metrics = evaluation.metrics.model_dump(exclude=NOT_LOGGED)
        costs = evaluation.costs.model_dump()
        values = {_by_split(name): value for name, value in metrics.items()} | costs
        self._log(run, [({**values, "megabytes": evaluation.megabytes}, 0)])

    def log_file(self, architecture: str, path: Path) -> None:
        """Log a file, or a folder of files, to the run of this architecture if it was trained, else to `report`."""
        run = self.trained.get(architecture) or self.report
        if path.is_dir():
            self.client.log_artifacts(run, str(path), path.name)
        else:
            self.client.log_artifact(run, str(path))

    @cached_property
    def report(self) -> str:
        """The run of what belongs to no training."""
        run = self.client.create_run(self.experiment, run_name=self.name, tags={"env": self.env}).info.run_id
        self.open.add(run)
        return run

    def _experiment(self, name: str, files: str | None) -> str:
        """Return the number of an experiment, which is created if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            with suppress(Exception):  # another run may create it at the same moment
                self.client.create_experiment(name, files)
            found = self.client.get_experiment_by_name(name)
        return found.experiment_id

    def _create(self, identity: dict[str, Any], commit: str | None) -> str:
        """Create the run of a training, with its recipe as parameters, and return its id."""
        from mlflow.entities import Param

        architecture, recipe = identity["architecture"], identity["recipe"]
        tags = {
            "env": self.env,
            "architecture": architecture,
            "seed": str(recipe["seed"]),
            "commit": commit or "unknown",
            "data_version": identity["data_version"],
            "training": key_of(identity),
        }
        name = f"{architecture} seed {recipe['seed']} {commit or ''}".rstrip()
        run = self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id
        self.client.log_batch(run, params=[Param(option, str(value)) for option, value in recipe.items()])
        return run

    def _find(self, query: str) -> str | None:
        """Return the id of the newest run of which this is true, or None."""
        found = self.client.search_runs([self.experiment], query, max_results=1)
        return found[0].info.run_id if found else None

    def _log_epochs(self, run: str, rows: list[Epoch]) -> None:
        steps = [
            ({f"epoch/{name}": value for name, value in row.items() if name != "epoch"}, row["epoch"]) for row in rows
        ]
        for start in range(0, len(steps), EPOCHS_PER_CALL):
            self._log(run, steps[start : start + EPOCHS_PER_CALL])

    def _log_result(self, run: str, record: Record, version: str) -> None:
        values = {
            "val/accuracy": record.val_accuracy,
            "best_epoch": record.best_epoch,
            "parameters": record.parameters,
            "training_seconds": record.training_seconds,
            "training_joules": record.training_joules,
        }
        self._log(run, [(values, 0)])
        self.client.set_tag(run, "version", version)
        self.client.set_tag(run, "recipe", record.recipe_hash)
        self.client.set_terminated(run, "FINISHED")

    def _log(self, run: str, steps: list[tuple[dict[str, Any], int]]) -> None:
        """Log the numbers among the values of each step, with six digits, which fit MLflow's columns."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(name, value if isinstance(value, int) else float(f"{value:.6g}"), now, step)
            for values, step in steps
            for name, value in values.items()
            if isinstance(value, int | float)
        ]
        self.client.log_batch(run, metrics=metrics)

    def _end(self, status: str) -> None:
        for run in self.open:
            self.client.set_terminated(run, status)


def _by_split(metric: str) -> str:
    """Return the name of a metric with its split first: that of `Metrics` says only if it is not test."""
    split = next((each for each in ("train", "val") if f"{each}_" in metric), "test")
    return f"{split}/{metric.replace(f'{split}_', '')}"


def _why(error: BaseException) -> str:
    """Return what the operating system says, if it is behind this error; else the error's own first line."""
    chain, cause = [error], error
    while following := cause.__cause__ or cause.__context__:
        cause = following
        chain.append(cause)
    system = [each for each in chain if isinstance(each, OSError)]  # those of `requests` are, too, so take the last
    return system[-1].strerror or reason(system[-1]) if system else reason(error)
