"""Every version in one table, whether it has been evaluated or not."""

import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.facts import FACTS
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.figures import versions
from cifar10.pipeline_registry import register_pipelines
from cifar10.pipelines.history import nodes
from cifar10.pipelines.history.nodes import list_architectures, list_runs
from tests.helpers import make_evaluation, make_evaluations, make_record, make_row

FIRST, SECOND, THIRD = (f"2026-01-0{day}T00.00.00.000Z" for day in (1, 2, 3))


@pytest.fixture
def models(tmp_path):
    """Two versions of one network and one of another, without networks."""
    for name, version, seed in (("vgg16", FIRST, 0), ("vgg16", SECOND, 1), ("vgg19", THIRD, 0)):
        folder = tmp_path / f"{name}.keras" / version
        folder.mkdir(parents=True)
        (folder / f"{name}.keras").write_bytes(bytes(2_500_000))
        (folder / "record.json").write_text(make_record(architecture=name, recipe={"seed": seed}).to_json())
    return Models(tmp_path)


def test_accuracies_come_from_the_latest_evaluation_of_a_version(models):
    """The first was evaluated twice, the second beside it once, and the third never: its place had another model."""
    record = models.load("vgg16", SECOND).record
    other_seed = make_evaluation("vgg16", SECOND, record=record, accuracy=0.86)
    of_another = make_evaluation("vgg19", THIRD, record=make_record(architecture="vgg19", epochs=9))
    past = [
        make_evaluations(make_evaluation("vgg16", FIRST, accuracy=0.87, averaged_accuracy=None), of_another),
        make_evaluations(
            make_row(make_evaluation("vgg16", FIRST, accuracy=0.88, averaged_accuracy=0.89), older=(other_seed,))
        ),
    ]
    runs = list_runs(models, past, past[-1])
    assert list(runs.version) == [THIRD, SECOND, FIRST]
    np.testing.assert_array_equal(runs.accuracy, [np.nan, 0.86, 0.88])
    np.testing.assert_array_equal(runs.averaged_accuracy, [np.nan, np.nan, 0.89])
    assert list(runs.seed) == [0, 1, 0]
    group = ["architecture", "recipe_hash", "fingerprint", "engine_version", "compute_dtype"]
    assert runs[group].iloc[1].tolist() == list(record.group)
    assert list(runs.megabytes) == [2.5] * 3
    assert list(list_runs(models, [], None).accuracy.isna()) == [True] * 3
    versions(runs).draw_without_rendering()


def test_architectures_are_listed_with_the_best_of_their_versions(models):
    """By the validation accuracy of the evaluation, else by that of the training."""
    evaluated = make_evaluation(
        "vgg16", SECOND, record=models.load("vgg16", SECOND).record, accuracy=0.86, val_accuracy=0.93
    )
    runs = list_runs(models, [make_evaluations(evaluated)], None)
    assert list(runs.best) == [True, True, False]
    table = list_architectures(runs).set_index("architecture")
    assert list(table.index) == list(ARCHITECTURES)
    columns = ["parameters", "versions", "best_version", "val_accuracy", "accuracy", "expected_high"]
    assert table.loc["vgg16", columns].tolist() == [14_732_490, 2, SECOND, 0.93, 0.86, 0.94]
    assert table.loc["vgg19", ["versions", "best_version", "val_accuracy"]].tolist() == [1, THIRD, 0.9]
    assert table.loc["resnet50", "versions"] == 0
    assert table.loc["resnet50", ["best_version", "val_accuracy", "accuracy"]].isna().all()


def test_the_best_version_is_one_of_the_latest_data(models, tmp_path):
    """On another split, the same network would have another accuracy; which split is easier says nothing of it."""
    path = tmp_path / f"vgg16.keras/{FIRST}/record.json"
    path.write_text(make_record(recipe={"seed": 0}, data_version="another", val_accuracy=0.99).to_json())
    runs = list_runs(models, [], None)
    assert list(runs.best) == [True, True, False]
    assert list_architectures(runs).set_index("architecture").loc["vgg16", "best_version"] == SECOND


def test_an_architecture_without_facts_is_listed(models, monkeypatch):
    monkeypatch.setattr(nodes, "FACTS", {name: facts for name, facts in FACTS.items() if name != "vgg16"})
    row = list_architectures(list_runs(models, [], None)).set_index("architecture").loc["vgg16"]
    assert (row.versions, row.val_accuracy) == (2, 0.9)
    assert row[["parameters", "flops", "image_size", "expected_low", "source"]].isna().all()


def test_nothing_trained_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn"):
        list_runs(Models(tmp_path), [], None)


@pytest.mark.parametrize("others", [("evaluation",), ("train_vgg16", "evaluation", "reporting")])
def test_history_comes_after_evaluation(others):
    pipelines = register_pipelines()
    nodes = sum((pipelines[name] for name in others), pipelines["history"]).nodes
    order = [node.name for node in nodes]
    assert order.index("history.list_runs") > order.index("evaluation.evaluate")
    if "train_vgg16" in others:
        assert order.index("evaluation.evaluate") > order.index("training.vgg16.train")
