"""Evaluations of predictions that can be worked out by hand."""

import logging

import numpy as np
import pytest

from cifar10.contracts import Examples, Predictions, TrainedModel
from cifar10.datasets.arrays import PredictionStore
from cifar10.errors import InputError
from cifar10.pipelines.evaluation.nodes import compare_pairs, draw_mistakes, evaluator, predict
from cifar10.pipelines.evaluation.scoring import score
from tests.helpers import make_evaluation, make_record

NAMES = ["cat", "dog", "ship"]


def labelled(labels):
    return Examples(np.zeros((len(labels), 32, 32, 3), np.uint8), np.array(labels, np.uint8))


TRAIN, VAL, TEST = labelled([2, 2]), labelled([0, 1]), labelled([0, 1, 1, 2])


def scored(val, test, *, trained_on_val=False, **views):
    train = np.array([[0.1, 0.1, 0.8], [0.6, 0.1, 0.3]], np.float32)
    return score(Predictions(train, val, test, **views), TRAIN, VAL, TEST, NAMES, trained_on_val=trained_on_val)


def test_scores_by_hand():
    """Cats are recognised, one dog of two is predicted as a cat, ships are never predicted."""
    test = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]], np.float32)
    metrics = scored(np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]], np.float32), test)
    assert metrics.accuracy == 0.5
    assert metrics.top2_accuracy == 0.75
    assert metrics.val_accuracy == 1.0
    assert metrics.train_accuracy == 0.5
    assert metrics.loss == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean(), rel=1e-6)
    assert metrics.val_loss == pytest.approx(-np.log([0.9, 0.5]).mean(), rel=1e-6)
    assert metrics.train_loss == pytest.approx(-np.log([0.8, 0.3]).mean(), rel=1e-6)
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


@pytest.fixture(scope="module")
def splits():
    generator = np.random.default_rng(0)
    return [
        Examples(generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), (np.arange(n) % 3).astype(np.uint8))
        for n in (6, 5, 9)
    ]


@pytest.fixture
def current(statistics, splits):
    """Statistics of these splits."""
    digests = {name: split.digest for name, split in zip(("train", "val", "test"), splits, strict=True)}
    return statistics.model_copy(update={"digests": digests})


def model(network, architecture="vgg16", version="2026-01-01", **changes):
    return TrainedModel(make_record(architecture=architecture, **changes), lambda: network, version, 2.5)


class Models:
    """All versions of all models, in memory."""

    def __init__(self, *models):
        self.models = models

    def versions(self, name):
        return sorted(each.version for each in self.models if each.record.architecture == name)

    def load(self, name, version):
        return next(each for each in self.models if (each.record.architecture, each.version) == (name, version))


@pytest.fixture
def evaluate(current, splits, tmp_path):
    """Evaluate models as the pipeline does."""

    def run(*models, names=None, versions="latest", every=None):
        names = names or [each.record.architecture for each in models]
        store = PredictionStore(tmp_path / "predictions")
        return evaluator(names)(current, *splits, NAMES, "none", versions, Models(*(every or models)), store, *models)

    return run


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
def test_logits_of_the_views_are_averaged_by_their_weights(views, weights, network, splits):
    predictions = predict(network, 32, *splits, views)
    images = splits[2].images
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    logits = 0
    for (shift, flipped), weight in weights.items():
        view = padded[:, 1 - shift : 33 - shift, 1 - shift : 33 - shift]
        logits = logits + weight * np.log(network.predict(view[:, :, ::-1] if flipped else view, verbose=0))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions.test_averaged, expected, rtol=1e-4)
    np.testing.assert_allclose(predictions.test, network.predict(images, verbose=0), rtol=1e-5)
    assert predictions.train.shape == (6, 3)
    assert predictions.views == views


def test_models_are_evaluated_with_their_record_version_and_costs(evaluate, network):
    evaluations = evaluate(model(network), model(network, "simple_cnn", "2026-02-02"))
    assert evaluations.class_names == NAMES
    assert {each.architecture: each.version for each in evaluations.models} == {
        "vgg16": "2026-01-01",
        "simple_cnn": "2026-02-02",
    }
    for each in evaluations.models:
        assert each.record == make_record(architecture=each.architecture)
        assert each.megabytes == 2.5
        assert each.costs.flops == 2 * (8 * 8 * 3 * 3 * 3 * 8 + 8 * 3)
        assert each.costs.latency_ms > 0
    (pair,) = evaluations.pairs
    assert (pair.first_only, pair.second_only, pair.significant) == (0, 0, False)  # the same network twice


def test_untrained_models_and_those_of_other_data_are_left_out_in_one_line_each(evaluate, network, caplog):
    names = ["vgg16", "vgg19", "resnet50", "simple_cnn"]
    with caplog.at_level(logging.INFO, "cifar10"):
        evaluations = evaluate(
            model(network), None, None, model(network, "simple_cnn", data_version="f00"), names=names
        )
    assert [each.architecture for each in evaluations.models] == ["vgg16"]
    left_out = [record.message for record in caplog.records if "eft out" in record.message]
    assert left_out == [
        "simple_cnn: left out, because it was trained on data f00, and the current data are a data versi",
        "Left out, because not trained yet (kedro run --pipelines=train_NAME): vgg19, resnet50",
    ]


def test_nothing_to_evaluate_says_what_to_run(evaluate, network):
    for nothing in (None, model(network, data_version="f00")):
        with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
            evaluate(nothing, names=["vgg16"])


def test_images_that_changed_since_preprocessing_are_refused(current, splits, network, tmp_path):
    swapped = [splits[0], splits[1], splits[2].take(slice(None, None, -1))]
    store = PredictionStore(tmp_path)
    with pytest.raises(InputError, match="The test images have changed since preprocessing"):
        evaluator(["vgg16"])(current, *swapped, NAMES, "none", "latest", Models(), store, model(network))
    assert not list(tmp_path.iterdir())


def test_all_versions_adds_those_that_differ_in_the_seed_alone(evaluate, network):
    def version(number, **changes):
        recipe = {"seed": changes.pop("seed", 0)}
        return model(network, version=f"2026-01-0{number}", recipe=recipe, **changes)

    evaluated = version(9, seed=3)
    every = [
        version(1, seed=1),
        version(2, seed=1),  # the later one of seed 1
        version(3, seed=2),
        version(4, seed=3),  # the seed of the one that is evaluated
        version(5, seed=4, recipe_hash="another recipe"),
        version(6, seed=5, data_version="f00"),
        evaluated,
    ]
    evaluations = evaluate(evaluated, versions="all", every=every)
    assert [each.version for each in evaluations.models] == ["2026-01-09"]
    assert [each.version for each in evaluations.other_seeds] == ["2026-01-02", "2026-01-03"]
    assert evaluate(evaluated, every=every).other_seeds == []


def test_pairs_by_hand(tmp_path):
    store = PredictionStore(tmp_path)
    for name, predicted in (("a", [0, 1, 1, 2]), ("b", [0, 1, 0, 0])):
        probabilities = np.eye(3, dtype=np.float32)[predicted]
        store.save(name, "2026-01-01", Predictions(probabilities[:2], probabilities[:2], probabilities))
    evaluations = [make_evaluation("a"), make_evaluation("b")]
    (pair,) = compare_pairs(evaluations, store, TEST)
    assert (pair.first, pair.second, pair.first_only, pair.second_only) == ("a", "b", 2, 0)
    assert (pair.difference, pair.p_value, pair.p_holm, pair.significant) == (0.5, 0.5, 0.5, False)
    assert compare_pairs(evaluations[:1], store, TEST) == []


def test_shuffled_test_labels_change_no_decision(evaluate, current, splits, network, tmp_path):
    """Epochs and learning rates are decided in training, which has no test images. Everything else is decided here."""
    generator = np.random.default_rng(0)
    others = []
    for name in ("vgg16", "simple_cnn", "resnet50"):
        other = network.__class__.from_config(network.get_config())
        other.set_weights([weight + generator.normal(0, 0.1, weight.shape) for weight in network.get_weights()])
        others.append(model(other, name))
    chosen = []
    train, val, test = splits
    for labels in (test.labels, test.labels[::-1], generator.permutation(test.labels)):
        shuffled = Examples(test.images, labels)
        statistics = current.model_copy(update={"digests": {**current.digests, "test": shuffled.digest}})
        store = PredictionStore(tmp_path / "shuffled")
        names = [each.record.architecture for each in others]
        evaluations = evaluator(names)(
            statistics, train, val, shuffled, NAMES, "none", "latest", Models(*others), store, *others
        )
        chosen.append(
            [(each.architecture, each.metrics.temperature, each.metrics.val_accuracy) for each in evaluations.models]
        )
    assert chosen[0] == chosen[1] == chosen[2]


def test_mistakes_are_drawn_and_explained(network, splits):
    test = splits[2]
    probabilities = network.predict(test.images, verbose=0)
    figure = draw_mistakes(model(network), probabilities, test, NAMES)
    figure.draw_without_rendering()
    headings = [part._suptitle.get_text() for part in figure.subfigs]
    assert headings[0].startswith("Most confident mistakes")
    counts = [heading for heading in headings if "predicted as" in heading and "times" in heading]
    wrong = (probabilities.argmax(axis=1) != test.labels).sum()
    assert 0 < sum(int(heading.split()[-2]) for heading in counts) <= wrong


def test_a_model_without_mistakes_is_drawn_too(network, splits):
    perfect = np.eye(3, dtype=np.float32)[splits[2].labels]
    figure = draw_mistakes(model(network), perfect, splits[2], NAMES)
    figure.draw_without_rendering()
    assert [part._suptitle.get_text() for part in figure.subfigs] == ["Correct predictions, with Grad-CAM"]
