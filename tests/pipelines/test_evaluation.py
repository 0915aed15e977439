import itertools
import logging

import numpy as np
import pandas as pd
import pytest

from cifar10.contracts import Examples, Predictions, TrainedModel, digest
from cifar10.errors import InputError
from cifar10.figures import wilson_interval
from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.evaluation.nodes import draw_confusion, predict, score, sum_up
from cifar10.pipelines.reporting.nodes import draw_comparison, rank

NAMES = ["cat", "dog", "ship"]
RECORD = {
    "architecture": "vgg16",
    "version": "2026-01-01",
    "data_version": "a data version",
    "parameters": 7,
    "seconds": 1.5,
    "epochs": 3,
    "best_epoch": 2,
    "recipe": {"seed": 5},
    "versions": {"commit": "abc"},
    "hardware": "a machine",
    "precision": "float32",
    "initialisation": "random",
    "image_size": 32,
    "training_pictures": 8,
}


def labelled(labels):
    return Examples(np.zeros((len(labels), 32, 32, 3), np.uint8), np.array(labels, np.uint8))


@pytest.fixture
def metrics():
    """Cats are recognised, one dog of two is taken for a cat, ships are never named."""
    test = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]], np.float32)
    val = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]], np.float32)
    parts = {"val": labelled([0, 1]), "test": labelled([0, 1, 1, 2])}
    record = {**RECORD, "digests": {name: digest(part) for name, part in parts.items()}}
    return score(Predictions(val, test, record), *parts.values(), NAMES)


def test_scores_by_hand(metrics):
    assert metrics["accuracy"] == 0.5
    assert metrics["val_accuracy"] == 1.0
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean(), rel=1e-6)
    assert metrics["val_loss"] == pytest.approx(-np.log([0.9, 0.5]).mean(), rel=1e-6)
    assert metrics["confusion"] == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]  # true classes in rows
    assert metrics["classes"]["cat"] == {"precision": 1 / 3, "recall": 1, "f1": 0.5, "support": 1}
    assert metrics["classes"]["dog"] == {"precision": 1, "recall": 0.5, "f1": 2 / 3, "support": 2}
    assert metrics["classes"]["ship"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert metrics["precision"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics["recall"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)


def test_metrics_say_which_model_they_are_of(metrics):
    assert (metrics["model_version"], metrics["data_version"]) == ("2026-01-01", "a data version")
    assert (metrics["parameters"], metrics["training_seconds"], metrics["seed"]) == (7, 1.5, 5)
    assert (metrics["epochs"], metrics["best_epoch"], metrics["hardware"]) == (3, 2, "a machine")


def test_test_time_augmentation_stands_beside_the_plain_figures(metrics):
    assert (metrics["views"], metrics["averaged_accuracy"], metrics["averaged_val_accuracy"]) == ("none", None, None)
    val, test = np.eye(3, dtype=np.float32)[[0, 0]], np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    plain = np.eye(3, dtype=np.float32)[[1, 1, 1, 1]]
    parts = {"val": labelled([0, 1]), "test": labelled([0, 1, 1, 2])}
    record = {**RECORD, "digests": {name: digest(part) for name, part in parts.items()}}
    with_views = score(Predictions(plain[:2], plain, record, "flip", val, test), *parts.values(), NAMES)
    assert (with_views["accuracy"], with_views["val_accuracy"]) == (0.5, 0.5)
    assert (with_views["averaged_accuracy"], with_views["averaged_val_accuracy"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("views", "shares"),
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
def test_views_are_averaged_by_their_weights(views, shares):
    """Shown by a network that reports the red and the green of the first pixel."""
    import keras

    inputs = keras.Input((32, 32, 3))
    network = keras.Model(inputs, keras.layers.Flatten()(inputs)[:, :2])
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    part = Examples(images, np.zeros(5, np.uint8))
    digests = {"val": digest(part), "test": digest(part)}
    predictions = predict(TrainedModel(network, {"digests": digests, "image_size": 32}), part, part, views)

    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect").astype(np.float32)
    expected = sum(
        share * padded[:, 1 - shift : 33 - shift, 1 - shift : 33 - shift][:, 0, 31 if mirrored else 0, :2]
        for (shift, mirrored), share in shares.items()
    )
    np.testing.assert_allclose(predictions.test_averaged, expected, rtol=1e-5)
    np.testing.assert_array_equal(predictions.test, images[:, 0, 0, :2])
    assert predictions.views == views


def test_validation_ranks_and_test_does_not(metrics, statistics):
    better_on_test = {**metrics, "architecture": "simple_cnn", "val_accuracy": 0.5, "accuracy": 0.9}
    leaderboard = rank(statistics, better_on_test, None, metrics)
    assert list(leaderboard.architecture) == ["vgg16", "simple_cnn"]
    assert list(leaderboard["rank"]) == [1, 2]
    assert {"accuracy", "val_accuracy", "f1", "parameters", "training_seconds", "model_version"} <= set(leaderboard)


def test_a_model_trained_on_all_pictures_is_shown_without_a_rank(statistics):
    """Whatever it scores on validation, which it has seen."""
    probabilities = np.eye(3, dtype="float32")[[0, 1]] * 0.7 + 0.1
    parts = {"val": labelled([0, 1]), "test": labelled([0, 1])}
    digests = {name: digest(part) for name, part in parts.items()}
    scored = [
        score(
            Predictions(val, probabilities, {**RECORD, "architecture": name, "recipe": recipe, "digests": digests}),
            *parts.values(),
            NAMES,
        )
        for name, recipe, val in (
            ("airbench94", {"seed": 0, "train_on": "all"}, probabilities),
            ("vgg16", {"seed": 0, "train_on": "train"}, probabilities[::-1]),
        )
    ]
    assert scored[0]["accuracy"] == 1.0
    assert scored[0]["val_accuracy"] is scored[0]["val_loss"] is None
    leaderboard = rank(statistics, *scored)
    assert list(leaderboard.architecture) == ["vgg16", "airbench94"]
    assert list(leaderboard["rank"].isna()) == [False, True]
    sum_up(statistics, *scored)
    draw_comparison(leaderboard)


def test_models_of_other_data_are_left_out_and_said(metrics, statistics, caplog):
    other = {**metrics, "architecture": "simple_cnn", "data_version": "f00"}
    with caplog.at_level(logging.INFO, "cifar10"):
        assert list(rank(statistics, other, metrics).architecture) == ["vgg16"]
    assert "simple_cnn: left out, it was trained on data f00" in caplog.text


@pytest.mark.parametrize("summarise", [rank, sum_up])
def test_nothing_to_compare_says_what_to_run(metrics, statistics, summarise):
    for nothing in ([None, None], [{**metrics, "data_version": "f00"}]):
        with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
            summarise(statistics, *nothing)


def test_untrained_and_foreign_models_yield_nothing(statistics, caplog):
    def name_of(predictions, suffix):
        return predictions.record["architecture"] + suffix

    node = if_trained(name_of, "vgg16", log=logging.getLogger("cifar10").info)
    predictions = Predictions(np.empty(0), np.empty(0), RECORD)
    foreign = predictions._replace(record={**RECORD, "data_version": "f00"})
    with caplog.at_level(logging.INFO, "cifar10"):
        assert list(node(predictions, statistics, "!")) == ["vgg16!"]
        assert not caplog.records
        assert list(node(None, statistics, "!")) == []
        assert list(node(foreign, statistics, "!")) == []
    assert [record.message for record in caplog.records] == [
        "vgg16: left out, it has not been trained (kedro run --pipelines=train_vgg16)",
        "vgg16: left out, it was trained on data f00 and the data at hand are a data versi",
    ]


def test_confusion_is_drawn_with_every_class_named(metrics):
    axis = draw_confusion(metrics).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == NAMES
    assert [label.get_text() for label in axis.get_yticklabels()] == NAMES
    assert [text.get_text() for text in axis.texts] == list("100110100")


def test_wilson_interval():
    """The worked case of Newcombe (1998, Statistics in Medicine 17:857), 81 of 263: 0.2553 to 0.3662."""
    low, high = wilson_interval(pd.Series([81 / 263]), pd.Series([263]))
    assert low[0] == pytest.approx(0.2553, abs=5e-5)
    assert high[0] == pytest.approx(0.3662, abs=5e-5)


@pytest.mark.parametrize("count", [1, 2, 21])
def test_comparison_names_every_model_within_the_figure(metrics, statistics, count):
    names = [f"architecture_number_{number}" for number in range(count)]
    figure = draw_comparison(rank(statistics, *({**metrics, "architecture": name} for name in names)))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_yticklabels()
    assert sorted(label.get_text() for label in labels) == sorted(names)
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.x0 >= 0 for box in boxes)
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] for below, above in itertools.pairwise(heights))
