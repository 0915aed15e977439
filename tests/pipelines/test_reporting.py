"""From evaluations to leaderboard and report, with as many models as there are architectures."""

import itertools
import json
import time

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from matplotlib.text import Text

from cifar10 import figures
from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Costs, Examples, Predictions, Statistics
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.files import EvaluationsDataset, FiguresDataset, StatisticsDataset
from cifar10.pipelines.benchmark.throughput import peak_memory
from cifar10.pipelines.evaluation.nodes import compare_pairs
from cifar10.pipelines.evaluation.scoring import score
from cifar10.pipelines.reporting.nodes import list_pairs, rank, summarise, write_markdown, write_report
from tests.helpers import (
    CLASS_NAMES,
    COSTS,
    make_evaluation,
    make_evaluations,
    make_pair,
    make_record,
    run,
)

VERSION = "2026-01-01T00.00.00.000Z"


def test_validation_ranks_and_test_does_not():
    evaluations = make_evaluations(
        make_evaluation("vgg16", val_accuracy=0.9, accuracy=0.8),
        make_evaluation("simple_cnn", val_accuracy=0.5, accuracy=0.9),
    )
    board = rank(evaluations)
    assert list(board.architecture) == ["vgg16", "simple_cnn"]
    assert list(board["rank"]) == [1, 2]
    assert list(board.accuracy) == [0.8, 0.9]
    assert {"val_accuracy", "f1", "latency_ms", "parameters", "training_seconds", "model_version", "commit"} <= set(
        board
    )


def test_a_model_trained_on_all_images_is_listed_without_a_rank():
    evaluations = make_evaluations(
        make_evaluation("vgg16"),
        make_evaluation("airbench94", val_accuracy=None, val_loss=None, temperature=None, accuracy=0.91),
    )
    board = rank(evaluations)
    assert list(board["rank"].isna()) == [False, True]
    assert summarise(board, evaluations).startswith("vgg16 is the only ranked model: test accuracy 90.00%")
    figures.comparison(board)
    alone = make_evaluations(evaluations.models[1])
    assert summarise(rank(alone), alone).startswith("No model can be ranked")


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("difference", "order"), [(0.02, "ahead of"), (-0.02, "behind")])
def test_summary_says_how_certain_the_difference_is(swapped, difference, order):
    models = make_evaluation("vgg16", accuracy=0.9288), make_evaluation("simple_cnn", val_accuracy=0.9)

    def summary(significant):
        names, sign = (("simple_cnn", "vgg16"), -1) if swapped else (("vgg16", "simple_cnn"), 1)
        ends = sorted(sign * (difference + each) for each in (-0.01, 0.01))
        pair = make_pair(*names, difference=sign * difference, low=ends[0], high=ends[1], significant=significant)
        evaluations = make_evaluations(*models, pairs=[pair])
        board = rank(evaluations)
        assert list(board.ties_with_first) == [False, not significant]
        return summarise(board, evaluations)

    assert "test accuracy 92.88% (95% CI 88.0 to 92.0)" in summary(True)
    assert summary(False).endswith("not significantly different from that of simple_cnn.")
    low, high = 100 * difference - 1, 100 * difference + 1
    assert summary(True).endswith(
        f"it is 2.0 points {order} the next model, simple_cnn (95% CI of the difference {low:+.1f} to {high:+.1f}), "
        "which is significant."
    )


def test_seeds_of_one_recipe_are_summarised():
    evaluations = make_evaluations(
        make_evaluation("vgg16", accuracy=0.5),
        make_evaluation("vgg19", val_accuracy=0.8),
        other_seeds=[make_evaluation("vgg16", accuracy=0.52), make_evaluation("vgg16", accuracy=0.54)],
    )
    board = rank(evaluations).set_index("architecture")
    row = board.loc["vgg16"]
    assert (row.seeds, row.seeds_mean, row.seeds_sd) == (3, pytest.approx(0.52), pytest.approx(0.02))
    assert (row.seeds_low, row.seeds_high) == pytest.approx((0.52 - 0.04968, 0.52 + 0.04968), abs=1e-4)
    assert board.seeds["vgg19"] == 1
    assert pd.isna(board.seeds_mean["vgg19"])


def test_pairs_and_markdown_tables():
    evaluations = make_evaluations(
        make_evaluation("vgg16"), make_evaluation("vgg19"), pairs=[make_pair("vgg16", "vgg19", significant=False)]
    )
    assert list_pairs(evaluations).iloc[0].to_dict() == evaluations.pairs[0].model_dump()
    assert list(list_pairs(make_evaluations(make_evaluation())).columns) == list(make_pair("a", "b").model_dump())
    lines = write_markdown(rank(evaluations)).splitlines()
    assert lines[2] == "| `vgg16` | 91.00% | 90.00% (88.00 to 92.00) |  | 0.300 | 7 | 1.5 ms | 2 min |"
    assert lines[3].startswith("| `vgg19` ≈ |")


@pytest.mark.parametrize("classes", [3, 20])
def test_report_of_another_number_of_classes(classes):
    names = [f"class {number}" for number in range(classes)]
    models = [make_evaluation(name, class_names=names) for name in ("vgg16", "vgg19")]
    evaluations = make_evaluations(*models, pairs=[make_pair("vgg16", "vgg19")], class_names=names)
    for draw in (figures.per_class, figures.calibration, figures.pairwise, figures.overlaid_curves):
        if draw is not figures.overlaid_curves:
            draw(evaluations).draw_without_rendering()
    axis = figures.confusion_matrix(models[0]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == names
    page = write_report(rank(evaluations), evaluations, {}, None, *[None] * 7)
    assert "vgg16 has the best validation accuracy of 2 models" in page


def test_confusion_matrix_names_every_class():
    evaluation = make_evaluation(class_names=["a", "b", "c"], confusion=[[1, 0, 0], [1, 1, 0], [1, 0, 0]])
    axis = figures.confusion_matrix(evaluation).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axis.texts] == list("100110100")


@pytest.mark.parametrize("count", [1, 2, 21])
def test_names_in_the_figures_do_not_overlap(count):
    names = [f"architecture_number_{number}" for number in range(count)]
    models = [
        make_evaluation(name, costs=COSTS.model_copy(update={"latency_ms": place + 1.0}))
        for place, name in enumerate(names)
    ]
    board = rank(make_evaluations(*models))
    figure = figures.comparison(board)
    figure.draw_without_rendering()
    check_apart(figure.axes[0].get_yticklabels(), names)
    figure = figures.trade_offs(board)  # all at the same accuracy, at which their names begin
    figure.draw_without_rendering()
    check_apart([text for axis in figure.axes for text in axis.texts], names)


def check_apart(labels, names):
    assert sorted(label.get_text() for label in labels) == sorted(names)
    boxes = [Text.get_window_extent(label) for label in labels]  # without the lines that lead to them
    assert all(box.x0 >= 0 for box in boxes)
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] + 1 for below, above in itertools.pairwise(heights))


def make_models(root, statistics, images, names, seed=0):
    """Write what reporting reads, as if models had been trained and evaluated on images of noise."""
    generator = np.random.default_rng(seed)

    def split(count):
        noise = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        return Examples(noise, (np.arange(count) % 10).astype(np.uint8))

    splits = {"train": split(images), "val": split(images // 2), "test": split(images)}
    digests = {name: each.digest for name, each in splits.items()}
    current: Statistics = statistics.model_copy(update={"digests": digests})
    StatisticsDataset(filepath=str(root / "03_primary/statistics.json")).save(current)

    store = PredictionStore(root / "07_model_output/predictions")
    difficulty = {name: generator.normal(size=len(each)) for name, each in splits.items()}
    evaluations = []
    for place, name in enumerate(names):
        skill = 1.9 - 0.04 * place

        def predict(which, skill=skill):
            labels = splits[which].labels
            logits = generator.normal(size=(len(labels), 10))
            logits[np.arange(len(labels)), labels] += 1.8 * (
                skill + difficulty[which] + 0.5 * generator.normal(size=len(labels))
            )
            powers = np.exp(2 * logits)
            return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

        epochs = 5 + 2 * place
        history = [
            {
                "phase": "training", "epoch": epoch, "accuracy": 0.9 - 0.5 / epoch, "loss": 1 / epoch,
                "val_accuracy": 0.95 - 0.01 * place - 0.5 / epoch, "val_loss": 1 / epoch, "learning_rate": 0.1,
                "seconds": 10.0, "joules": None,
            }
            for epoch in range(1, epochs + 1)
        ]  # fmt: skip
        record = make_record(
            architecture=name, data_version=current.data_version, digests=digests, epochs=epochs, best_epoch=epochs,
            parameters=int(10 ** (5 + place / 10)), training_seconds=60.0 * (place + 1), history=history,
            training_examples=images,
        )  # fmt: skip
        predictions = Predictions(predict("train"), predict("val"), predict("test"))
        store.save(name, VERSION, predictions)
        costs = Costs(
            flops=10**7 * (place + 1),
            latency_ms=1.5 * 1.2**place,
            throughput=3000 / (place + 1),
            measured_on="a machine",
        )
        metrics = score(predictions, *splits.values(), CLASS_NAMES, trained_on_val=False)
        evaluation = make_evaluation(version=VERSION, record=record, costs=costs)
        evaluations.append(evaluation.model_copy(update={"metrics": metrics, "megabytes": 10 ** (place / 10)}))
    evaluations.sort(key=lambda each: -each.metrics.val_accuracy)
    pairs = compare_pairs(evaluations, store, splits["test"])
    version = Version(None, VERSION)
    EvaluationsDataset(filepath=str(root / "08_reporting/evaluations.json"), version=version).save(
        make_evaluations(*evaluations, pairs=pairs)
    )
    portraits = {f"{each.architecture}_confusion_matrix": figures.confusion_matrix(each) for each in evaluations}
    FiguresDataset(filepath=str(root / "08_reporting/portraits"), version=version).save(portraits)


def latest(root, name):
    return max((root / "08_reporting" / name).glob(f"*/{name}"))


@pytest.mark.slow
def test_all_architectures_within_a_minute(tmp_path, statistics, capsys):
    """10,000 test images each."""
    make_models(tmp_path, statistics, 10_000, ARCHITECTURES)
    started = time.perf_counter()
    run(tmp_path, "reporting")
    seconds, peak = time.perf_counter() - started, peak_memory() / 1e9
    with capsys.disabled():
        print(f"\nreporting on {len(ARCHITECTURES)} models: {seconds:.0f} s, at most {peak:.1f} GB in this process")
    assert seconds < 60
    assert peak < 2
    board = pd.read_csv(latest(tmp_path, "leaderboard.csv"))
    assert list(board["rank"]) == list(range(1, 22))
    first = json.loads(latest(tmp_path, "evaluations.json").read_text())["models"][0]["record"]["architecture"]
    assert first == board.architecture[0]
