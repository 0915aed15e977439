"""Figures can be read, whatever they show."""

import itertools
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifar10 import figures
from cifar10.colours import BLUE, GREEN, GREY, ORANGE
from cifar10.contracts import Examples
from cifar10.pipelines.reporting.formatting import COLOURS
from cifar10.pipelines.reporting.nodes import rank
from tests.helpers import (
    HISTORY,
    make_evaluation,
    make_evaluations,
    make_pair,
    make_record,
    make_row,
    make_trial,
    make_trials,
)

LOOKS_AT_FIGURES = True

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLASSES = [f"class {label}" for label in range(10)]
PERCENT = np.arange(1, 101).reshape(10, 10)  # so that every shade occurs


def luminance(colour):
    """Return the relative luminance of the Web Content Accessibility Guidelines."""
    values = np.array(to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(axis, text, page, ink):
    """Return the contrast ratio between a text and the cell behind it, on a page of that colour."""
    column, row = text.get_position()
    (image,) = axis.images
    *shade, opacity = image.get_array()[row, column]
    behind = opacity * np.array(shade) + (1 - opacity) * np.array(to_rgb(page))
    light, dark = sorted((luminance(ink), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def draw_confusion():
    counts = [[int(share), *[0] * 8, int(100 - share)] for share in np.linspace(1, 99, 10)]
    scores = {name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 100, "roc_auc": 0.5} for name in CLASSES}
    return figures.confusion_matrix(make_row(make_evaluation(classes=scores, confusion=counts)))


def draw_classes():
    models = [
        make_evaluation(
            f"model {row}",
            classes={
                name: {"precision": 0.5, "recall": 0.5, "f1": f1, "support": 100, "roc_auc": 0.5}
                for name, f1 in zip(CLASSES, values, strict=True)
            },
        )
        for row, values in enumerate(PERCENT / 100)
    ]
    return figures.per_class(make_evaluations(*models, class_names=CLASSES))


def draw_pairs():
    names = [f"model {place}" for place in range(10)]
    pairs = [
        make_pair(first, second, difference=0.01 * (place - other), significant=True)
        for place, first in enumerate(names)
        for other, second in enumerate(names)
        if place < other
    ]
    return figures.pairwise(make_evaluations(*map(make_evaluation, names), pairs=pairs))


@pytest.mark.parametrize("draw", [draw_confusion, draw_classes, draw_pairs])
@pytest.mark.parametrize(("page", "ink"), [("#ffffff", "#1c1c1c"), ("#16181b", "#e4e4e4")])
def test_numbers_contrast_with_their_cells_on_light_and_dark_pages(draw, page, ink):
    axis = draw().axes[0]
    numbers = [text for text in axis.texts if text.get_text() != "0"]
    assert len(numbers) >= 20
    assert {text.get_color() for text in numbers} == {"black"}  # which the page replaces by its ink
    assert min(contrast(axis, text, page, ink) for text in numbers) > 4.5


LONG = [f"mobilenetv2_imagenet-{place:04}" for place in range(4)]  # names as long as those of the leaderboard
RECORD = make_record(architecture="mobilenetv2_imagenet", history=HISTORY, class_names=CIFAR10)
EVALUATIONS = make_evaluations(
    *(make_row(make_evaluation(record=RECORD, class_names=CIFAR10), name=name) for name in LONG),
    pairs=[make_pair(*pair, difference=-0.123) for pair in itertools.combinations(LONG, 2)],
    class_names=CIFAR10,
)
BOARD = rank(EVALUATIONS, CIFAR10)
MACHINES = BOARD.assign(
    hardware=["Intel(R) Xeon(R) Platinum 8488C Processor at 2.4 GHz, 16 cores", "a", "a", "a"],
    measured_on=["a", "a", "b", "b"],
    accuracy=[0.93, 0.92, 0.91, 0.9],
    accuracy_low=0.89,
    accuracy_high=0.94,
    latency_ms=[2.0, 1.0, 4.0, 3.0],
    training_seconds=[60.0, 120.0, 180.0, 90.0],
    megabytes=[1.0, 2.0, 3.0, 4.0],
)
CORRUPTED = pd.DataFrame(
    [
        {"name": name, "corruption": corruption, "severity": severity, "accuracy": 0.5, "clean_accuracy": 0.9}
        for name in LONG
        for corruption in ("gaussian_noise", "jpeg", "brightness")
        for severity in (1, 2)
    ]
)
SPEEDS = pd.DataFrame(
    {"architecture": "mobilenetv2_imagenet", "compute_dtype": "bfloat16", "batch_size": 128, "training": [4e4, 2.0],
     "torch": [5e4, 1.0], "ratio": [0.8, 2.0], "gflops": [1234.0, 1.0], "device": "a machine"}
)  # fmt: skip
TRIALS = make_trials(make_trial(0), make_trial(1, "pruned", 0.6), make_trial(2, "failed", None), make_trial(3))
IMAGE, MAP = np.full((32, 32, 3), 99, np.uint8), np.eye(32)
PROBABILITIES = pd.DataFrame([np.full(10, 0.1)], columns=CIFAR10).assign(
    image="cat.jpg", label="cat", probability=0.1, unsure=True
)
RUNS = pd.DataFrame({"architecture": LONG, "version": "2026-01-01", "accuracy": 0.9, "val_accuracy": 0.9})
EVERY = {
    "samples": lambda: figures.samples(Examples(np.stack([IMAGE] * 20), np.arange(20) % 10), CIFAR10),
    "learning_curves": lambda: figures.learning_curves(EVALUATIONS.rows[0].first),
    "confusion_matrix": lambda: figures.confusion_matrix(EVALUATIONS.rows[0]),
    "comparison": lambda: figures.comparison(BOARD),
    "trade_offs": lambda: figures.trade_offs(BOARD),
    "comparison of machines": lambda: figures.comparison(MACHINES),
    "trade_offs of machines": lambda: figures.trade_offs(MACHINES),
    "overlaid_curves": lambda: figures.overlaid_curves(EVALUATIONS),
    "calibration": lambda: figures.calibration(EVALUATIONS),
    "per_class": lambda: figures.per_class(EVALUATIONS),
    "pairwise": lambda: figures.pairwise(EVALUATIONS),
    "robustness": lambda: figures.robustness(CORRUPTED, LONG),
    "mistakes": lambda: figures.mistakes(
        "a model",
        {"with maps": [(IMAGE, MAP, "airplane as\nautomobile 100%")] * 5, "without": [(IMAGE, None, "100%")] * 8},
    ),
    "predictions": lambda: figures.predictions(PROBABILITIES, [(IMAGE, IMAGE)], LONG[0]),
    "versions": lambda: figures.versions(RUNS),
    "benchmark": lambda: figures.benchmark(SPEEDS),
    "tuning_history": lambda: figures.tuning_history(TRIALS),
    "tuning_importance": lambda: figures.tuning_importance(TRIALS),
    "tuning_slices": lambda: figures.tuning_slices(TRIALS),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_can_be_read_on_a_phone(name):
    """It has one width and one type size, nothing is cut off at its sides, and neither captions nor numbers overlap."""
    figure = EVERY[name]()
    figure.draw_without_rendering()
    assert figure.get_figwidth() == figures.WIDTH
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert {text.get_fontsize() * 358 / (72 * figures.WIDTH) >= 9 for text in texts} == {True}
    assert len({text.get_fontsize() for text in texts}) == 1
    box = figure.get_tightbbox()
    assert box.x0 >= 0
    assert box.x1 <= figures.WIDTH
    drawn = [text for axis in figure.axes for text in (axis.title, *axis.texts) if text.get_text()]
    boxes = [Text.get_window_extent(text).padded(-1) for text in drawn]
    assert not any(first.overlaps(second) for first, second in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    "name", ["learning_curves", "confusion_matrix", "trade_offs", "trade_offs of machines", "pairwise", "robustness"]
)
def test_every_colour_of_a_figure_has_one_for_dark_mode(name):
    used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", figures.to_svg(EVERY[name]())))
    assert used
    assert used <= {colour.lower() for colour in COLOURS}


def test_times_on_different_machines_are_not_compared():
    """Only models of one machine can be better than one another; one on a machine of its own is not filled."""
    latency, size, minutes = (filled(axis) for axis in figures.trade_offs(MACHINES).axes)
    assert latency == {1.0: BLUE, 2.0: BLUE, 3.0: ORANGE, 4.0: ORANGE}
    assert size == {1.0: GREY}
    assert minutes == {1.5: BLUE, 2.0: BLUE}  # of 1, on a machine of its own, 1.5, 2 and 3
    bars = figures.comparison(MACHINES).axes[1].patches
    assert [to_hex(bar.get_facecolor()).upper() for bar in bars] == [GREEN, BLUE, BLUE, BLUE]

    one = MACHINES.assign(hardware="a", measured_on="a")
    assert [set(filled(axis).values()) for axis in figures.trade_offs(one).axes] == [{BLUE}] * 3
    assert not figures.trade_offs(one).legends


def test_more_machines_than_colours_share_one():
    board = pd.concat([MACHINES.assign(hardware=str(number), measured_on=str(number)) for number in range(9)])
    (legend,) = figures.trade_offs(board).legends
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2", "3", "4", "others"]


def filled(axis):
    """Return the colour of each filled point by its place on the horizontal axis."""
    points = [line for line in axis.lines if line.get_marker() == "o" and line.get_markerfacecolor() != "none"]
    return {x: line.get_color() for line in points for x in line.get_xdata()}


def test_a_map_without_evidence_is_replaced_by_words():
    figure = figures.mistakes("a model", {"with maps": [(IMAGE, MAP, "cat"), (IMAGE, 0 * MAP, "dog")]})
    assert [len(axis.images) for axis in figure.axes[:4]] == [1, 1, 1, 0]
    assert [text.get_text() for text in figure.axes[3].texts] == ["no\nevidence\nfound"]


def test_bins_of_few_images_are_not_drawn():
    bins = [{"images": images, "confidence": images / 1000, "accuracy": 0.5} for images in (1, 9, 10, 949)]
    figure = figures.calibration(make_evaluations(make_evaluation(reliability=bins, calibrated_reliability=None)))
    _, curve = figure.axes[0].lines
    assert list(curve.get_xdata()) == [0.01, 0.949]
    (interval,) = figure.axes[0].collections
    assert interval.get_paths()[0].contains_points([(0.01, 0.25), (0.949, 0.48)]).all()
    assert not interval.get_paths()[0].contains_points([(0.948, 0.4)]).any()


@pytest.mark.parametrize(("count", "shown"), [(4, True), (21, False)])
def test_numbers_are_left_out_where_they_would_overlap(count, shown):
    names = [f"mobilenetv2_imagenet-{place:04}" for place in range(count)]
    pairs = [make_pair(*pair, difference=-0.123) for pair in itertools.combinations(names, 2)]
    rows = [make_row(make_evaluation(record=RECORD), name=name) for name in names]
    (axis,) = figures.pairwise(make_evaluations(*rows, pairs=pairs)).axes
    assert {text.get_text() for text in axis.texts} == ({"-12", "+12"} if shown else set())
    assert [label.get_text() for label in axis.get_yticklabels()][:2] == [f"{names[0]}  1", f"{names[1]}  2"]
    assert [label.get_text() for label in axis.get_xticklabels()][:2] == ["1", "2"]


def test_every_curve_is_named_and_none_is_cut_off():
    figure = figures.overlaid_curves(EVALUATIONS)
    assert [axis.get_title().replace("\n", "") for axis in figure.axes] == LONG
    for axis in figure.axes:
        low, high = axis.get_ylim()
        assert all(low < value < high for line in axis.lines for value in line.get_ydata())


def test_predictions_are_drawn_most_probable_first_and_long_names_shortened():
    probabilities = np.array([[0.1, 0.6, 0.05, 0.15, 0.04, 0.03, 0.03, 0, 0, 0], np.full(10, 0.1)])
    table = pd.DataFrame(probabilities, columns=CLASSES)
    table.insert(0, "image", ["cat.jpg", f"{'on_holiday_' * 6}cat.jpg"])
    table.insert(1, "label", [CLASSES[1], CLASSES[0]])
    table.insert(2, "probability", [0.6, 0.1])
    table.insert(3, "unsure", [False, True])
    images = np.zeros((20, 30, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    figure = figures.predictions(table, [images, images], "a model")
    figure.draw_without_rendering()
    first, _, bars, second = figure.axes[:4]
    assert [label.get_text() for label in bars.get_yticklabels()] == [CLASSES[place] for place in (1, 3, 0, 2, 4)]
    assert [text.get_text() for text in bars.texts] == ["60.0%", "15.0%", "10.0%", "5.0%", "4.0%"]
    assert [axis.get_title(loc="left") for axis in (bars, figure.axes[5])] == [
        "", "unsure: less certain than\nfor 95% of its validation\nimages",
    ]  # fmt: skip
    assert first.get_title() == "cat.jpg"
    assert second.get_title().startswith("…")
    assert second.get_title().endswith("_cat.jpg")
    assert second.title.get_window_extent().x0 >= 0


def test_file_names_are_no_formulas():
    table = pd.DataFrame(np.full((1, 10), 0.1), columns=CLASSES)
    table = table.assign(image="$_$.png", label=CLASSES[0], probability=0.1, unsure=False)
    images = np.zeros((20, 30, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    figures.predictions(table, [images], "a model").draw_without_rendering()


@pytest.mark.parametrize(("low", "high"), [(2, 20), (0.05, 0.6), (16, 128), (0.02, 0.08), (1e-5, 0.1)])
def test_logarithmic_options_have_at_least_two_labels(low, high):
    trials = make_trials(make_trial(0, options={"momentum": (low + high) / 2}))
    trials = trials.model_copy(update={"space": {"momentum": {"low": low, "high": high, "log": True}}})
    figure = figures.tuning_slices(trials)
    figure.draw_without_rendering()
    axis = figure.axes[0]
    shown = [
        float(label.get_text().replace("\N{MINUS SIGN}", "-")) for label in axis.get_xticklabels() if label.get_text()
    ]
    assert len([value for value in shown if low <= value <= high]) >= 2


def test_versions_are_drawn_best_first_and_those_without_validation_last():
    runs = pd.DataFrame(
        {"architecture": ["vgg16", "vgg19", "deep_cnn", "simple_cnn"], "version": "2026-01-01", "accuracy": 0.9,
         "val_accuracy": [None, 0.8, 0.9, 0.8]}
    )  # fmt: skip
    titles = [axis.get_title(loc="left") or axis.get_title() for axis in figures.versions(runs).axes]
    assert titles == ["deep_cnn", "simple_cnn", "vgg19", "vgg16"]


class Slow(Figure):
    """A figure that begins to draw after this number of seconds."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.subplots().plot([1, 2])

    def savefig(self, *args, **options):
        time.sleep(self.seconds)
        super().savefig(*args, **options)


def test_figures_that_threads_draw_at_the_same_time_are_always_the_same():
    """As with ThreadRunner: the second is still drawn when the first is complete."""
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(figures.to_svg, [Slow(0.1), Slow(0.5)])
    assert first == second == figures.to_svg(Slow(0))
