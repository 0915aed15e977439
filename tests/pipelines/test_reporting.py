"""From evaluations to leaderboard and report, with as many models as there are architectures."""

import base64
import html
import itertools
import json
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifar10 import figures
from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Costs, Examples, Predictions, Statistics
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.cifar10_c import COMMON, EXTRA
from cifar10.datasets.files import EvaluationsDataset, FiguresDataset, StatisticsDataset, save_svg
from cifar10.errors import InputError
from cifar10.pipelines.benchmark.throughput import peak_memory
from cifar10.pipelines.reporting.advice import caveat
from cifar10.pipelines.reporting.nodes import (
    DRAWN,
    draw_robustness,
    labelled,
    list_pairs,
    rank,
    summarise,
    write_markdown,
    write_report,
)
from cifar10.scoring import compare, score
from cifar10.training.identity import ENGINE_VERSION
from tests.helpers import (
    CLASS_NAMES,
    COSTS,
    make_evaluation,
    make_evaluations,
    make_pair,
    make_record,
    make_row,
    run,
)

LOOKS_AT_FIGURES = True

VERSION = "2026-01-01T00.00.00.000Z"


def leaderboard(evaluations):
    return rank(evaluations, evaluations.class_names)


def report_page(evaluations, portraits=None, robustness=None, drawn=None, class_names=None):
    names = class_names or evaluations.class_names
    described = ("a data set", "A description of it.")
    figures = drawn or [None] * len(DRAWN)
    return write_report(evaluations, names, *described, training_commands, portraits or {}, robustness, *figures)


def training_commands(trainings):
    return [f"kedro run --pipelines=train_{name}" for name, _ in trainings]


def report(*given, **options):
    """Return the page as plain text, without its head."""
    page = report_page(*given, **options)
    text = re.sub(r"<(script|head)>.*?</\1>|<[^>]+>", " ", page.replace("<wbr>", ""), flags=re.DOTALL)
    return " ".join(html.unescape(text).split())


def markdown(evaluations, robustness=None, folder=None):
    return write_markdown(evaluations, evaluations.class_names, "a data set", robustness, folder)


def test_validation_ranks_and_test_does_not():
    evaluations = make_evaluations(
        make_evaluation("vgg16", val_accuracy=0.9, accuracy=0.8),
        make_evaluation("simple_cnn", val_accuracy=0.5, accuracy=0.9),
    )
    board = leaderboard(evaluations)
    assert list(board.architecture) == list(board["name"]) == ["vgg16", "simple_cnn"]
    assert list(board["rank"]) == [1, 2]
    assert list(board.accuracy) == [0.8, 0.9]
    assert list(board.mean_val_accuracy) == [0.9, 0.5]
    assert set(board.evaluations) == {evaluations.digest}
    identity = {"recipe_hash", "fingerprint", "engine_version", "compute_dtype", "data_version", "identity", "versions"}
    assert identity | {"f1", "latency_ms", "parameters", "training_seconds", "model_version", "commit"} <= set(board)


UNRANKED = dict.fromkeys(("val_accuracy", "val_loss", "temperature", "calibrated_error", "calibrated_reliability"))


def test_a_model_trained_on_all_images_is_listed_without_a_rank():
    everything = make_evaluation(
        "airbench94",
        record=make_record(architecture="airbench94", recipe={"train_on": "all"}),
        accuracy=0.91,
        **UNRANKED,
    )
    evaluations = make_evaluations(make_evaluation("vgg16"), everything)
    board = leaderboard(evaluations)
    assert list(board["rank"].isna()) == [False, True]
    assert summarise(evaluations).startswith("vgg16 is the only ranked model, and has a test accuracy of 90.00%")
    figures.comparison(board)
    figures.calibration(evaluations)
    text = report(evaluations)
    for sentence in (
        "The ranked models were selected on validation images only: the epoch that is kept of each model, the "
        "temperature by which its probabilities are calibrated, and the "
        "ranking. airbench94 was trained on the validation images, too: the last epoch was kept, and there is neither "
        "a rank nor a temperature.",
        "n/a: trained on the validation images, too, and so without a rank.",
        "validation images included",
    ):
        assert sentence in text
    alone = make_evaluations(everything)
    assert summarise(alone).startswith("No model can be ranked")
    text = report(alone)
    assert "airbench94 was trained on the validation images, too" in text
    for untrue in ("selected on validation images", "Learning curves", "temperature scaling"):
        assert untrue not in text
    text = report(make_evaluations(make_evaluation()))
    for untrue in ("n/a: trained", "The ranked models", "trained on the validation images", "without a rank"):
        assert untrue not in text


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("difference", "order"), [(0.02, "ahead of"), (-0.02, "behind")])
def test_summary_says_how_certain_the_difference_is(swapped, difference, order):
    models = make_evaluation("vgg16", accuracy=0.9288), make_evaluation("simple_cnn", val_accuracy=0.9)

    def summary(significant):
        names, sign = (("simple_cnn", "vgg16"), -1) if swapped else (("vgg16", "simple_cnn"), 1)
        ends = sorted(sign * (difference + each) for each in (-0.01, 0.01))
        pair = make_pair(*names, difference=sign * difference, low=ends[0], high=ends[1], significant=significant)
        evaluations = make_evaluations(*models, pairs=[pair])
        assert list(leaderboard(evaluations).ties_with_first) == [False, not significant]
        return summarise(evaluations)

    assert "a test accuracy of 92.88% (95% CI 88.0 to 92.0)" in summary(True)
    once = " With one seed each, this compares trainings, not architectures."
    assert summary(False).endswith(f"not significantly different from that of simple_cnn.{once}")
    low, high = 100 * difference - 1, 100 * difference + 1
    assert summary(True).endswith(
        f"it is 2.0 points {order} the next model, simple_cnn (95% CI of the difference {low:+.1f} to {high:+.1f}), "
        f"which is significant.{once}"
    )


def seeds_of(architecture, *accuracies, **changes):
    """Return a row with a seed for each of these test accuracies; the record of the last one is changed."""
    evaluations = []
    for seed, accuracy in enumerate(accuracies):
        different = changes if seed == len(accuracies) - 1 else {}
        record = make_record(architecture=architecture, recipe={"seed": seed}, **different)
        evaluations.append(make_evaluation(version=f"2026-01-0{seed + 1}", record=record, accuracy=accuracy))
    return make_row(*evaluations)


@pytest.mark.parametrize(
    ("counts", "architectures", "sentences"),
    [
        ((1, 1), ("vgg16", "vgg19"), ["With one seed each, this compares trainings, not architectures."]),
        ((2, 1), ("vgg16", "vgg16"), ["With fewer than 3 seeds each, this compares trainings, not recipes."]),
        ((3, 1), ("vgg16", "vgg19"), ["With one seed for one of them, this compares trainings, not architectures."]),
        (
            (3, 4),
            ("vgg16", "vgg19"),
            ["Significance is that of the trainings with the lowest seed; the leaderboard has the means over seeds."],
        ),
    ],
)
def test_a_comparison_of_few_seeds_says_so(counts, architectures, sentences):
    rows = [seeds_of(name, *[0.5] * count) for name, count in zip(architectures, counts, strict=True)]
    assert list(caveat(rows)) == sentences


def test_seeds_of_one_recipe_are_summarised():
    row = seeds_of("vgg16", 0.5, 0.52, 0.54)
    evaluations = make_evaluations(row, make_evaluation("vgg19", val_accuracy=0.8), pairs=[make_pair("vgg16", "vgg19")])
    board = leaderboard(evaluations).set_index("name")
    line = board.loc["vgg16"]
    assert (line.seeds, line.seeds_mean, line.seeds_sd) == (3, pytest.approx(0.52), pytest.approx(0.02))
    assert (line.seeds_low, line.seeds_high) == pytest.approx((0.52 - 0.04968, 0.52 + 0.04968), abs=1e-4)
    assert (line.seed_numbers, line.seed_versions) == ("0 1 2", "2026-01-01 2026-01-02 2026-01-03")
    assert (line.accuracy, line.model_version, line.differs) == (0.5, "2026-01-01", "")
    assert board.seeds["vgg19"] == 1
    assert pd.isna(board.seeds_mean["vgg19"])
    assert summarise(evaluations).startswith(
        "vgg16 has the best validation accuracy of 2 models (91.00%, mean over 3 seeds), and with seed 0 a test "
        "accuracy of 50.00% (95% CI"
    )
    text = report(evaluations)
    assert "52.00% 3 seeds, SD 2.00 points, 95% CI 47.03 to 56.97 " in text
    assert "2026-01-03 2 91.00% 54.00%" in text
    assert "Everything else about this model is of seed 0." in text
    assert "52.00% (3 seeds, SD 2.00 points, 95% CI 47.03 to 56.97) |" in markdown(evaluations)
    assert "| validation, mean over seeds |" in markdown(evaluations)
    assert "| validation |" in markdown(make_evaluations(make_evaluation()))


def test_equal_results_of_all_seeds_have_no_interval():
    assert "10.00% (3 seeds, SD 0.00 points, all equal, which gives no 95% CI) |" in markdown(
        make_evaluations(seeds_of("vgg16", 0.1, 0.1, 0.1))
    )


def test_the_interval_of_two_seeds_is_not_computed():
    evaluations = make_evaluations(seeds_of("vgg16", 0.5, 0.54))
    (line,) = leaderboard(evaluations).to_dict("records")
    assert (line["seeds"], line["seeds_mean"], line["seeds_low"]) == (2, pytest.approx(0.52), None)
    assert "52.00% 2 seeds, SD 2.83 points, a 95% CI takes 3 " in report(evaluations)


def test_what_differs_besides_the_seed_is_named_beside_the_mean():
    row = seeds_of(
        "vgg16", 0.5, 0.52, 0.54, versions={"commit": "def", "keras": "4"}, hardware="another", onednn=False, xla=True,
        initial_weights="imagenet", parameters=8, sources="another hash",
    )  # fmt: skip
    differs = (
        "commit abc, def; keras 3, 4; hardware a machine, another; oneDNN on, off; XLA off, on; "
        "initial weights random, imagenet; parameters 7, 8"
    )
    board = leaderboard(make_evaluations(row))
    assert board.differs[0] == differs
    text = report(make_evaluations(row))
    assert f"95% CI 47.03 to 56.97; they also differ in {differs} " in text
    assert f"Besides the seed, these trainings differ in {differs}." in text
    assert differs in markdown(make_evaluations(row))


def test_older_versions_are_listed_and_in_no_mean():
    older = make_evaluation("vgg16", "2025-01-01", accuracy=0.1)
    evaluations = make_evaluations(make_row(make_evaluation("vgg16"), older=(older,)))
    assert leaderboard(evaluations).seeds[0] == 1
    assert "2025-01-01 (older, in no mean) 0 91.00% 10.00%" in report(evaluations)


def recipe_row(name, accuracy, recipe, **changes):
    record = make_record(architecture=name.split("-")[0], recipe=recipe, **changes)
    return make_row(make_evaluation(version=name, record=record, val_accuracy=accuracy), name=name)


def test_rows_of_one_architecture_say_how_their_recipes_differ():
    """An option that an older record does not have is at its default."""
    rows = [
        recipe_row("vgg16-0123", 0.9, {"epochs": 30}),
        recipe_row(
            "vgg16-9876", 0.4, {"epochs": 3, "examples": 640, "seed": 1, "cutout": 0}, fingerprint="fedcba987654"
        ),
        recipe_row("vgg19", 0.3, {"epochs": 5}),
    ]
    evaluations = make_evaluations(
        *rows, pairs=[make_pair("vgg16-0123", "vgg16-9876"), make_pair("vgg16-0123", "vgg19")]
    )
    board = leaderboard(evaluations)
    assert list(board.recipe) == [
        "examples null, epochs 30, network 0f1e2d3c", "examples 640, epochs 3, network fedcba98", "",
    ]  # fmt: skip
    assert "vgg16-9876 examples 640, epochs 3, network fedcba98 40.00%" in report(evaluations)
    assert "| `vgg16-9876` (examples 640, epochs 3, network fedcba98) | 40.00% |" in markdown(evaluations)


def test_pairs_and_markdown_tables():
    evaluations = make_evaluations(
        make_evaluation("vgg16"), make_evaluation("vgg19"), pairs=[make_pair("vgg16", "vgg19", significant=False)]
    )
    assert list_pairs(evaluations).iloc[0].to_dict() == evaluations.pairs[0].model_dump()
    assert list(list_pairs(make_evaluations(make_evaluation())).columns) == list(make_pair("a", "b").model_dump())
    lines = markdown(evaluations).splitlines()
    assert lines[:4] == ["# Leaderboard: a data set", "", summarise(evaluations), ""]
    assert lines[4:7] == [
        "| rank | model | validation | test (95% CI) | log loss | parameters | latency, ms | seed | epoch kept "
        "| minutes | trained on | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | `vgg16` | 91.00% | 90.00% (88.00 to 92.00) | 0.300 | 7 | 1.5 | 0 | 2 of 3 | 1.5 | a machine | abc |",
    ]
    assert lines[7].startswith("| 2 | `vgg19` ≈ |")
    assert "![" not in markdown(evaluations)
    shown = re.findall(r"!\[.+\]\((.+)\)", markdown(evaluations, folder="figures"))
    assert shown == [f"figures/{name}.png" for name in ("comparison", "trade_offs", "overlaid_curves")]
    with_robustness = markdown(evaluations, corrupted(("vgg16", "vgg16 2026-01-01")), "figures")
    assert "](figures/robustness.png)" in with_robustness


def test_tables_begin_with_what_ranks_and_have_six_digits():
    row = make_evaluation("vgg16", val_accuracy=0.9123456789, accuracy=2 / 3)
    evaluations = make_evaluations(row, make_evaluation("vgg19"), pairs=[make_pair("vgg16", "vgg19", p_value=1 / 3e9)])
    board, pairs = leaderboard(evaluations), list_pairs(evaluations)
    columns = "rank,name,mean_val_accuracy,accuracy,accuracy_low,accuracy_high,architecture,"
    assert board.to_csv(index=False).startswith(columns)
    assert board.to_csv(index=False).splitlines()[1].startswith("1,vgg16,0.912346,0.666667,0.88,0.92,vgg16,")
    assert pairs.p_value.tolist() == [3.33333e-10]
    links = dict(re.findall(r'download="(.+?)" href="data:text/csv;base64,(.+?)"', report_page(evaluations)))
    assert {name: base64.b64decode(link).decode() for name, link in links.items()} == {
        "leaderboard.csv": board.to_csv(index=False),
        "pairs.csv": pairs.to_csv(index=False),
    }


@pytest.mark.parametrize(
    ("spreads", "explained", "shown"),
    [
        ((None, None), "with Keras, on the machine of the training (vgg19: another).", ["1.5", "1.5"]),
        ((1.2, None), "with Keras, with their 5th and 95th percentiles where they were recorded, on the machine of the "
         "training (vgg19: another).", ["1.5 (1.2 to 9.0)", "1.5"]),
        ((1.2, 1.3), "with Keras, with their 5th and 95th percentiles, on the machine of the training (vgg19: another"
         ").", ["1.5 (1.2 to 9.0)", "1.5 (1.3 to 9.0)"]),
    ],
)  # fmt: skip
def test_latency_is_shown_with_its_spread_and_machine(spreads, explained, shown):
    models = []
    for name, low, machine in zip(("vgg16", "vgg19"), spreads, ("a machine", "another"), strict=True):
        spread = {"latency_low_ms": low, "latency_high_ms": low and 9.0, "measured_on": machine}
        models.append(make_evaluation(name, costs=COSTS.model_copy(update=spread)))
    evaluations = make_evaluations(*models, pairs=[make_pair("vgg16", "vgg19")])
    sentence = f"Latency: the median of repeated predictions of one image {explained}"
    text, page = report(evaluations), markdown(evaluations)
    assert sentence in text
    assert sentence in page
    assert [line.split(" | ")[6] for line in page.splitlines()[6:8]] == shown
    assert f"vgg16 {shown[0]} 3,000 10 2.50 2 min n/a a machine vgg19 {shown[1]} 3,000" in text
    assert "Measured on" not in report(make_evaluations(models[0]))


def test_the_page_says_what_the_data_are_and_how_to_train_each_model_again():
    page = report_page(make_evaluations(make_evaluation()))
    assert "<title>1 model on a data set</title>" in page
    text = report(make_evaluations(make_evaluation()))
    assert text.startswith("1 model on a data set vgg16 is the only ranked model")
    assert "Data: A description of it. Data version a data versi." in text
    assert "Recipe 0123456789ab : epochs 3; all other options at their default" in text
    assert "Train it again kedro run --pipelines=train_vgg16" in text
    assert '<th class="rank">Rank</th>' in page


def test_the_command_of_a_model_names_jax_and_a_later_engine():
    record = make_record(engine_version=0, versions={"commit": "abc", "keras": "3.15.1", "jax": "0.11.2"})
    text = report(make_evaluations(make_evaluation(record=record)))
    assert "Train it again KERAS_BACKEND=jax kedro run --pipelines=train_vgg16" in text
    assert f"; today's engine is version {ENGINE_VERSION}, by which the same recipe gives another model" in text
    text = report(make_evaluations(make_evaluation(record=make_record(engine_version=ENGINE_VERSION))))
    assert "KERAS_BACKEND" not in text
    assert "today's engine" not in text


def test_columns_that_would_be_empty_are_left_out():
    views = {"views": "flip", "averaged_accuracy": 0.93, "averaged_loss": 0.2, "averaged_val_accuracy": 0.94}
    everything = make_record(architecture="vgg19", recipe={"train_on": "all"}, versions={"commit": None})
    assert "commit" not in markdown(make_evaluations(make_evaluation(record=everything, **UNRANKED)))
    page = markdown(make_evaluations(make_evaluation("vgg16", **views), make_evaluation(record=everything, **UNRANKED)))
    heading, _, first, second = (line.split(" | ") for line in page.splitlines()[4:8])
    assert heading[4] == "test, views averaged"
    assert (first[4], second[4]) == ("93.00%", "")
    assert second[0] == "| -"
    assert second[-1] == "n/a |"
    assert "mean over seeds" not in page


@pytest.mark.parametrize("views", [("flip", "flip"), ("flip", "flip_and_shift")])
def test_views_are_named_beside_the_accuracy_where_they_differ(views):
    averaged = {"averaged_accuracy": 0.93, "averaged_loss": 0.2, "averaged_val_accuracy": 0.94}
    with_views = (
        make_evaluation(name, views=each, **averaged) for name, each in zip(("vgg16", "vgg19"), views, strict=True)
    )
    pairs = [make_pair(*pair) for pair in itertools.combinations(("vgg16", "vgg19", "resnet50"), 2)]
    page = report_page(make_evaluations(*with_views, make_evaluation("resnet50"), pairs=pairs))
    differ = len(set(views)) > 1
    assert f"copies of it ({'flip or flip and shift' if differ else 'flip'}): test-time" in page
    cells = re.findall(r'<td data-value="0.93">93.00%(.*?)</td>', page)
    assert cells == (["<small>flip</small>", "<small>flip and shift</small>"] if differ else ["", ""])


def test_what_was_not_run_is_named():
    names = list(ARCHITECTURES)
    pairs = [make_pair(*pair) for pair in itertools.combinations(names, 2)]
    evaluations = make_evaluations(*map(make_evaluation, names[2:]), pairs=pairs)
    assert "Not run here: simple_cnn, batchnorm_cnn." in markdown(evaluations)
    assert "Not run here: simple_cnn, batchnorm_cnn." in report(evaluations)
    everything = make_evaluations(*map(make_evaluation, names), pairs=pairs)
    assert "Not run" not in markdown(everything) + report(everything)


def test_every_figure_points_to_the_remarks():
    remarked = make_evaluation("vgg16").model_copy(update={"remark": "Its weights were rounded."})
    evaluations = make_evaluations(remarked, make_evaluation("vgg19"), pairs=[make_pair("vgg16", "vgg19")])
    assert list(leaderboard(evaluations).remark) == ["Its weights were rounded.", ""]
    page, drawn = markdown(evaluations), [as_svg(labelled(figures.calibration)(evaluations))]
    text = report(
        evaluations, robustness=corrupted(("vgg16", remarked.identity)), drawn=[*[None] * 3, *drawn, *[None] * 3]
    )
    footnote = "† vgg16: Its weights were rounded."
    assert footnote in page
    assert "| `vgg16`† |" in page
    assert text.count(footnote) == 1
    assert "See the remarks on vgg16†." in text  # below the figure
    assert "vgg16† has the best validation accuracy" in text
    plain = re.sub(r"Confusion matrix of vgg16|† vgg16: |vgg16:", "", page + text).replace("`vgg16`†", "vgg16†")
    assert not re.search(r"(?<![\w-])vgg16(?![\w†-])", plain)


@pytest.mark.parametrize("classes", [3, 20])
def test_report_of_another_number_of_classes(classes):
    names = [f"class {number}" for number in range(classes)]
    models = [make_evaluation(name, class_names=names) for name in ("vgg16", "vgg19")]
    evaluations = make_evaluations(*models, pairs=[make_pair("vgg16", "vgg19")], class_names=names)
    for draw in (figures.per_class, figures.calibration, figures.pairwise):
        draw(evaluations).draw_without_rendering()
    axis = figures.confusion_matrix(evaluations.rows[0]).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == names
    assert "vgg16 has the best validation accuracy of 2 models" in report(evaluations)


def test_other_class_names_are_refused():
    evaluations = make_evaluations(make_evaluation())
    message = "The latest evaluation has other class names than class_names: class 9 is posts, not cats"
    others = [*CLASS_NAMES[:-1], "cats"]
    for report_on in (rank, lambda evaluations, names: report_page(evaluations, class_names=names)):
        with pytest.raises(InputError, match=message):
            report_on(evaluations, others)


def as_svg(figure):
    """Return a figure as its dataset loads it."""
    with tempfile.TemporaryDirectory() as folder:
        save_svg(figure, Path(folder) / "figure.svg")
        return (Path(folder) / "figure.svg").read_text()


def portrait(row):
    figure = Figure()
    figure.set_label(row.first.identity)
    return figure


def test_figures_of_other_evaluations_or_models_are_left_out(caplog):
    """An evaluation that was killed before its portraits leaves older ones, and so does a partial report."""
    pairs = [make_pair("vgg16", "vgg19")]
    evaluations, earlier = (
        make_evaluations(make_evaluation("vgg16", accuracy=accuracy), make_evaluation("vgg19"), pairs=pairs)
        for accuracy in (0.9, 0.89)
    )

    def draw(current, earlier):
        of_one, of_other = current.rows[0].first.identity, earlier.rows[1].first.identity
        portraits = {}
        for name, label in (
            ("vgg16_mistakes", of_one),
            ("vgg16_confusion_matrix", "another"),
            ("vgg19_mistakes", of_other),
        ):
            figure = Figure()
            figure.set_label(label)
            portraits[name] = as_svg(figure)
        board, calibration = leaderboard(earlier), labelled(figures.calibration)(current)
        return portraits, [as_svg(labelled(figures.comparison)(board)), None, None, as_svg(calibration), *[None] * 3]

    portraits, drawn = draw(evaluations, earlier)
    page = report_page(evaluations, portraits, None, drawn)
    shown = set(re.findall(r'alt="([^"]+)"', page))
    assert shown == {"Mistakes of vgg16", "Mistakes of vgg19", "Accuracy against confidence, for each model"}
    (warning,) = caplog.messages
    assert warning.startswith("The report lacks figures, because an earlier or interrupted run has left none, or those")
    assert (
        ": comparison, vgg16_confusion_matrix, vgg16_learning_curves, vgg19_confusion_matrix, vgg19_learning" in warning
    )
    missing = "The latest evaluation has not drawn the confusion matrix and the mistakes of this model."
    assert page.count(missing) == 2
    kinds = ("confusion_matrix", "learning_curves", "mistakes")
    complete = {f"{row.name}_{kind}": as_svg(portrait(row)) for row in evaluations.rows for kind in kinds}
    assert missing not in report(evaluations, complete)


def corrupted(*models, **changes):
    """Return a table of robustness, of models by name and identity."""
    lines = [
        {"name": name, "identity": identity, "corruption": corruption, "severity": severity,
         "accuracy": 0.5 + place / 10, "clean_accuracy": 0.9, "images": 40, **changes}
        for place, (name, identity) in enumerate(models)
        for corruption in ("blur", "noise")
        for severity in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(lines)


@pytest.mark.parametrize("missing", [None, "fog", "spatter"])
def test_errors_on_cifar10_c_are_beside_the_accuracies_on_other_corruptions(missing):
    """Their mean over the common corruptions is that of the literature; without one of these, there is none."""
    evaluations = make_evaluations(make_evaluation("vgg16"))
    own = corrupted(("vgg16", "vgg16 2026-01-01")).assign(suite="project")
    lines = [
        {**own.iloc[0], "suite": "CIFAR-10-C", "corruption": name, "severity": severity, "images": 10_000,
         "accuracy": 0.9 - severity / 10 - (name in EXTRA) / 100}
        for name in (*COMMON, *EXTRA) if name != missing
        for severity in range(1, 6)
    ]  # fmt: skip
    text = report(evaluations, robustness=pd.concat([own, pd.DataFrame(lines)]))
    assert "vgg16 90.00% 50.00%" in text  # of the project's corruptions
    assert "On 40 random test images" in text
    assert f"mean of 15 {'n/a' if missing == 'fog' else '40.00%'} gaussian noise 40.00%" in text
    assert ("spatter (extra) 41.00%" in text) == (missing != "spatter")
    assert ("fog 40.00%" in text) == (missing != "fog")

    def undated(table):
        return re.sub(r"Created \S+ \S+ UTC", "", report(evaluations, robustness=table))

    without = undated(own)
    assert "mean of 15" not in without
    assert undated(own.drop(columns="suite")) == without


def test_robustness_is_joined_by_the_identity_of_the_model(caplog):
    """A row may have had another name, and its architecture another version."""
    evaluations = make_evaluations(
        make_evaluation("vgg16"), make_evaluation("vgg19"), pairs=[make_pair("vgg16", "vgg19", significant=False)]
    )
    table = corrupted(
        ("vgg16-0123", "vgg16 2026-01-01"), ("vgg19", "vgg19 2025-01-01"), ("resnet50", "resnet50 2026-01-01")
    )
    (figure,) = draw_robustness(table, evaluations)
    text = report(evaluations, robustness=table, drawn=[*[None] * 6, as_svg(figure)])
    assert "vgg16 90.00% 50.00%" in text
    assert "On 40 random test images" in text
    assert "Not evaluated on corrupted images: vgg19." in text
    assert "resnet50 " not in text  # nor a row of it
    assert "robustness" not in caplog.text

    later = corrupted(("vgg16", "vgg16 2026-01-01"), clean_accuracy=0.8)  # evaluated again, but not drawn
    page = report_page(evaluations, {}, later, [*[None] * 6, as_svg(figure)])
    assert "Test accuracy over the severity" not in page
    assert "80.00%" in page
    assert "or data: robustness, " in caplog.text
    for nothing in (None, corrupted(("vgg19", "vgg19 2025-01-01"))):
        assert list(draw_robustness(nothing, evaluations)) == []
        caplog.clear()
        assert "Robustness" not in report(evaluations, robustness=nothing, drawn=[*[None] * 6, as_svg(figure)])
        assert "robustness" not in caplog.text  # nothing to draw, so nothing is missing


def test_confusion_matrix_names_every_class():
    evaluation = make_evaluation(class_names=["a", "b", "c"], confusion=[[1, 0, 0], [1, 1, 0], [1, 0, 0]])
    axis = figures.confusion_matrix(make_row(evaluation)).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in axis.texts] == list("100110100")


@pytest.mark.parametrize(("count", "machines"), [(1, 1), (2, 1), (21, 1), (21, 9)])
def test_names_in_the_figures_do_not_overlap(count, machines):
    names = [f"architecture_number_{number}" for number in range(count)]
    machine = "a processor with a long name, {} cores".format
    models = [
        make_evaluation(
            name, costs=COSTS.model_copy(update={"latency_ms": place + 1.0, "measured_on": machine(place % machines)})
        )
        for place, name in enumerate(names)
    ]
    board = leaderboard(make_evaluations(*models))
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
            training_examples=images, training_digest=digests["train"],
        )  # fmt: skip
        predictions = Predictions(f"{name} {VERSION}", predict("train"), predict("val"), predict("test"))
        costs = Costs(
            flops=10**7 * (place + 1),
            latency_ms=1.5 * 1.2**place,
            throughput=3000 / (place + 1),
            measured_on="a machine",
        )
        metrics = score(
            predictions,
            splits["val"].labels,
            splits["test"].labels,
            CLASS_NAMES,
            train_accuracy=0.95,
            train_loss=0.2,
            trained_on_val=False,
        )
        evaluation = make_evaluation(version=VERSION, record=record, costs=costs)
        store.save(evaluation, predictions)
        evaluations.append(evaluation.model_copy(update={"metrics": metrics, "megabytes": 10 ** (place / 10)}))
    rows = [make_row(each) for each in evaluations]
    compared = compare(
        rows, current.data_version, CLASS_NAMES, splits["test"].labels, lambda each: store.load(each).test
    )
    version = Version(None, VERSION)
    EvaluationsDataset(filepath=str(root / "08_reporting/evaluations.json"), version=version).save(compared)
    portraits = {f"{row.name}_confusion_matrix": figures.confusion_matrix(row) for row in rows}
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
    first = json.loads(latest(tmp_path, "evaluations.json").read_text())["rows"][0]["name"]
    assert first == board.architecture[0]
