"""Experiment tracking with MLflow."""

import tempfile
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl
from matplotlib.figure import Figure

from cifar10.contracts import Evaluation, Evaluations, TrainedModel


class TrackingHooks:
    """Log metrics, learning curves, figures and the report to the run that kedro-mlflow opens for each Kedro run."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log a dataset by its type."""
        if isinstance(data, TrainedModel):
            _log_history(data)
        elif isinstance(data, Evaluations):
            for row in data.rows:
                _log_evaluation(row.name, row.first)
        elif isinstance(data, Figure):
            mlflow.log_figure(data, f"{dataset_name}.png")
        elif dataset_name == "portraits":
            for name, figure in data.items():
                mlflow.log_figure(figure, f"{name}.png")
        elif dataset_name == "report":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "report.html"
                path.write_text(data, encoding="utf-8")
                mlflow.log_artifact(str(path))


def _log_history(model: TrainedModel) -> None:
    name = model.record.architecture
    for row in model.record.history:
        values = {key: value for key, value in row.items() if isinstance(value, float)}
        mlflow.log_metrics({f"{name}.epoch.{key}": value for key, value in values.items()}, row["epoch"])


def _log_evaluation(name: str, evaluation: Evaluation) -> None:
    values = {**evaluation.metrics.model_dump(), **evaluation.costs.model_dump()}
    numbers = {metric: value for metric, value in values.items() if isinstance(value, int | float)}
    mlflow.log_metrics({f"{name}.{metric}": value for metric, value in numbers.items()})
