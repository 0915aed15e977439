"""Every version in one table, whatever became of it."""

import json

import numpy as np
import pandas as pd
import pytest

from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.figures import versions
from cifar10.pipeline_registry import register_pipelines
from cifar10.pipelines.history.nodes import list_runs


@pytest.fixture
def models(tmp_path):
    """Two versions of one network and one of another, as far as their records go."""
    for name, version, seed in (("vgg16", "2026-01-01", 0), ("vgg16", "2026-01-02", 1), ("vgg19", "2026-01-03", 0)):
        folder = tmp_path / f"{name}.keras" / version
        folder.mkdir(parents=True)
        (folder / f"{name}.keras").write_bytes(bytes(2_500_000))
        record = {
            "architecture": name, "val_accuracy": 0.9, "epochs": 3, "best_epoch": 2, "seconds": 60.0,
            "training_pictures": 45_000, "precision": "float32", "recipe_hash": "abc", "data_version": 64 * "f",
            "hardware": "a machine", "recipe": {"seed": seed}, "versions": {"commit": "1234567"},
        }  # fmt: skip
        (folder / "record.json").write_text(json.dumps(record))
    return Models(tmp_path)


def test_figures_come_from_where_a_version_was_judged(models):
    """The first by itself, twice; the second beside it, as another seed; the third never."""
    metrics = [
        {"architecture": "vgg16", "model_version": "2026-01-01", "accuracy": accuracy, "averaged_accuracy": views}
        for accuracy, views in ((0.88, None), (0.88, 0.89))
    ]
    seeds = pd.DataFrame(
        [("vgg16", "2026-01-01", 0.88), ("vgg16", "2026-01-02", 0.87)], columns=["architecture", "version", "accuracy"]
    )
    runs = list_runs(models, metrics, seeds)
    assert list(runs.version) == ["2026-01-03", "2026-01-02", "2026-01-01"]
    np.testing.assert_array_equal(runs.accuracy, [np.nan, 0.87, 0.88])
    np.testing.assert_array_equal(runs.averaged_accuracy, [np.nan, np.nan, 0.89])
    assert list(runs.seed) == [0, 1, 0]
    assert list(runs.megabytes) == [2.5] * 3
    assert list(list_runs(models, metrics, None).accuracy.notna()) == [False, False, True]
    versions(runs).draw_without_rendering()


def test_nothing_trained_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn"):
        list_runs(Models(tmp_path), [], None)


@pytest.mark.parametrize("others", [("evaluation",), ("train_vgg16", "evaluation", "reporting")])
def test_history_comes_after_evaluation(others):
    pipelines = register_pipelines()
    nodes = sum((pipelines[name] for name in others), pipelines["history"]).nodes
    order = [node.name for node in nodes]
    assert order.index("history.list_runs") > max(
        place for place, name in enumerate(order) if name.endswith((".score", "judge_seeds"))
    )
