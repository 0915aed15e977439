"""What evaluation says of predictions that can be worked out by hand."""

import itertools
import logging

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from cifar10.contracts import Examples, Predictions, TrainedModel, digest
from cifar10.errors import InputError
from cifar10.pipelines.comparable import if_trained
from cifar10.pipelines.evaluation.nodes import compare_pairs, draw_confusion, explain, gatherer, predict, score
from cifar10.pipelines.reporting.nodes import answer, draw_comparison, draw_trade_offs, rank

NAMES = ["cat", "dog", "ship"]
RECORD = {
    "architecture": "vgg16",
    "version": "2026-01-01",
    "data_version": "a data version",
    "parameters": 7,
    "bytes": 2_500_000,
    "seconds": 1.5,
    "epochs": 3,
    "best_epoch": 2,
    "recipe": {"seed": 5},
    "recipe_hash": "abc",
    "versions": {"commit": "abc"},
    "hardware": "a machine",
    "precision": "float32",
    "initialisation": "random",
    "image_size": 32,
    "training_pictures": 8,
    "history": [],
}
NO_PAIRS = pd.DataFrame(columns=["first", "second", "told_apart"]).astype({"told_apart": bool})


def labelled(labels):
    return Examples(np.zeros((len(labels), 32, 32, 3), np.uint8), np.array(labels, np.uint8))


TRAIN, VAL, TEST = labelled([2, 2]), labelled([0, 1]), labelled([0, 1, 1, 2])
DIGESTS = {"train": digest(TRAIN), "val": digest(VAL), "test": digest(TEST)}


def scored(val, test, **changes):
    train = np.array([[0.1, 0.1, 0.8], [0.6, 0.1, 0.3]], np.float32)
    views = {name: changes.pop(name) for name in ("views", "val_averaged", "test_averaged") if name in changes}
    predictions = Predictions(train, val, test, {**RECORD, "digests": DIGESTS, **changes}, **views)
    return score(predictions, TRAIN, VAL, TEST, NAMES)


@pytest.fixture
def metrics():
    """Cats are recognised, one dog of two is taken for a cat, ships are never named."""
    test = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]], np.float32)
    val = np.array([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]], np.float32)
    return scored(val, test)


def gathered(statistics, *each):
    return gatherer([one["architecture"] for one in each if one])(
        statistics, *itertools.chain.from_iterable((one, None, "<svg>", "<svg>") for one in each if one)
    )


def test_scores_by_hand(metrics):
    assert metrics["accuracy"] == 0.5
    assert metrics["top2_accuracy"] == 0.75
    assert metrics["val_accuracy"] == 1.0
    assert metrics["train_accuracy"] == 0.5
    assert metrics["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.7, 0.1]).mean(), rel=1e-6)
    assert metrics["val_loss"] == pytest.approx(-np.log([0.9, 0.5]).mean(), rel=1e-6)
    assert metrics["train_loss"] == pytest.approx(-np.log([0.8, 0.3]).mean(), rel=1e-6)
    assert metrics["confusion"] == [[1, 0, 0], [1, 1, 0], [1, 0, 0]]  # true classes in rows
    expected = {"precision": 1 / 3, "recall": 1, "f1": 0.5, "support": 1, "roc_auc": 1.0}
    assert metrics["classes"]["cat"] == pytest.approx(expected)
    assert metrics["classes"]["dog"]["f1"] == pytest.approx(2 / 3)
    assert metrics["classes"]["ship"] == pytest.approx({**dict.fromkeys(expected, 0), "support": 1, "roc_auc": 0.5})
    assert metrics["precision"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert metrics["recall"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert metrics["f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert metrics["weighted_recall"] == metrics["accuracy"]
    assert metrics["weighted_f1"] == pytest.approx((0.5 + 2 * 2 / 3 + 0) / 4)
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == pytest.approx((0.1500, 0.8500), abs=1e-4)


def test_metrics_say_which_model_they_are_of(metrics):
    assert (metrics["model_version"], metrics["data_version"]) == ("2026-01-01", "a data version")
    assert (metrics["parameters"], metrics["training_seconds"], metrics["seed"]) == (7, 1.5, 5)
    assert (metrics["epochs"], metrics["best_epoch"], metrics["hardware"]) == (3, 2, "a machine")
    assert metrics["megabytes"] == 2.5


def test_test_time_augmentation_stands_beside_the_plain_figures(metrics):
    assert (metrics["views"], metrics["averaged_accuracy"], metrics["averaged_val_accuracy"]) == ("none", None, None)
    val, test = np.eye(3, dtype=np.float32)[[0, 0]], np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    plain = np.eye(3, dtype=np.float32)[[1, 1, 1, 1]]
    with_views = scored(plain[:2], plain, views="flip", val_averaged=val, test_averaged=test)
    assert (with_views["accuracy"], with_views["val_accuracy"]) == (0.5, 0.5)
    assert (with_views["averaged_accuracy"], with_views["averaged_val_accuracy"]) == (1.0, 0.5)


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
def parts():
    generator = np.random.default_rng(0)
    return [
        Examples(generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), (np.arange(n) % 3).astype(np.uint8))
        for n in (6, 5, 9)
    ]


def trained(network, parts):
    digests = {name: digest(part) for name, part in zip(("train", "val", "test"), parts, strict=True)}
    return TrainedModel(network, {**RECORD, "digests": digests})


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
def test_logits_of_the_views_are_averaged_by_their_weights(views, shares, network, parts):
    predictions = predict(trained(network, parts), *parts, views)
    images = parts[2].images
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    logits = 0
    for (shift, mirrored), share in shares.items():
        view = padded[:, 1 - shift : 33 - shift, 1 - shift : 33 - shift]
        logits = logits + share * np.log(network.predict(view[:, :, ::-1] if mirrored else view, verbose=0))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictions.test_averaged, expected, rtol=1e-4)
    np.testing.assert_allclose(predictions.test, network.predict(images, verbose=0), rtol=1e-5)
    assert predictions.train.shape == (6, 3)
    assert predictions.views == views


def test_other_pictures_than_the_model_was_trained_on_are_refused(network, parts):
    with pytest.raises(InputError, match="The train pictures have changed"):
        predict(trained(network, parts), parts[1], *parts[1:], "none")


def test_mistakes_are_shown_and_explained(network, parts):
    model = trained(network, parts)
    predictions = predict(model, *parts, "none")
    figure = explain(model, predictions, parts[2], NAMES)
    figure.draw_without_rendering()
    headings = [part._suptitle.get_text() for part in figure.subfigs]
    assert headings[0].startswith("Most confident mistakes")
    counts = [heading for heading in headings if "taken for" in heading and "times" in heading]
    wrong = (predictions.test.argmax(axis=1) != parts[2].labels).sum()
    assert 0 < sum(int(heading.split()[-2]) for heading in counts) <= wrong


def test_a_model_without_mistakes_is_drawn_too(network, parts):
    model = trained(network, parts)
    perfect = np.eye(3, dtype=np.float32)[parts[2].labels]
    figure = explain(model, Predictions(perfect, perfect, perfect, model.record), parts[2], NAMES)
    figure.draw_without_rendering()
    assert [part._suptitle.get_text() for part in figure.subfigs] == ["Right answers, and where it looked"]


def test_validation_ranks_and_test_does_not(metrics, statistics):
    better_on_test = {**metrics, "architecture": "simple_cnn", "val_accuracy": 0.5, "accuracy": 0.9}
    evaluations, portraits = gathered(statistics, better_on_test, metrics)
    leaderboard = rank(evaluations, NO_PAIRS, None)
    assert list(leaderboard.architecture) == ["vgg16", "simple_cnn"]
    assert list(leaderboard["rank"]) == [1, 2]
    assert {"accuracy", "val_accuracy", "f1", "parameters", "training_seconds", "model_version"} <= set(leaderboard)
    assert portraits == {name: {"confusion_matrix": "<svg>", "mistakes": "<svg>"} for name in leaderboard.architecture}


def test_shuffled_test_labels_change_no_decision(statistics):
    """Epochs and learning rates are decided in training, which has no test pictures. The rest is decided here."""
    generator = np.random.default_rng(0)
    chosen = []
    for test_labels in (TEST.labels, TEST.labels[::-1], generator.permutation(TEST.labels)):
        test = Examples(TEST.images, test_labels)
        digests = {**DIGESTS, "test": digest(test)}
        every = []
        for place, name in enumerate(("vgg16", "simple_cnn", "resnet50")):
            draw = np.random.default_rng(place).dirichlet(np.ones(3), 8).astype(np.float32)
            record = {**RECORD, "architecture": name, "digests": digests}
            every.append(score(Predictions(draw[:2], draw[2:4], draw[4:], record), TRAIN, VAL, test, NAMES))
        board = rank(gathered(statistics, *every)[0], NO_PAIRS, None)
        chosen.append(board[["architecture", "rank", "temperature", "best_epoch", "val_accuracy"]])
    for other in chosen[1:]:
        pd.testing.assert_frame_equal(chosen[0], other)


def test_a_model_trained_on_all_pictures_is_shown_without_a_rank(statistics):
    """Whatever it scores on validation, which it has seen."""
    good = np.eye(3, dtype="float32")[[0, 1, 1, 2]] * 0.7 + 0.1
    all_of_them = scored(good[:2], good, architecture="airbench94", recipe={"seed": 0, "train_on": "all"})
    usual = scored(good[1::-1], good)
    assert all_of_them["accuracy"] == 1.0
    assert all_of_them["val_accuracy"] is all_of_them["val_loss"] is all_of_them["temperature"] is None
    leaderboard = rank(gathered(statistics, all_of_them, usual)[0], NO_PAIRS, None)
    assert list(leaderboard.architecture) == ["vgg16", "airbench94"]
    assert list(leaderboard["rank"].isna()) == [False, True]
    assert answer(leaderboard, NO_PAIRS).startswith("vgg16 is the only model that can be ranked")
    draw_comparison(leaderboard)


def test_pairs_by_hand(statistics):
    def of(name, answers, **changes):
        probabilities = np.eye(3, dtype=np.float32)[answers]
        record = {**RECORD, "architecture": name, "digests": DIGESTS, **changes}
        return Predictions(probabilities[:2], probabilities[:2], probabilities, record)

    pairs = compare_pairs(
        statistics, TEST, of("a", [0, 1, 1, 2]), of("b", [0, 1, 0, 0]), None, of("c", [2, 0, 0, 0], data_version="f00")
    )
    assert len(pairs) == 1  # c is of other data
    row = pairs.iloc[0]
    assert (row["first"], row["second"], row.first_only, row.second_only) == ("a", "b", 2, 0)
    assert (row.difference, row.p_value, row.p_holm, row.told_apart) == (0.5, 0.5, 0.5, False)
    assert compare_pairs(statistics, TEST, None).empty


def test_answer_says_how_sure_it_is(metrics, statistics):
    second = {**metrics, "architecture": "simple_cnn", "val_accuracy": 0.9}
    evaluations = gathered(statistics, metrics, second)[0]

    def pairs(told_apart):
        row = {"first": "simple_cnn", "second": "vgg16", "difference": -0.02, "low": -0.03, "high": -0.01}
        return pd.DataFrame([{**row, "told_apart": told_apart}])

    alike = rank(evaluations, pairs(False), None)
    assert list(alike.like_the_first) == [False, True]
    assert answer(alike, pairs(False)).endswith("It cannot be told apart from simple_cnn.")
    sure = answer(rank(evaluations, pairs(True), None), pairs(True))
    assert "2.0 points ahead of the next, simple_cnn (95% interval of the difference: +1.0 to +3.0)" in sure


def test_seeds_of_the_same_recipe_and_data_are_summed_up(metrics, statistics):
    evaluations = gathered(statistics, metrics)[0]
    columns = ["architecture", "recipe_hash", "data_version", "accuracy"]
    seeds = pd.DataFrame(
        [("vgg16", "abc", "a data version", accuracy) for accuracy in (0.5, 0.52, 0.54)]
        + [("vgg16", "other", "a data version", 0.9), ("vgg16", "abc", "f00", 0.1)],
        columns=columns,
    )
    row = rank(evaluations, NO_PAIRS, seeds).iloc[0]
    assert (row.seeds, row.seeds_mean, row.seeds_sd) == (3, pytest.approx(0.52), pytest.approx(0.02))
    assert (row.seeds_low, row.seeds_high) == pytest.approx((0.52 - 0.04968, 0.52 + 0.04968), abs=1e-4)
    alone = rank(evaluations, NO_PAIRS, None).iloc[0]
    assert alone.seeds == 1
    assert alone.seeds_mean is None


def test_costs_of_another_version_are_left_out(metrics, statistics):
    costs = {"model_version": metrics["model_version"], "latency_ms": 5.0}
    for version, known in ((metrics["model_version"], True), ("an older one", False)):
        made = metrics.copy(), {**costs, "model_version": version}, None, None
        evaluations, _ = gatherer(["vgg16"])(statistics, *made)
        assert ("latency_ms" in evaluations[0]) == known
        draw_trade_offs(rank(evaluations, NO_PAIRS, None))


def test_models_of_other_data_are_left_out_and_said(metrics, statistics, caplog):
    other = {**metrics, "architecture": "simple_cnn", "data_version": "f00"}
    with caplog.at_level(logging.DEBUG, "cifar10"):
        assert [each["architecture"] for each in gathered(statistics, other, metrics)[0]] == ["vgg16"]
    assert "simple_cnn: left out, it was trained on data f00" in caplog.text


def test_nothing_to_compare_says_what_to_run(metrics, statistics):
    for nothing in ([None] * 4, [{**metrics, "data_version": "f00"}, None, None, None]):
        with pytest.raises(InputError, match="kedro run --pipelines=train_simple_cnn,evaluation"):
            gatherer(["vgg16"])(statistics, *nothing)


def test_untrained_and_foreign_models_yield_nothing(statistics, caplog):
    def name_of(predictions, suffix):
        return predictions.record["architecture"] + suffix

    node = if_trained(name_of, "vgg16", log=logging.getLogger("cifar10").info)
    predictions = Predictions(np.empty(0), np.empty(0), np.empty(0), RECORD)
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


@pytest.mark.parametrize("count", [1, 2, 21])
def test_names_of_the_figures_overlap_nowhere(metrics, statistics, count):
    names = [f"architecture_number_{number}" for number in range(count)]
    evaluations = gathered(statistics, *({**metrics, "architecture": name} for name in names))[0]
    board = rank(evaluations, NO_PAIRS, None)
    board["latency_ms"] = np.arange(count) + 1.0
    figure = draw_comparison(board)
    figure.draw_without_rendering()
    apart(figure.axes[0].get_yticklabels(), names)
    figure = draw_trade_offs(board)  # all at the same accuracy, at which their names begin
    figure.draw_without_rendering()
    apart([text for axis in figure.axes for text in axis.texts], names)


def apart(labels, names):
    assert sorted(label.get_text() for label in labels) == sorted(names)
    boxes = [Text.get_window_extent(label) for label in labels]  # without the lines that lead to them
    assert all(box.x0 >= 0 for box in boxes)
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] + 1 for below, above in itertools.pairwise(heights))
