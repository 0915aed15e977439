"""Which models are evaluated on corrupted images, and what identifies them."""

import numpy as np
import pytest

from cifar10.contracts import Examples, TrainedModel
from cifar10.errors import InputError
from cifar10.pipelines.robustness import nodes
from tests.helpers import CLASS_NAMES, make_record

TEST = Examples(
    np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
)


def model(version, seed, **changes):
    record = make_record(recipe={"seed": seed}, training_digest=version, **changes)
    return TrainedModel(record, lambda: version, version)


class Models:
    def __init__(self, *models):
        self.models = {each.version: each for each in models}

    def versions(self, name):
        return sorted(self.models)

    def load(self, name, version):
        return self.models[version]


@pytest.fixture
def evaluate(monkeypatch, statistics):
    """Evaluate versions of one architecture; each network is right on as many images as its day."""

    def infer(network, images, image_size):
        labels = np.arange(len(images))
        return np.eye(10, dtype=np.float32)[np.where(labels < int(network[-2:]), labels, (labels + 1) % 10)]

    def run(*models, examples=10):
        options = {"examples": examples, "seed": 0}
        current = statistics.model_copy(update={"digests": {"test": chosen.digest}})
        return nodes.robustness_evaluator(["vgg16"])(current, chosen, CLASS_NAMES, options, Models(*models), models[-1])

    chosen = TEST.take(slice(0, 10))
    monkeypatch.setattr("cifar10.compute.inference.infer", infer)
    monkeypatch.setattr(nodes, "SEVERITIES", (1,))
    return run


def test_the_lowest_seed_of_each_row_is_evaluated(evaluate):
    """The same models as those that an evaluation compares, under the same names."""
    models = [
        model("2026-01-01", seed=2),
        model("2026-01-02", seed=1),
        model("2026-01-03", seed=1),
        model("2026-01-08", seed=5, recipe_hash="9876543210ab"),
        model("2026-01-09", seed=0, data_version="another"),
        model("2026-01-10", seed=0, class_names=["a", "b"]),
    ]
    table = evaluate(*models)
    rows = table.groupby("name", sort=False).first()
    assert rows.index.tolist() == ["vgg16-9876", "vgg16-0123"]  # the best first
    assert rows.model_version.tolist() == ["2026-01-08", "2026-01-03"]
    assert rows.identity.tolist() == [models[3].identity, models[2].identity]
    assert rows.seed.tolist() == [5, 1]
    assert rows.recipe_hash.tolist() == ["9876543210ab", "0123456789ab"]
    assert set(table.data_version) == {"a data version"}
    assert table.clean_accuracy.tolist() == [0.8] * 6 + [0.3] * 6
    assert set(table.images) == {10}


def test_nothing_to_evaluate_says_what_to_do(evaluate):
    with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,robustness"):
        evaluate(model("2026-01-01", seed=0, data_version="another"))
