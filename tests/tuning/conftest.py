import os
from types import SimpleNamespace

import pytest
import yaml

from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.tuning.options import Fidelity, Tuning, at_fidelity
from cifar10.tuning.space import Values
from cifar10.tuning.study import Plan
from cifar10.tuning.worker import Data
from tests.helpers import CLASS_NAMES, PROJECT

SPACE = {"learning_rate": {"low": 0.0001, "high": 0.1, "log": True}, "batch_size": {"of": [32, 64]}}


@pytest.fixture(scope="session")
def blocks():
    """The recipes of `conf/base`, by name."""
    return yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())


@pytest.fixture(scope="session")
def tuning():
    """Make the parameters of `conf/base`, with changes."""
    values = yaml.safe_load((PROJECT / "conf/base/parameters_tuning.yml").read_text())["tuning"]
    return lambda **changes: {**values, **changes}


@pytest.fixture(scope="session")
def data(drawn):
    """300 training images and 100 for validation."""
    train, val = drawn[0].take(slice(300)), drawn[0].take(slice(300, None))
    return Data(train, val, measure(train, val, drawn[1]), CLASS_NAMES)


@pytest.fixture
def make_plan(tmp_path, blocks, tuning):
    """Make the plan of a search of the simple CNN, with changes; without them, no trial is pruned."""

    def make(space=SPACE, recipe=None, folder=None, tuning_changes=None, question=None, **changes):
        pytest.importorskip("optuna")
        options = Tuning.model_validate(tuning(**{"pruner": "none", **(tuning_changes or {})}))
        block = {**blocks["_recipe"], "schedule": "cosine", "epochs": 4, **(recipe or {})}
        shipped = at_fidelity("simple_cnn", block, Fidelity(epochs=None, examples=None))
        space = {name: Values.model_validate(values) for name, values in space.items()}
        values = {
            "folder": folder or tmp_path / "study",
            "name": "search",
            "architecture": "simple_cnn",
            "recipe": shipped,
            "question": question or {"recipe": {"epochs": 4}, "data version": "a", "fidelity": {}, "space": {}},
            "queue": [{name: shipped[name] for name in space}],
            "space": space,
            "trials": 5,
            "deadline": float("inf"),
            "tuning": options,
        }
        return Plan(**{**values, **changes})

    return make


@pytest.fixture
def fast_disk(monkeypatch):
    """Do not wait for the disk, to which Optuna writes several lines for each epoch."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def fake_fit(monkeypatch):
    """Replace the training by one that reports what `curve`, a function of recipe and epoch, returns or raises.

    Returns it, with the recipes that were trained.
    """
    import keras

    from cifar10.training import fit as module

    fake = SimpleNamespace(recipes=[], curve=lambda recipe, epoch: 0.5 + epoch / 100 - recipe.learning_rate)

    def fit(name, train, val, statistics, class_names, recipe, checkpoints, report):
        fake.recipes.append(recipe)
        accuracies = []
        for epoch in range(1, recipe.epochs + 1):
            accuracies.append(fake.curve(recipe, epoch))
            report({"epoch": epoch, "val_accuracy": accuracies[-1], "seconds": 1.0})
        return SimpleNamespace(record=SimpleNamespace(val_accuracy=max(accuracies))), None

    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)  # which takes seconds
    return fake
