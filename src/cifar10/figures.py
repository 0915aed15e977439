"""The figures of the project, one function each. They draw their arguments and read no files."""

import io
import itertools
import math
import re
import textwrap
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from cifar10.colours import BLUE, FEW, GREEN, GREY, ORANGE, PINK
from cifar10.confidence import describe_unsure, percent
from cifar10.contracts import (
    Bin,
    Epoch,
    Evaluation,
    Evaluations,
    Examples,
    Row,
    TrainedModel,
    Trial,
    Trials,
    machine_name,
)
from cifar10.metrics import pareto_front, wilson_interval

WIDTH = 5.5  # inches, of every figure: text of 10 points, matplotlib's default, has 9 px on a phone, 358 px wide
SAMPLES = 10  # images of each class
MAX_LINE = 60  # letters that fit beside the key of a legend across the figure
MAX_NAME_LENGTH = 18  # letters of a name in a line above an image or a panel
MIN_BIN = 10  # images: the 95% interval of fewer can span more than half of a reliability diagram
TINT = 0.7  # opacity of the strongest shade of a cell: black text is readable on it, and light text in dark mode
SETTINGS = threading.Lock()  # while matplotlib's settings, which all threads share, are changed


def samples(examples: Examples, class_names: list[str]) -> Figure:
    """Draw the first images of each class, one row per class."""
    figure = _figure(len(class_names) * 4.4 / SAMPLES)
    axes = figure.subplots(len(class_names), SAMPLES, squeeze=False)
    for label, (row, name) in enumerate(zip(axes, class_names, strict=True)):
        images = examples.images[examples.labels == label][:SAMPLES]
        for axis in row:
            axis.axis("off")
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image, interpolation="nearest")
        row[0].text(-0.25, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    return figure


def learning_curves(model: TrainedModel | Evaluation, name: str | None = None) -> Figure:
    """Draw accuracy and loss over the epochs of one training, and mark the epoch that was kept.

    Args:
        model: with the record of its training.
        name: in the title; None: its architecture.
    """
    record = model.record
    history = pd.DataFrame(record.history)
    validated = record.val_accuracy is not None
    kind = "mixed" if record.recipe.get("mixup") or record.recipe.get("cutmix") else "augmented"
    figure = _figure(
        3.2,
        f"{name or record.architecture}: epoch {record.best_epoch} kept, "
        + (f"validation accuracy {record.val_accuracy:.2%}" if validated else "trained on all images"),
    )
    panels = figure.subplots(1, 2)
    for axis, metric in zip(panels, ("accuracy", "loss"), strict=True):
        axis.plot(history.epoch, history[metric], color=GREY, marker=".", label=f"train, {kind} images")
        if validated:
            axis.plot(history.epoch, history[f"val_{metric}"], color=BLUE, marker=".", label="validation")
        axis.axvline(record.best_epoch, color=ORANGE, linestyle="--", linewidth=1, label="kept")
        for last in history.epoch[history.phase != history.phase.shift(-1)][:-1]:
            axis.axvspan(0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0, label=f"{history.phase[0]} only")
        axis.set(xlabel="epoch", ylabel=metric)
        _whole_numbers(axis)
        axis.grid(alpha=0.3)
    panels[0].yaxis.set_major_formatter(_percent)
    _legend(figure, panels[0], columns=2)
    return figure


def confusion_matrix(row: Row) -> Figure:
    """Draw the counts of test images, true classes in rows; the tint is the share of its row."""
    scores = row.first.metrics
    class_names, counts = list(scores.classes), np.array(scores.confusion)
    figure = _figure(5, f"{row.title}: test accuracy {scores.accuracy:.2%}")
    axis = figure.subplots()
    _cells(axis, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), counts, class_names, class_names, str)
    axis.set(xlabel="predicted", ylabel="true")
    return figure


def portraits(row: Row) -> dict[str, Figure]:
    """Draw what shows one row and needs no images, as `NAME_KIND`, labelled with the identity of its model."""
    drawn = {"confusion_matrix": confusion_matrix(row), "learning_curves": learning_curves(row.first, row.title)}
    for figure in drawn.values():
        figure.set_label(row.first.identity)
    return {f"{row.name}_{kind}": figure for kind, figure in drawn.items()}


def comparison(leaderboard: pd.DataFrame) -> Figure:
    """Draw the leaderboard, best on top: accuracy with its 95% interval, and what the training cost.

    If trainings ran on different machines, the colours of their bars tell on which.
    """
    colours = _machine_colours(leaderboard)
    figure = _figure(1.3 + 0.3 * len(leaderboard) + _height_of_names(colours))
    accuracy, minutes, size = figure.subplots(1, 3, sharey=True, width_ratios=(2, 1.1, 1.1))
    places = np.arange(len(leaderboard))

    test, val = leaderboard.accuracy, leaderboard.mean_val_accuracy
    ends = (test - leaderboard.accuracy_low, leaderboard.accuracy_high - test)
    accuracy.errorbar(test, places, xerr=ends, fmt="o", color=BLUE, capsize=3, label="test, 95% CI")
    if leaderboard.averaged_accuracy.notna().any():
        accuracy.plot(leaderboard.averaged_accuracy, places, "x", color=GREEN, label="test, views averaged")
    over = ", mean over seeds" if (leaderboard.seeds > 1).any() else ""
    accuracy.plot(val, places, "d", color=ORANGE, markerfacecolor="none", label=f"validation{over} (ranks)")
    accuracy.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    accuracy.xaxis.set_major_formatter(_percent)
    accuracy.set(xlabel="accuracy", yticks=places, yticklabels=leaderboard["name"], ylim=(len(places) - 0.5, -0.5))
    accuracy.grid(axis="x", alpha=0.3)
    _legend(figure, accuracy, columns=3)

    of_machines = [colours[machine] for machine in leaderboard.hardware] if len(colours) > 1 else GREY
    _bars(minutes, places, leaderboard.training_seconds / 60, "training,\nminutes", "{:,.1f}".format, of_machines)
    _bars(size, places, leaderboard.parameters / 1e6, "parameters,\nmillions", "{:,.2f}".format)
    _name_machines(figure, colours)
    return figure


def trade_offs(leaderboard: pd.DataFrame) -> Figure:
    """Draw test accuracy against latency, file size and training time; Pareto-optimal models are filled.

    A line runs from each name through all three panels, at the height of its accuracy. Times on different machines have
    different colours and are not compared, so of a machine that measured a single model none is filled.
    """
    costs = (
        ("latency_ms", "latency,\nms", 1, "measured_on"),
        ("megabytes", "file size,\nMB", 1, None),
        ("training_seconds", "training,\nminutes", 60, "hardware"),
    )
    colours = _machine_colours(leaderboard)
    height = max(3.4, 1.2 + 0.19 * len(leaderboard))
    compared = "" if len(colours) == 1 else "; times compared by machine"
    title = f"Accuracy against cost (filled: Pareto-optimal{compared})"
    figure = _figure(height + _height_of_names(colours), title)
    panels = figure.subplots(1, 3, sharey=True)
    for axis, (column, label, unit, machine) in zip(panels, costs, strict=True):
        known = leaderboard[leaderboard[column].notna()]
        values = known[column] / unit
        for gain in leaderboard.accuracy:
            axis.axhline(gain, color=GREY, linewidth=0.5, alpha=0.5)
        if machine and len(colours) > 1:
            for name in known[machine].unique():
                here = known[machine] == name
                _draw_front(axis, values[here], known.accuracy[here], colours[name], compared=here.sum() > 1)
        else:
            _draw_front(axis, values, known.accuracy, BLUE if len(colours) == 1 else GREY)
        axis.set(xlabel=label, xmargin=0.12)
        if values.max() > 5 * values.min():
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3) if values.max() < 30 * values.min() else (1,)))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.xaxis.set_major_locator(MaxNLocator(2))
        axis.xaxis.set_major_formatter("{x:,.6g}")
        axis.grid(axis="x", alpha=0.3)
    panels[0].yaxis.set_major_formatter(_percent)
    panels[0].set(ylabel="test accuracy")
    _name_at_the_right(panels[-1], leaderboard.accuracy.tolist(), leaderboard["name"].tolist(), 0.72 * height)
    _name_machines(figure, colours)
    return figure


def _draw_front(axis: Any, costs: pd.Series, gains: pd.Series, colour: str, compared: bool = True) -> None:
    """Draw models by cost and accuracy, those that are Pareto-optimal filled and connected, unless none is compared."""
    front = pd.Series(pareto_front(costs.tolist(), gains.tolist()) if compared else False, costs.index, dtype=bool)
    axis.plot(costs[~front], gains[~front], "o", color=colour, markerfacecolor="none")
    ordered = np.argsort(costs[front])
    axis.step(costs[front].iloc[ordered], gains[front].iloc[ordered], where="post", color=colour, linewidth=1)
    axis.plot(costs[front], gains[front], "o", color=colour)


def machines(leaderboard: pd.DataFrame) -> list[str]:
    """Return the machines on which times were measured, that of most of them first."""
    return pd.concat([leaderboard.hardware, leaderboard.measured_on]).dropna().value_counts().index.tolist()


def _machine_colours(leaderboard: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each machine on which times were measured."""
    return dict(zip(machines(leaderboard), itertools.chain(FEW, itertools.repeat(GREY)), strict=False))


def _name_machines(figure: Figure, colours: dict[str, str]) -> None:
    """Name the machines below the figure, unless there is only one."""
    if names := _names(colours):
        handles = [Patch(color=colour) for colour in names.values()]
        figure.legend(handles, names, loc="outside lower center", ncols=_columns(names), frameon=False)


def _height_of_names(colours: dict[str, str]) -> float:
    """Return the height in inches of the names of the machines."""
    names = _names(colours)
    lines = sum(1 + name.count("\n") for name in names)
    return 0.2 * math.ceil(lines / _columns(names))


def _names(colours: dict[str, str]) -> dict[str, str]:
    """Return the names of the machines, with their colours; of those that share one, that they are others."""
    if len(colours) < 2:
        return {}
    shared = list(colours.values()).count(GREY) > 1
    return {
        "others" if shared and colour == GREY else textwrap.fill(machine_name(name), MAX_LINE): colour
        for name, colour in colours.items()
    }


def _columns(names: Collection[str]) -> int:
    """Return in how many columns the names of a legend fit, which fills one column after the other."""
    lengths = [len(name) for name in names]
    half = math.ceil(len(lengths) / 2)
    return 2 if max(lengths[:half], default=0) + max(lengths[half:], default=0) <= MAX_LINE else 1


def overlaid_curves(evaluations: Evaluations) -> Figure:
    """Draw the validation accuracy of all rows over the epochs: a panel per row, with the other ones in grey."""
    rows = [row for row in evaluations.rows if row.val_accuracy is not None]
    curves = [pd.DataFrame(row.first.record.history).set_index("epoch").val_accuracy for row in rows]
    figure, panels = _panels(len(rows), 1.35)
    for axis, row, curve in zip(panels, rows, curves, strict=True):
        for other in curves:
            axis.plot(other, color=GREY, linewidth=0.6, alpha=0.6)
        axis.plot(curve, color=BLUE, linewidth=1.8)
        axis.plot(curve[curve.index == row.first.record.best_epoch], "o", color=BLUE, markersize=5)
        _title(axis, row.name)
        _whole_numbers(axis)
        axis.yaxis.set_major_formatter(_percent)
        axis.grid(alpha=0.3)
    figure.supxlabel("epoch", fontsize="medium")
    figure.supylabel("validation accuracy", fontsize="medium")
    return figure


def curves(histories: dict[str, list[Epoch]], metric: str) -> Figure:
    """Draw a metric of several trainings over each other: on validation, and dotted on train images.

    Args:
        histories: name -> its epochs, in the order of the colours; at most as many as `FEW` has.
        metric: `accuracy` or `loss`.
    """
    figure = _figure(3.6)
    axis = figure.subplots()
    for (name, epochs), colour in zip(histories.items(), FEW, strict=False):
        history = pd.DataFrame(epochs)
        axis.plot(history.epoch, history[metric], ":", color=colour, linewidth=1)
        if history[f"val_{metric}"].notna().any():
            axis.plot(history.epoch, history[f"val_{metric}"], color=colour, linewidth=1.8, label=name)
        else:
            axis.plot([], [], ":", color=colour, linewidth=1, label=f"{name}, train images alone")
    axis.set(xlabel="epoch", ylabel=metric)
    _whole_numbers(axis)
    if metric == "accuracy":
        axis.yaxis.set_major_formatter(_percent)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return figure


def calibration(evaluations: Evaluations) -> Figure:
    """Draw a reliability diagram per row, before and after temperature scaling, with 95% intervals (Wilson 1927).

    Bins of fewer than `MIN_BIN` images are left out.
    """
    figure, panels = _panels(len(evaluations.rows), 1.9)
    for axis, row in zip(panels, evaluations.rows, strict=True):
        scores = row.first.metrics
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        _draw_reliability(axis, scores.reliability, ORANGE, "uncalibrated")
        change = f"{scores.calibration_error:.1%}"
        if scores.calibrated_reliability:
            _draw_reliability(axis, scores.calibrated_reliability, BLUE, "temperature scaling")
            change += f" → {scores.calibrated_error:.1%}"
        _title(axis, row.name, change)
        axis.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), box_aspect=1)
    _legend(figure, *panels, columns=2)
    figure.supxlabel("confidence", fontsize="medium")
    figure.supylabel("accuracy", fontsize="medium")
    return figure


def _draw_reliability(axis: Any, bins: Sequence[Bin], colour: str, label: str) -> None:
    drawn = [each for each in bins if each["images"] >= MIN_BIN]
    confidence = [each["confidence"] for each in drawn]
    ends = [wilson_interval(each["accuracy"], each["images"]) for each in drawn]
    low, high = ([getattr(each, end) for each in ends] for end in ("low", "high"))
    axis.fill_between(confidence, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.plot(confidence, [each["accuracy"] for each in drawn], ".-", color=colour, linewidth=1, label=label)


def per_class(evaluations: Evaluations) -> Figure:
    """Draw the F1 score on test, one line per row and one column per class."""
    rows, classes = evaluations.rows, evaluations.class_names
    values = np.array([[row.first.metrics.classes[name]["f1"] for name in classes] for row in rows])
    lowest = min(values.min(), 0.5)
    figure = _figure(1.5 + 0.25 * len(rows), f"F1 score per class, test images, % (tint: from {lowest:.0%} to 100%)")
    tints = (values - lowest) / max(1 - lowest, 1e-9)
    _cells(figure.subplots(), tints, 100 * values, [row.name for row in rows], classes, "{:.0f}".format)
    return figure


def pairwise(evaluations: Evaluations) -> Figure:
    """Draw the differences in test accuracy, row minus column, in points; without a tint if not significant."""
    names = [row.name for row in evaluations.rows]
    differences, significant = np.zeros((2, len(names), len(names)))
    for pair in evaluations.pairs:
        first, second = names.index(pair.first), names.index(pair.second)
        differences[first, second], differences[second, first] = pair.difference, -pair.difference
        significant[first, second] = significant[second, first] = pair.significant
    reach = max(abs(differences).max(), 0.01)
    figure = _figure(
        1 + 0.24 * len(names),
        f"Difference in test accuracy, row minus column, in points\n"
        f"Blue: better, orange: worse, up to {100 * reach:.1f}; no tint: not significant",
    )
    shown = np.where(np.eye(len(names)), np.nan, 100 * differences)
    places = range(1, len(names) + 1)
    rows = [f"{name}  {place}" for name, place in zip(names, places, strict=True)]
    axis = figure.subplots()
    tints = significant * (0.15 * np.sign(differences) + 0.85 * differences / reach)  # the least can be seen, too
    _cells(axis, tints, shown, rows, list(map(str, places)), _points)
    return figure


def robustness(table: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Draw accuracy over severity, one panel per corruption; the first five in `order` in colours, the others grey."""
    corruptions = list(dict.fromkeys(table.corruption))
    figure, panels = _panels(len(corruptions), 1.8)
    names = [name for name in order if name in set(table["name"])]
    others = f"{len(names) - len(FEW)} other{'s' * (len(names) > len(FEW) + 1)}"
    for axis, corruption in zip(panels, corruptions, strict=True):
        for place, name in enumerate(names):
            curve = table[(table["name"] == name) & (table.corruption == corruption)].sort_values("severity")
            clean = float(curve.clean_accuracy.iloc[0])
            form, colour, width, label = (".-", FEW[place], 1.6, name) if place < len(FEW) else ("-", GREY, 0.8, others)
            (line,) = axis.plot([0, *curve.severity], [clean, *curve.accuracy], form, color=colour, linewidth=width)
            line.set(label=label, zorder=3 - place / len(names))  # the best in front
        _title(axis, corruption.replace("_", " "))
        axis.set(xticks=range(6))
        axis.grid(alpha=0.3)
        axis.yaxis.set_major_formatter(_percent)
    _legend(figure, panels[0], columns=2)
    figure.supxlabel("severity", fontsize="medium")
    figure.supylabel("test accuracy", fontsize="medium")
    return figure


def mistakes(title: str, rows: dict[str, list[tuple[np.ndarray, np.ndarray | None, str]]]) -> Figure:
    """Draw images under headings, with captions and, where given, Grad-CAM maps beside them.

    Args:
        title: of the figure.
        rows: heading -> (image, map of 0 to 1 or None, caption), uint8 (32, 32, 3) and float (32, 32). All images under
            a heading have a map, or none has. A map that is 0 everywhere is replaced by words.
    """
    cells = 8  # in a line: images, or half as many with their maps
    rows = {heading: images for heading, images in rows.items() if images}
    lines = {heading: -(-len(images) * (1 + (images[0][1] is not None)) // cells) for heading, images in rows.items()}
    heights = [
        0.3 + lines[heading] * (0.66 + 0.17 * (images[0][2].count("\n") + 1)) for heading, images in rows.items()
    ]
    figure = _figure(sum(heights) + 0.4, title)
    parts: Any = figure.subfigures(max(len(rows), 1), 1, height_ratios=heights or None, squeeze=False)
    for part, (heading, images) in zip(parts[:, 0], rows.items(), strict=False):
        part.suptitle(heading, fontsize="medium", x=0.01, ha="left")
        grid = iter(part.subplots(lines[heading], cells, squeeze=False).flat)
        for image, attention, caption in images:
            axis = next(grid)
            axis.imshow(image, interpolation="nearest")
            axis.set_title(caption, fontsize="medium", pad=2, x=0.5 if attention is None else 1.05)
            axis.axis("off")
            if attention is None:
                continue
            axis = next(grid)
            axis.axis("off")
            if attention.any():
                # One opaque image, because SVG would apply the opacity of an image in front of another one twice.
                grey, heat = image.mean(axis=2, keepdims=True) / 255, mpl.colormaps["inferno"](attention)[..., :3]
                axis.imshow(0.45 * grey + 0.55 * heat, interpolation="nearest")
            else:
                axis.text(0.5, 0.5, "no\nevidence\nfound", ha="center", va="center")
        for axis in grid:
            axis.axis("off")
    return figure


def predictions(table: pd.DataFrame, images: Sequence[tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Draw a row per image: the original, the network's input, and the five most probable classes.

    Args:
        table: one row per image, with `image`, `label`, `probability`, `unsure`, and one column per class.
        images: the original, uint8 (height, width, 3), and the network's input, (32, 32, 3), of each row.
        title: of the figure.
    """
    classes = [column for column in table.columns if column not in ("image", "label", "probability", "unsure")]
    figure = _figure(0.6 + 1.5 * len(images), title)
    grid = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1.2, 1, 1.5))
    for (original, network_input, bars), (_, row), (full, small) in zip(grid, table.iterrows(), images, strict=False):
        name = str(row.image)
        original.imshow(full)
        shown = name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}"
        _title(original, shown.replace("$", r"\$"))  # which would begin a formula
        network_input.imshow(small, interpolation="nearest")
        _title(network_input, "network input")
        for axis in (original, network_input):
            axis.axis("off")
        values = row[classes].astype(float).nlargest(5)
        _bars(bars, np.arange(len(values)), values, "", percent, colour=[BLUE, *[GREY] * (len(values) - 1)])
        if row.unsure:
            bars.set_title(textwrap.fill(f"unsure: {describe_unsure()}", 25), fontsize="medium", loc="left")
        bars.set_yticks(np.arange(len(values)), values.index)
        bars.set(xlim=(0, 1.6), ylim=(len(values) - 0.5, -0.5))
        for side in ("top", "right", "bottom"):
            bars.spines[side].set_visible(False)
    return figure


def versions(runs: pd.DataFrame) -> Figure:
    """Draw the accuracy of every version over time, one panel per architecture."""
    names = runs.groupby("architecture").val_accuracy.max().sort_values(ascending=False, kind="stable").index.tolist()
    figure, panels = _panels(len(names), 1.7, sharex=False)
    for axis, name in zip(panels, names, strict=True):
        of_one = runs[runs.architecture == name].sort_values("version").reset_index(drop=True)
        axis.plot(of_one.index + 1, of_one.accuracy, "o", color=BLUE, label="test")
        axis.plot(of_one.index + 1, of_one.val_accuracy, "d", color=ORANGE, markerfacecolor="none", label="validation")
        _title(axis, name)
        axis.set(xlim=(0.5, len(of_one) + 0.5))
        _whole_numbers(axis)
        axis.yaxis.set_major_formatter(_percent)
        axis.grid(alpha=0.3)
    _legend(figure, panels[0], columns=2)
    figure.supxlabel("version, oldest first", fontsize="medium")
    figure.supylabel("accuracy", fontsize="medium")
    return figure


def benchmark(table: pd.DataFrame) -> Figure:
    """Draw training images per second, fastest on top, beside PyTorch's if measured; and FLOPs per second."""
    table = table.dropna(subset="training").sort_values("training", ascending=False).astype({"batch_size": int})
    figure = _figure(1.6 + 0.42 * len(table))
    speed, work = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    places = np.arange(len(table))
    labels = [f"{row.architecture}\n{row.compute_dtype}, batch size {row.batch_size}" for row in table.itertuples()]
    with_torch = "torch" in table and table.torch.notna().any()
    height = 0.38 if with_torch else 0.6
    above = places - height / 2 if with_torch else places
    ours = speed.barh(above, table.training, height, color=BLUE, label="this project")
    speed.bar_label(ours, labels=[f"{value:,.0f}" for value in table.training], padding=3)
    if with_torch:
        theirs = speed.barh(places + height / 2, table.torch.fillna(0), height, color=GREY, label="PyTorch")
        texts = [
            "" if np.isnan(torch) else f"{torch:,.0f} (ratio {ratio:.2f})"
            for torch, ratio in zip(table.torch, table.ratio, strict=True)
        ]
        speed.bar_label(theirs, labels=texts, padding=3)
        _legend(figure, speed, columns=2)
    measured = table[["training", "torch"] if with_torch else ["training"]].to_numpy(float)
    low, high = np.nanmin(measured) / 2, np.nanmax(measured)
    room = 1.8 if with_torch else 0.7  # for the numbers, by the length of the longest bar
    speed.set(xscale="log", xlim=(low, high * (high / low) ** room), xlabel="training images per second, log scale")
    speed.set(yticks=places, yticklabels=labels, ylim=(len(places) - 0.5, -0.5))
    speed.xaxis.set_major_locator(NullLocator())
    speed.xaxis.set_minor_locator(NullLocator())
    _bars(work, places, table.gflops, "GFLOP/s", "{:,.0f}".format)
    figure.supxlabel(table.device.iloc[0], fontsize="medium")
    return figure


def tuning_history(trials: Trials) -> Figure:
    """Draw the validation accuracy of each trial in their order, and the best complete one so far."""
    figure = _figure(3.6, f"{trials.architecture}: {trials.summary}")
    axis = figure.subplots()
    _draw_trials(axis, trials, lambda trial: trial.number)
    complete = [trial for trial in trials.trials if trial.state == "complete"]
    if complete:
        best = np.maximum.accumulate([_accuracy(trial) for trial in complete])
        places = [*(trial.number for trial in complete), trials.trials[-1].number + 0.5]
        axis.step(places, [*best, best[-1]], where="post", color=ORANGE, label="best so far")
    for trial in trials.trials:
        if trial.state == "failed":
            axis.axvline(trial.number, color=PINK, linestyle=":", linewidth=1, label="failed")
    axis.set(xlabel="trial", ylabel="validation accuracy")
    _whole_numbers(axis)
    _legend(figure, axis, columns=3)
    return figure


def tuning_importance(trials: Trials) -> Figure:
    """Draw how much each option sets the best tenth of the complete trials apart from all of them."""
    shares = pd.Series(trials.importance, dtype=float).sort_values(ascending=False)
    figure = _figure(1.4 + 0.3 * max(len(shares), 1), f"{trials.architecture}: {trials.summary}")
    axis = figure.subplots()
    if shares.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "too few complete trials", ha="center", va="center")
        return figure
    _bars(
        axis,
        np.arange(len(shares)),
        shares,
        "importance: share in what sets\nthe best tenth of trials apart",
        "{:.2f}".format,
    )
    axis.set(yticks=range(len(shares)), yticklabels=list(shares.index), ylim=(len(shares) - 0.5, -0.5))
    return figure


def tuning_slices(trials: Trials) -> Figure:
    """Draw validation accuracy against each option that was tuned, one panel per option."""
    figure, panels = _panels(len(trials.space), 2, f"{trials.architecture}: {trials.summary}", sharex=False)
    for axis, (option, values) in zip(panels, trials.space.items(), strict=True):
        choices = values.get("of")

        def place(trial: Trial, option: str = option, choices: list | None = choices) -> Any:
            value = trial.options.get(option, np.nan)
            return choices.index(value) if choices and value in choices else value

        _draw_trials(axis, trials, place)
        axis.set(xlabel=option)
        if choices:
            labels = ["null" if each is None else str(each) for each in choices]
            axis.set_xticks(range(len(choices)), labels, rotation=90 if len(labels) * max(map(len, labels)) > 20 else 0)
            axis.set(xlim=(-0.5, len(choices) - 0.5))
            continue
        low, high = values["low"], values["high"]
        if values.get("log"):
            axis.set(xscale="log", xlim=(low / (high / low) ** 0.05, high * (high / low) ** 0.05))
            axis.xaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if high <= 8 * low else (1, 3) if high <= 30 * low else (1,))
            )
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set(xlim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
            axis.xaxis.set_major_locator(MaxNLocator(3, integer=isinstance(low, int) and high - low > 1))
    figure.supylabel("validation accuracy", fontsize="medium")
    _legend(figure, panels[0], columns=3)
    return figure


def _draw_trials(axis: Any, trials: Trials, place: Callable[[Trial], Any]) -> None:
    """Draw the validation accuracy of trials at these places: complete ones filled, the recipe that is tuned apart."""
    for label, colour, fill, wanted in (
        ("pruned", GREY, "none", lambda trial: trial.state == "pruned"),
        ("complete", BLUE, BLUE, lambda trial: trial.state == "complete" and trial.number),
        ("the recipe", GREEN, GREEN, lambda trial: trial.state == "complete" and not trial.number),
    ):
        chosen = [trial for trial in trials.trials if trial.val_accuracy is not None and wanted(trial)]
        marker = {"the recipe": "D"}.get(label, "o")
        axis.plot(
            [place(trial) for trial in chosen],
            [_accuracy(trial) for trial in chosen],
            marker,
            color=colour,
            markerfacecolor=fill,
            markersize=5,
            label=label if chosen else None,
        )
    axis.yaxis.set_major_formatter(_percent)
    axis.grid(alpha=0.3)


def _accuracy(trial: Trial) -> float:
    return trial.val_accuracy or 0.0


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG, with its label as the identifier; the same figure always gives the same text."""
    text = io.StringIO()
    with SETTINGS, mpl.rc_context({"svg.hashsalt": "cifar10"}):
        metadata = {"Date": None, "Identifier": figure.get_label() or None}
        figure.savefig(text, format="svg", metadata=metadata, transparent=True)
    return text.getvalue()


def _bars(
    axis: Any,
    places: np.ndarray,
    values: pd.Series,
    label: str,
    form: Callable[[float], str],
    colour: str | Sequence[str] = GREY,
) -> None:
    """Draw horizontal bars with their values at the ends, in place of ticks."""
    bars = axis.barh(places, values, height=0.6, color=colour)
    axis.bar_label(bars, labels=[form(value) for value in values], padding=3)
    axis.set(xlabel=label, xticks=(), xlim=(0, max(values.max() * 2.4, 1e-9)))
    axis.tick_params(left=False)


def _cells(
    axis: Any,
    shares: np.ndarray,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    form: Callable[[Any], str],
) -> None:
    """Draw a table: cells with a tint by their share, blue for 0 to 1, orange for -1 to 0, and their values.

    The tints are transparent, so that they look right on a light and on a dark page. Values are left out where the
    columns are too narrow for them.
    """
    colours = np.where(shares[..., None] < 0, to_rgb(ORANGE), to_rgb(BLUE))
    axis.imshow(np.dstack([colours, TINT * abs(shares)]), aspect="auto")
    room = 64 - max(map(len, rows))  # letters in a line of the table
    texts = {place: form(value) for place, value in np.ndenumerate(values) if not np.isnan(value)}
    if len(columns) * (max(map(len, texts.values()), default=0) + 0.5) <= room:
        for (row, column), text in texts.items():
            colour = "black" if values[row, column] else GREY
            axis.text(column, row, text, ha="center", va="center", color=colour)
    narrow = len(columns) * max(map(len, columns)) > room
    axis.set_xticks(range(len(columns)), columns, rotation=90 if narrow else 0)
    axis.set_yticks(range(len(rows)), rows)


def _name_at_the_right(axis: Any, heights: Sequence[float], names: Sequence[str], inches: float) -> None:
    """Write names in a column beside the axes of about that height, each connected to its own, without overlaps."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(np.asarray(heights, float))
    low, high = axis.get_ylim()
    shares = (np.asarray(heights, float)[order] - low) / (high - low)
    line = min(0.17 / inches, 1.0 / max(len(names), 1))  # the height of one of text, as a share of the axes
    # The positions closest to the heights that are at least a line apart: after subtracting the lines below each, they
    # only have to be non-decreasing, which is isotonic regression.
    lines = line * np.arange(len(names))
    places = isotonic_regression(shares - lines).x.clip(0, 1 - lines[-1]) + lines
    for share, place, index in zip(shares, places, order, strict=True):
        axis.annotate(
            names[index],
            (1, share),
            (10, place),
            xycoords="axes fraction",
            textcoords=("offset points", "axes fraction"),
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": GREY,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _title(axis: Any, *lines: str) -> None:
    """Write lines above a panel, and break long names at a `_` or `-`."""
    parts = (part for line in lines for part in re.findall(rf".{{1,{MAX_NAME_LENGTH}}}(?:(?<=[_-])|$)|.+", line))
    axis.set_title("\n".join(parts), fontsize="medium")


def _points(value: float) -> str:
    """Write a difference with its sign, in four letters."""
    return f"{value:+.1f}" if abs(value) < 9.95 else f"{value:+.0f}"


def _percent(value: float, _: float) -> str:
    """Write a fraction at a tick."""
    return f"{100 * value:.4g}%"


def _whole_numbers(axis: Any) -> None:
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))


def _legend(figure: Figure, *panels: Any, columns: int) -> None:
    """Name what the panels show, each once, above them, or below them if the figure has a title."""
    named = {label: handle for axis in panels for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    titled = bool(figure.get_suptitle())  # over which the layout would draw the legend
    place: Any = "outside lower center" if titled else "outside upper center"
    figure.legend(named.values(), named.keys(), loc=place, ncols=columns, frameon=False)


def _panels(count: int, height: float, title: str = "", sharex: bool = True) -> tuple[Figure, list[Any]]:
    """Make a figure of panels, up to three in a row, with a common vertical axis; the height in inches is a row's."""
    columns = max(min(3, count), 1)
    rows = max(-(-count // columns), 1)
    figure = _figure(height * rows + 0.7, title)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=True).flat)
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[max(count - columns, 0) : count]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:count]


def _figure(height: float, title: str = "") -> Figure:
    """Make a figure of that height in inches. Not through pyplot, which would keep it open after the node."""
    figure = Figure(figsize=(WIDTH, height), dpi=150, layout="constrained")
    if title:
        figure.suptitle(title, fontsize="medium", wrap=True)
    return figure
