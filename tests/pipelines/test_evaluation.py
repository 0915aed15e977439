"""Evaluations of predictions that can be worked out by hand."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from cifar10.compute import inference
from cifar10.contracts import Examples, Predictions, TrainedModel
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError
from cifar10.pipelines.evaluation.nodes import draw_mistakes, evaluator, explain
from cifar10.scoring import compare, score
from tests.helpers import COSTS, HISTORY, make_evaluation, make_record, make_row

LOOKS_AT_FIGURES = True

NAMES = ["cat", "dog", "ship"]


def labelled(labels):
    return Examples(np.zeros((len(labels), 32, 32, 3), np.uint8), np.array(labels, np.uint8))


VAL, TEST = labelled([0, 1]), labelled([0, 1, 1, 2])


def scored(val, test, *, trained_on_val=False, **views):
    predictions = Predictions("a model", np.empty((0, 3), np.float32), val, test, **views)
    return score(
        predictions, VAL.labels, TEST.labels, NAMES, train_accuracy=0.5, train_loss=0.7, trained_on_val=trained_on_val
    )


def test_scores_by_hand():
    """Cats are recognised, one dog of two is predicted as a cat, ships are never predicted."""
    test = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]], np.float32)
    metrics = scored(np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]], np.float32), test)
    assert metrics.accuracy == 0.5
    assert metrics.top2_accuracy == 0.75
    assert metrics.val_accuracy == 1.0
    assert (metrics.train_accuracy, metrics.train_loss) == (0.5, 0.7)
    assert metrics.loss == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean(), rel=1e-6)
    assert metrics.val_loss == pytest.approx(-np.log([0.9, 0.5]).mean(), rel=1e-6)
    assert metrics.confusion == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]  # true classes in rows
    expected = {"precision": 1 / 3, "recall": 1, "f1": 0.5, "support": 1, "roc_auc": 1.0}
    assert metrics.classes["cat"] == pytest.approx(expected)
    assert metrics.classes["dog"]["f1"] == pytest.approx(2 / 3)
    assert metrics.classes["ship"] == pytest.approx({**dict.fromkeys(expected, 0), "support": 1, "roc_auc": 0.5})
    assert metrics.precision == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics.recall == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics.f1 == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert metrics.weighted_recall == metrics.accuracy
    assert metrics.weighted_f1 == pytest.approx((0.5 + 2 * 2 / 3 + 0) / 4)
    assert (metrics.accuracy_low, metrics.accuracy_high) == pytest.approx((0.1500, 0.8500), abs=1e-4)
    assert (metrics.views, metrics.averaged_accuracy, metrics.averaged_val_accuracy) == ("none", None, None)


def test_metrics_with_test_time_augmentation_are_beside_the_plain_ones():
    val, test = np.eye(3, dtype=np.float32)[[0, 0]], np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    plain = np.eye(3, dtype=np.float32)[[1, 1, 1, 1]]
    metrics = scored(plain[:2], plain, views="flip", val_averaged=val, test_averaged=test)
    assert (metrics.accuracy, metrics.val_accuracy) == (0.5, 0.5)
    assert (metrics.averaged_accuracy, metrics.averaged_val_accuracy) == (1.0, 0.5)


def test_a_model_trained_on_the_val_split_has_no_metrics_of_it():
    test = np.eye(3, dtype="float32")[[0, 1, 1, 2]] * 0.7 + 0.1
    metrics = scored(test[:2], test, trained_on_val=True, views="flip", val_averaged=test[:2], test_averaged=test)
    assert metrics.accuracy == metrics.averaged_accuracy == 1.0
    assert metrics.val_accuracy is metrics.val_loss is metrics.averaged_val_accuracy is None
    assert metrics.temperature is metrics.calibrated_error is metrics.calibrated_reliability is None


@pytest.fixture(scope="module")
def network():
    """An untrained network of the shape of a real one."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    logits = keras.layers.Dense(3, name="logits", kernel_initializer="normal")(x)
    return keras.Model(inputs, keras.layers.Softmax()(logits))


def make_split(count, seed):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Examples(images, (np.arange(count) % 3).astype(np.uint8))


SPLITS = [make_split(count, seed) for seed, count in enumerate((6, 5, 9))]
DIGESTS = {name: split.digest for name, split in zip(("train", "val", "test"), SPLITS, strict=True)}


@pytest.fixture
def current(statistics):
    """Statistics of these splits."""
    return statistics.model_copy(update={"digests": DIGESTS})


def model(network, architecture="vgg16", version="2026-01-01", *, seed=0, pinned=False, **changes):
    """Return a model that was trained on the train split, with changes of its record."""
    recipe = {"seed": seed, **changes.pop("recipe", {})}
    values = {"class_names": NAMES, "digests": DIGESTS, "training_digest": SPLITS[0].digest, **changes}
    record = make_record(architecture=architecture, recipe=recipe, **values)
    return TrainedModel(record, lambda: network, version, 2.5, pinned=pinned)


class Models:
    """All versions of all models, in memory."""

    def __init__(self, *models):
        self.models = models

    def names(self):
        return sorted({each.record.architecture for each in self.models})

    def versions(self, name):
        return sorted(each.version for each in self.models if each.record.architecture == name)

    def load(self, name, version):
        return next(each for each in self.models if (each.record.architecture, each.version) == (name, version))


@pytest.fixture
def evaluate(current, tmp_path, monkeypatch, request):
    """Evaluate models as the pipeline does; of each architecture, the catalog loads the last one."""
    if "costs" not in request.node.name:
        monkeypatch.setattr("cifar10.pipelines.evaluation.nodes.measure_costs", lambda *_: COSTS)

    def run(*models, names=None, versions="recipes", views="none", splits=SPLITS, statistics=current):
        newest = {each.record.architecture: each for each in models}
        names = names or list(newest)
        trained = [newest.get(name) for name in names]
        store = PredictionStore(tmp_path / "predictions")
        return evaluator(names)(statistics, *splits, NAMES, views, versions, Models(*models), store, *trained)

    return run


def listed(evaluations):
    """Return which versions each row has, and which older ones."""
    return {
        row.name: ([each.version for each in row.seeds], [each.version for each in row.older])
        for row in evaluations.rows
    }


def lines(caplog, *parts):
    """Return the project's log lines that contain these parts."""
    found = [record.message for record in caplog.records if record.name.startswith("cifar10")]
    return [line for line in found if all(part in line for part in parts)]


@pytest.mark.parametrize(
    ("views", "weights"),
    [
        ("flip", {(0, False): 0.5, (0, True): 0.5}),
        (
            "flip_and_shift",
            {
                (0, False): 0.25,
                (0, True): 0.25,
                (-1, False): 0.125,
                (-1, True): 0.125,
                (1, False): 0.125,
                (1, True): 0.125,
            },
        ),
    ],
)
def test_logits_of_the_views_are_averaged_by_their_weights(views, weights, network, evaluate, tmp_path):
    (row,) = evaluate(model(network), views=views).rows
    predictions = PredictionStore(tmp_path / "predictions").load(row.first)
    images = SPLITS[2].images
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    logits = 0
    for (shift, flipped), weight in weights.items():
        view = padded[:, 1 - shift : 33 - shift, 1 - shift : 33 - shift]
        logits = logits + weight * np.log(network.predict(view[:, :, ::-1] if flipped else view, verbose=0))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions.test_averaged, expected, rtol=1e-4)
    np.testing.assert_allclose(predictions.test, network.predict(images, verbose=0), rtol=1e-5)
    assert predictions.train.shape == (6, 3)
    assert predictions.views == row.first.metrics.views == views


def test_models_are_evaluated_with_their_record_version_and_costs(evaluate, network):
    models = model(network), model(network, "simple_cnn", "2026-02-02")
    evaluations = evaluate(*models)
    assert evaluations.class_names == NAMES
    assert listed(evaluations) == {"vgg16": (["2026-01-01"], []), "simple_cnn": (["2026-02-02"], [])}
    for row in evaluations.rows:
        (trained,) = (each for each in models if each.record.architecture == row.name)
        assert (row.first.record, row.first.identity) == (trained.record, trained.identity)
        assert row.first.megabytes == 2.5
        assert row.first.costs.flops == 2 * (8 * 8 * 3 * 3 * 3 * 8 + 8 * 3)
        costs = row.first.costs
        assert 0 < costs.latency_low_ms <= costs.latency_ms <= costs.latency_high_ms
    (pair,) = evaluations.pairs
    assert (pair.first_only, pair.second_only, pair.significant) == (0, 0, False)  # the same network twice


def test_costs_are_measured_once_for_each_network(evaluate, network):
    models = [model(network, seed=seed, version=f"2026-01-0{seed + 1}") for seed in range(2)]
    other = model(network, "simple_cnn", fingerprint="f00")
    first, second, third = (
        each.costs.latency_ms for row in evaluate(*models, other).rows for each in sorted(row.seeds, key=str)
    )
    assert len({first, second, third}) == 2


def test_what_is_left_out_is_told_in_one_line_per_architecture(evaluate, network, caplog):
    names = ["vgg16", "vgg19", "resnet50", "simple_cnn", "airbench94"]
    with caplog.at_level(logging.INFO, "cifar10"):
        evaluations = evaluate(
            model(network, version="2026-01-01", seed=1),
            *(model(network, version=f"2026-01-0{day}") for day in (2, 3)),
            model(network, version="2026-01-04", data_version="f00"),
            model(network, "simple_cnn", data_version="f00"),
            *(model(network, "airbench94", f"2026-02-0{day}", class_names=["a", "b", "c"]) for day in range(1, 6)),
            model(network, "alexnet"),
            names=names,
        )
    assert listed(evaluations) == {"vgg16": (["2026-01-03", "2026-01-01"], [])}
    assert lines(caplog, "left out") == [
        "vgg16: versions 2026-01-03 (seed 0), 2026-01-01 (seed 1); left out: 2026-01-04 (trained on other data); "
        "left out: 2026-01-02 (older, of the same recipe and seed)",
        "simple_cnn: no version; left out: 2026-01-01 (trained on other data)",
        "airbench94: no version; left out: 5 versions from 2026-02-01 to 2026-02-05 (trained with other class names "
        "than class_names)",
    ]
    assert lines(caplog, "Not trained yet") == ["Not trained yet: vgg19, resnet50"]
    assert lines(caplog, "Left out") == ["Left out: alexnet (no longer an architecture of this project)"]


def test_many_untrained_networks_are_counted(evaluate, network, caplog):
    with caplog.at_level(logging.INFO, "cifar10"):
        evaluate(model(network), names=["vgg16", "vgg19", "resnet50", "resnet101", "googlenet"])
    assert lines(caplog, "Not trained yet") == ["Not trained yet: 4 networks (kedro models lists all)"]


def test_nothing_to_evaluate_says_what_to_do(evaluate, network):
    for nothing in ((), (model(network, data_version="f00"),)):
        with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
            evaluate(*nothing, names=["vgg16"])
    with pytest.raises(
        InputError, match=r"^vgg16, version 2026-01-01, has other class names .*class 1 is mouse, not dog"
    ):
        evaluate(model(network, class_names=["cat", "mouse", "ship"]))
    with pytest.raises(InputError, match=r"^vgg16, version 2026-01-01, has 2 classes, but class_names has 3\."):
        evaluate(model(network, class_names=["cat", "dog"]))


def test_images_that_changed_since_preprocessing_are_refused(evaluate, network, tmp_path):
    swapped = [*SPLITS[:2], SPLITS[2].take(slice(None, None, -1))]
    with pytest.raises(InputError, match="The test images have changed since preprocessing"):
        evaluate(model(network), splits=swapped)
    assert not list(tmp_path.iterdir())


def test_a_row_has_the_newest_version_of_each_seed(evaluate, network):
    """A short training does not replace a good one, and what differs in more than the seed is a row of its own."""
    versions = [
        model(network, version="2026-01-01", seed=2),
        model(network, version="2026-01-02", seed=1),
        model(network, version="2026-01-03", seed=1),
        model(network, version="2026-01-04", recipe_hash="9876"),
        model(network, version="2026-01-05", seed=3, fingerprint="fedcba98"),
        model(network, version="2026-01-06", seed=4, engine_version=2),
        model(network, version="2026-01-07", seed=5, compute_dtype="bfloat16"),
        model(network, version="2026-01-08", seed=6, data_version="f00"),
    ]
    names = {
        "vgg16-0123-float32-engine1-0f1e": ["2026-01-03", "2026-01-01"],
        "vgg16-9876-float32-engine1-0f1e": ["2026-01-04"],
        "vgg16-0123-float32-engine1-fedc": ["2026-01-05"],
        "vgg16-0123-float32-engine2-0f1e": ["2026-01-06"],
        "vgg16-0123-bfloat16-engine1-0f1e": ["2026-01-07"],
    }
    assert listed(evaluate(*versions)) == {name: (seeds, []) for name, seeds in names.items()}
    (first, *_) = (row for row in evaluate(*versions, versions="all").rows if len(row.seeds) == 2)
    assert [each.version for each in first.older] == ["2026-01-02"]


@pytest.mark.parametrize(
    ("recipe_hashes", "names"),
    [
        (["0123456789ab"], ["vgg16"]),
        (["0123456789ab", "9876543210ab"], ["vgg16-0123", "vgg16-9876"]),
        (["0123456789ab", "0123476543ab"], ["vgg16-012345", "vgg16-012347"]),
    ],
)
def test_names_of_rows_have_as_many_digits_as_tell_them_apart(evaluate, network, recipe_hashes, names):
    models = [
        model(network, version=f"2026-01-0{day}", recipe_hash=recipe_hash)
        for day, recipe_hash in enumerate(recipe_hashes, start=1)
    ]
    assert sorted(listed(evaluate(*models))) == names


def test_rows_of_equal_recipes_are_told_apart_by_what_differs(evaluate, network):
    models = [model(network, version=f"2026-01-0{day}", compute_dtype=dtype)
              for day, dtype in enumerate(("float32", "bfloat16"), start=1)]  # fmt: skip
    assert sorted(listed(evaluate(*models))) == ["vgg16-bfloat16", "vgg16-float32"]


def test_what_the_run_has_trained_counts_as_the_newest(evaluate, network, caplog):
    """Although a run that started later, or by a clock that was ahead, has a version of the same recipe and seed."""
    ahead = model(network, version="2099-01-01")
    own = model(network, version="2026-01-01")
    with caplog.at_level(logging.INFO, "cifar10"):
        assert listed(evaluate(ahead, own)) == {"vgg16": (["2026-01-01"], [])}
    assert lines(caplog, "vgg16: version 2026-01-01 (seed 0); left out: 2099-01-01 (older, of the same recipe")


def test_a_version_that_is_asked_for_is_the_only_one_of_its_architecture(evaluate, network, caplog):
    """Even if it is the newest."""
    older = model(network, version="2026-01-01", recipe_hash="another")
    pinned = model(network, version="2026-01-02", pinned=True)
    with caplog.at_level(logging.INFO, "cifar10"):
        assert listed(evaluate(older, pinned)) == {"vgg16": (["2026-01-02"], [])}
    assert lines(
        caplog, "vgg16: version 2026-01-02 (seed 0), as --load-versions asks; left out: 2026-01-01 (not asked for)"
    )


BOTH = Examples(*(np.concatenate([getattr(split, part) for split in SPLITS[:2]]) for part in ("images", "labels")))


def test_rows_rank_by_their_mean_validation_accuracy(evaluate, network, monkeypatch):
    """And those without one are at the end, beside a row of the same architecture, which keeps its rank."""
    wrong = {"2026-01-01": 0, "2026-01-02": 3, "2026-01-03": 1, "2026-01-04": 0}  # of the five validation images

    def predict(trained, network, seen, val, test, views, store):
        on_seen, on_val, on_test = (np.eye(3, dtype=np.float32)[split.labels] for split in (seen, val, test))
        on_val[: wrong[trained.version]] = on_val[: wrong[trained.version], [1, 2, 0]]
        store.save(trained, made := Predictions(trained.identity, on_seen, on_val, on_test))
        return made

    monkeypatch.setattr("cifar10.pipelines.evaluation.nodes.predict", predict)
    everything = {"recipe": {"train_on": "all"}, "recipe_hash": "all1", "training_digest": BOTH.digest}
    evaluations = evaluate(
        model(network, version="2026-01-01", seed=0),
        model(network, version="2026-01-02", seed=1),
        model(network, "simple_cnn", "2026-01-03"),
        model(network, version="2026-01-04", **everything),
    )
    assert [(row.name, row.val_accuracy) for row in evaluations.rows] == [
        ("simple_cnn", pytest.approx(0.8)),
        ("vgg16-0123", pytest.approx(0.7)),
        ("vgg16-all1", None),
    ]
    assert listed(evaluations)["vgg16-0123"] == (["2026-01-01", "2026-01-02"], [])
    assert [(pair.first, pair.second) for pair in evaluations.pairs] == [
        ("simple_cnn", "vgg16-0123"),
        ("simple_cnn", "vgg16-all1"),
        ("vgg16-0123", "vgg16-all1"),
    ]


SUBSETS = {  # of train_on and examples -> the images, for seed 7
    ("train", None): SPLITS[0],
    ("train", 4): SPLITS[0].take(np.random.default_rng(7).permutation(6)[:4]),
    ("all", None): BOTH,
    ("all", 8): BOTH.take(np.random.default_rng(7).permutation(11)[:8]),
}


@pytest.mark.parametrize(("train_on", "examples"), SUBSETS)
def test_train_accuracy_is_of_the_images_that_were_trained_on(evaluate, network, train_on, examples):
    seen = SUBSETS[train_on, examples]
    recipe = {"train_on": train_on, "examples": examples}
    for _ in ("new predictions", "stored ones"):
        (row,) = evaluate(model(network, seed=7, recipe=recipe, training_digest=seen.digest)).rows
        probabilities = network.predict(seen.images, verbose=0)
        assert row.first.metrics.train_accuracy == (probabilities.argmax(axis=1) == seen.labels).mean()
        chosen = probabilities[np.arange(len(seen)), seen.labels]
        assert row.first.metrics.train_loss == pytest.approx(-np.log(chosen).mean(), rel=1e-5)


def test_a_model_that_was_trained_on_other_images_than_its_recipe_selects_is_refused(evaluate, network):
    with pytest.raises(InputError, match="vgg16, seed 7: the images on which it was trained are not those that its"):
        evaluate(model(network, seed=7, recipe={"examples": 4}))


@pytest.fixture
def predicted(monkeypatch):
    """The networks and numbers of images that are predicted; that of a name in `fatal` is killed instead."""
    calls = Calls()
    monkeypatch.setattr(inference, "infer", calls.wrap(inference.infer))
    return calls


class Calls(list):
    fatal = ()

    def wrap(self, infer):
        def counted(network, images, image_size, progress=None):
            if progress and progress.startswith(self.fatal):
                raise KeyboardInterrupt
            if progress and "views" not in progress:
                self.append((progress.split(",")[0], len(images)))
            return infer(network, images, image_size, progress)

        return counted


def test_an_evaluation_that_was_killed_continues_with_the_next_network(evaluate, network, predicted, caplog):
    models = model(network, "simple_cnn"), model(network)
    predicted.fatal = ("vgg16",)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*models)
    assert predicted == [("simple_cnn", 6), ("simple_cnn", 5), ("simple_cnn", 9)]
    predicted.clear()
    predicted.fatal = ()
    with caplog.at_level(logging.INFO, "cifar10"):
        first = evaluate(*models)
    assert predicted == [("vgg16", 6), ("vgg16", 5), ("vgg16", 9)]
    assert lines(caplog, "reusing") == ["simple_cnn: reusing the predictions of version 2026-01-01"]
    predicted.clear()
    second = evaluate(*models)
    assert predicted == []
    assert [row.first.metrics for row in first.rows] == [row.first.metrics for row in second.rows]
    assert first.pairs == second.pairs


def test_asking_for_views_predicts_the_plain_images_once(evaluate, network, predicted, caplog):
    plain = evaluate(model(network)).rows[0].first.metrics
    predicted.clear()
    for views in ("flip", "flip", "none", "flip_and_shift"):
        metrics = evaluate(model(network), views=views).rows[0].first.metrics
        assert (metrics.views, metrics.averaged_accuracy is None) == (views, views == "none")
        assert (metrics.accuracy, metrics.val_loss) == (plain.accuracy, plain.val_loss)
    assert predicted == []
    assert len(lines(caplog, "predicting further views")) == 2
    assert len(lines(caplog, "reusing the predictions and views (flip) of version")) == 1


@pytest.mark.parametrize(
    "change",
    [
        "network",
        "images",
        "trained images",
        "damaged",
        "missing",
    ],
)
def test_predictions_of_anything_else_are_not_reused(evaluate, current, network, predicted, tmp_path, change):
    file = tmp_path / "vgg16.keras"
    file.write_bytes(b"weights")
    trained = replace(model(network), path=file)
    evaluate(trained)
    (stored,) = (tmp_path / "predictions").rglob("*.npz")
    predicted.clear()
    splits, statistics = SPLITS, current
    changed = replace(trained)  # whose identity has not been computed yet
    if change == "network":
        file.write_bytes(b"others!")
    elif change == "images":
        splits = [*SPLITS[:2], SPLITS[2].take(slice(None, None, -1))]
        statistics = current.model_copy(update={"digests": {**DIGESTS, "test": splits[2].digest}})
        changed = replace(trained, record=trained.record.model_copy(update={"digests": statistics.digests}))
    elif change == "trained images":
        seen = SUBSETS["train", 4]
        record = {"recipe": {**trained.record.recipe, "seed": 7, "examples": 4}, "training_digest": seen.digest}
        changed = replace(trained, record=trained.record.model_copy(update=record))
    elif change == "damaged":
        stored.write_bytes(stored.read_bytes()[:-100])
    else:
        stored.unlink()
    evaluations = evaluate(changed, splits=splits, statistics=statistics)
    assert len(predicted) == 3
    assert PredictionStore(tmp_path / "predictions").load(evaluations.rows[0].first).identity == changed.identity


def test_predictions_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"vgg16/2026-01-01.npz is missing.* kedro run --pipelines=evaluation"):
        PredictionStore(tmp_path).load(make_evaluation())


def test_pairs_by_hand():
    on_test, rows = {}, []
    for name, predicted in (("a", [0, 1, 1, 2]), ("b", [0, 1, 0, 0])):
        first, second = make_evaluation(name), make_evaluation(name, "2026-01-02")
        on_test[first.identity] = np.eye(3, dtype=np.float32)[predicted]
        rows.append(make_row(first, second, name=f"{name}-1"))

    def compared(rows):
        return compare(rows, "a data version", NAMES, TEST.labels, lambda each: on_test[each.identity]).pairs

    (pair,) = compared(rows)
    assert (pair.first, pair.second, pair.first_only, pair.second_only) == ("a-1", "b-1", 2, 0)
    assert (pair.difference, pair.p_value, pair.p_holm, pair.significant) == (0.5, 0.5, 0.5, False)
    assert compared(rows[:1]) == []


def test_shuffled_test_labels_change_no_decision(evaluate, current, network):
    """Epochs and learning rates are decided in training, which has no test images. Everything else is decided here."""
    generator = np.random.default_rng(0)
    others = []
    for _ in range(3):
        other = network.__class__.from_config(network.get_config())
        other.set_weights([weight + generator.normal(0, 0.1, weight.shape) for weight in network.get_weights()])
        others.append(other)
    chosen = []
    train, val, test = SPLITS
    for labels in (test.labels, test.labels[::-1], generator.permutation(test.labels)):
        shuffled = Examples(test.images, labels)
        digests = {**DIGESTS, "test": shuffled.digest}
        evaluations = evaluate(
            *(model(other, f"net{place}", digests=digests) for place, other in enumerate(others)),
            splits=[train, val, shuffled],
            statistics=current.model_copy(update={"digests": digests}),
        )
        chosen.append([(row.name, row.first.metrics.temperature, row.val_accuracy) for row in evaluations.rows])
    assert chosen[0] == chosen[1] == chosen[2]


def test_portraits_say_which_model_they_show(evaluate, network, tmp_path):
    models = [
        model(network, version=version, seed=seed, history=HISTORY)
        for seed, version in ((1, "2026-01-01"), (2, "2026-01-02"))
    ]
    evaluations = evaluate(*models)
    portraits = explain(evaluations, Models(*models), PredictionStore(tmp_path / "predictions"), SPLITS[2])
    assert set(portraits) == {"vgg16_confusion_matrix", "vgg16_learning_curves", "vgg16_mistakes"}
    assert {figure.get_label() for figure in portraits.values()} == {models[0].identity}
    assert portraits["vgg16_mistakes"]._suptitle.get_text() == "vgg16 (seed 1), test images"
    with pytest.raises(InputError, match="The test images have changed"):
        explain(evaluations, Models(*models), PredictionStore(tmp_path / "predictions"), SPLITS[0])


def test_mistakes_are_drawn_and_explained(network):
    test = SPLITS[2]
    probabilities = network.predict(test.images, verbose=0)
    figure = draw_mistakes("a model", model(network), probabilities, test)
    figure.draw_without_rendering()
    headings = [part._suptitle.get_text() for part in figure.subfigs]
    assert headings[0].startswith("Most confident mistakes")
    counts = [heading for heading in headings if "predicted as" in heading and "times" in heading]
    wrong = (probabilities.argmax(axis=1) != test.labels).sum()
    assert 0 < sum(int(heading.split()[-2]) for heading in counts) <= wrong


def test_a_model_without_mistakes_is_drawn_too(network):
    perfect = np.eye(3, dtype=np.float32)[SPLITS[2].labels]
    figure = draw_mistakes("a model", model(network), perfect, SPLITS[2])
    figure.draw_without_rendering()
    assert [part._suptitle.get_text() for part in figure.subfigs] == [
        "A correct prediction of each class, with Grad-CAM"
    ]
