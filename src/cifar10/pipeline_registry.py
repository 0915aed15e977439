"""All pipelines by name. Imports neither TensorFlow nor Keras, so that `kedro registry list` is fast."""

import warnings

from kedro.pipeline import Pipeline

from cifar10.architectures import ARCHITECTURES
from cifar10.pipelines.benchmark import pipeline as benchmark
from cifar10.pipelines.evaluation import pipeline as evaluation
from cifar10.pipelines.export import pipeline as export
from cifar10.pipelines.history import pipeline as history
from cifar10.pipelines.ingestion import pipeline as ingestion
from cifar10.pipelines.predict import pipeline as predict
from cifar10.pipelines.preprocessing import pipeline as preprocessing
from cifar10.pipelines.publish import pipeline as publish
from cifar10.pipelines.reporting import pipeline as reporting
from cifar10.pipelines.robustness import pipeline as robustness
from cifar10.pipelines.training import pipeline as training
from cifar10.pipelines.tuning import pipeline as tuning

LAPTOP_RUN = ("simple_cnn", "deep_cnn")  # what `kedro run` trains, within an hour on two cores with AVX2


def register_pipelines() -> dict[str, Pipeline]:
    """Return all pipelines: the stages, `train_NAME` and `tune_NAME` of each architecture, and the laptop run."""
    # Kedro reserves dots for datasets of their node's namespace. Here they belong to their architecture, so that all
    # stages know `vgg16.model` by the same name.
    warnings.filterwarnings("ignore", message="One or more dataset names contain '.' characters")
    stages = {
        "ingestion": ingestion.create_pipeline(),
        "ingestion_csv": ingestion.create_csv_pipeline(),
        "preprocessing": preprocessing.create_pipeline(),
        "evaluation": evaluation.create_pipeline(ARCHITECTURES),
        "robustness": robustness.create_pipeline(ARCHITECTURES),
        "reporting": reporting.create_pipeline(),
        "publish": publish.create_pipeline(),
        "export": export.create_pipeline(),
        "predict": predict.create_pipeline(),
        "history": history.create_pipeline(),
        "benchmark": benchmark.create_pipeline(ARCHITECTURES),
    }
    trainings = {f"train_{name}": training.create_pipeline(name) for name in ARCHITECTURES}
    tunings = {f"tune_{name}": tuning.create_pipeline(name) for name in ARCHITECTURES}
    laptop_run = (
        stages["ingestion"]
        + stages["preprocessing"]
        + sum((trainings[f"train_{name}"] for name in LAPTOP_RUN), Pipeline([]))
        + evaluation.create_pipeline(LAPTOP_RUN)  # of all models, but its graph has only these two
        + stages["reporting"]
    )
    return {"__default__": laptop_run, **stages, **trainings, **tunings}
