"""What a run tells MLflow, where tracking is asked for."""

import tempfile
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl

NOT_METRICS = ("seed", "epochs", "best_epoch", "image_size", "test_pictures", "training_pictures")


class TrackingHooks:
    """Logs metrics, learning curves and figures to the run that kedro-mlflow opens; parameters it logs itself."""

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what the name of a dataset says it is."""
        architecture, _, kind = dataset_name.partition(".")
        if kind in ("metrics", "costs"):
            values = {name: value for name, value in data.items() if type(value) is float or type(value) is int}
            mlflow.log_metrics(
                {f"{architecture}.{name}": value for name, value in values.items() if name not in NOT_METRICS}
            )
        elif kind == "history":
            for row in data.to_dict("records"):
                values = {name: value for name, value in row.items() if type(value) is float and value == value}
                mlflow.log_metrics(
                    {f"{architecture}.epoch.{name}": value for name, value in values.items()}, row["epoch"]
                )
        elif architecture == "figure" or kind in ("confusion_matrix", "mistakes", "learning_curves"):
            mlflow.log_figure(data, f"{dataset_name}.png")
        elif dataset_name == "report":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "report.html"
                path.write_text(data, encoding="utf-8")
                mlflow.log_artifact(str(path))
