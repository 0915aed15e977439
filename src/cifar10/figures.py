"""The figures of the project, one function each. They draw their arguments and read no files."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from cifar10.confidence import describe_unsure, percent
from cifar10.contracts import Evaluations, Examples, Row, TrainedModel, Trial, Trials
from cifar10.metrics import pareto_front

# From the palette of Okabe and Ito (2008), which is safe for all kinds of colour vision.
BLUE, ORANGE, GREEN, PINK, SKY, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#999999"
FEW = (BLUE, ORANGE, GREEN, PINK, SKY)  # for the best models; more colours could not be distinguished
MAX_NAME_LENGTH = 30  # letters of a file name shown above its image
DARK = "#111111"  # for text on a coloured cell, which looks the same in dark mode


def samples(examples: Examples, class_names: list[str], columns: int = 10) -> Figure:
    """Draw the first images of each class, one row per class."""
    figure = _figure(columns * 0.62 + 1.4, len(class_names) * 0.62)
    axes = figure.subplots(len(class_names), columns, squeeze=False)
    for label, (row, name) in enumerate(zip(axes, class_names, strict=True)):
        images = examples.images[examples.labels == label][:columns]
        for axis in row:
            axis.axis("off")
        for axis, image in zip(row, images, strict=False):
            axis.imshow(image, interpolation="nearest")
        row[0].text(-0.25, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    return figure


def learning_curves(trained: TrainedModel) -> Figure:
    """Draw accuracy and loss over the epochs of one training, and mark the epoch that was kept."""
    record = trained.record
    history = pd.DataFrame(record.history)
    figure = _figure(9, 3.6)
    validated = record.val_accuracy is not None
    figure.suptitle(
        f"{record.architecture}: epoch {record.best_epoch} kept, "
        + (f"validation accuracy {record.val_accuracy:.2%}" if validated else "trained on all images")
    )
    for axis, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        axis.plot(history.epoch, history[metric], color=GREY, marker=".", label="train, augmented images")
        if validated:
            axis.plot(history.epoch, history[f"val_{metric}"], color=BLUE, marker=".", label="validation")
        axis.axvline(record.best_epoch, color=ORANGE, linestyle="--", linewidth=1, label="kept")
        for last in history.epoch[history.phase != history.phase.shift(-1)][:-1]:
            axis.axvspan(0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0, label=f"{history.phase[0]} only")
        axis.set(xlabel="epoch", ylabel=metric)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.axes[0].legend(loc="lower right")
    return figure


def confusion_matrix(row: Row) -> Figure:
    """Draw the counts of test images, true classes in rows; the shade is the share of its row."""
    scores = row.first.metrics
    class_names, counts = list(scores.classes), np.array(scores.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(7.2, 6.4)
    axis = figure.subplots()
    cells = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    shades = cells.to_rgba(shares)
    for (true, predicted), count in np.ndenumerate(counts):
        colour = _ink_on(shades[true, predicted]) if count else "lightgrey"
        axis.text(predicted, true, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    places = range(len(class_names))
    axis.set(title=f"{row.title}: test accuracy {scores.accuracy:.2%}", xlabel="predicted", ylabel="true")
    axis.set_xticks(places, class_names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(places, class_names)
    figure.colorbar(cells, label="share of the true class", format=PercentFormatter(1.0), shrink=0.8)
    return figure


def comparison(leaderboard: pd.DataFrame) -> Figure:
    """Draw the leaderboard, best on top: accuracy with its 95% interval, and what the training cost."""
    figure = _figure(10, 1.9 + 0.42 * len(leaderboard))
    accuracy, minutes, size = figure.subplots(1, 3, sharey=True, width_ratios=(2.2, 1, 1))
    places = np.arange(len(leaderboard))

    test, val = leaderboard.accuracy, leaderboard.mean_val_accuracy
    ends = (test - leaderboard.accuracy_low, leaderboard.accuracy_high - test)
    accuracy.errorbar(test, places, xerr=ends, fmt="o", color=BLUE, capsize=3, label="test, 95% CI")
    if leaderboard.averaged_accuracy.notna().any():
        accuracy.plot(leaderboard.averaged_accuracy, places, "x", color=GREEN, label="test, views averaged")
    accuracy.plot(val, places, "d", color=ORANGE, markerfacecolor="none", label="validation (ranks)")
    accuracy.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    accuracy.xaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.set(xlabel="accuracy", yticks=places, yticklabels=leaderboard["name"], ylim=(len(places) - 0.5, -0.5))
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)

    _bars(minutes, places, leaderboard.training_seconds / 60, "training, minutes", "{:,.1f}")
    _bars(size, places, leaderboard.parameters / 1e6, "parameters, millions", "{:,.2f}")
    for axis in figure.axes:
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    return figure


def trade_offs(leaderboard: pd.DataFrame) -> Figure:
    """Draw test accuracy against latency, file size and training time; Pareto-optimal models are filled.

    A line runs from each name through all three panels, at the height of its accuracy.
    """
    costs = (
        ("latency_ms", "latency, ms", 1),
        ("megabytes", "file size, MB", 1),
        ("training_seconds", "training, minutes", 60),
    )
    figure = _figure(11, max(3.6, 0.9 + 0.24 * len(leaderboard)))
    figure.suptitle("Accuracy against cost (filled: Pareto-optimal)", fontsize="medium")
    panels = figure.subplots(1, 3, sharey=True)
    for axis, (column, label, unit) in zip(panels, costs, strict=True):
        values = leaderboard[column] / unit
        known = values.notna()
        values, gains = values[known], leaderboard.accuracy[known]
        for gain in leaderboard.accuracy:
            axis.axhline(gain, color=GREY, linewidth=0.5, alpha=0.5)
        front = pd.Series(pareto_front(values.tolist(), gains.tolist()), values.index, dtype=bool)
        axis.plot(values[~front], gains[~front], "o", color=BLUE, markerfacecolor="none")
        ordered = np.argsort(values[front])
        axis.step(values[front].iloc[ordered], gains[front].iloc[ordered], where="post", color=BLUE, linewidth=1)
        axis.plot(values[front], gains[front], "o", color=BLUE)
        axis.set(xlabel=label)
        if values.max() > 5 * values.min():
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 100 * values.min() else (1,)))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter("{x:,.6g}")
        axis.grid(axis="x", alpha=0.3)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0].set(ylabel="test accuracy")
    _name_at_the_right(panels[-1], leaderboard.accuracy.tolist(), leaderboard["name"].tolist())
    return figure


def overlaid_curves(evaluations: Evaluations) -> Figure:
    """Draw the validation accuracy of all rows over the epochs, the best five in colours."""
    validated = [row for row in evaluations.rows if row.val_accuracy is not None]
    figure = _figure(10, max(4.0, 1.0 + 0.24 * len(validated)))
    axis = figure.subplots()
    ends = []
    for place, row in reversed(list(enumerate(validated))):
        history = pd.DataFrame(row.first.record.history)
        colour, width = (FEW[place], 1.8) if place < len(FEW) else (GREY, 0.9)
        axis.plot(history.epoch, history.val_accuracy, color=colour, linewidth=width)
        axis.plot(history.epoch.iloc[-1], history.val_accuracy.iloc[-1], "o", markersize=4, color=colour)
        ends.append((history.val_accuracy.iloc[-1], row.name, colour))
    axis.set(xlabel="epoch", ylabel="validation accuracy")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    if ends:
        worst = min(height for height, *_ in ends)
        axis.set_ylim(bottom=max(axis.get_ylim()[0], worst - 0.15))  # the first epochs are of no interest
        heights, names, colours = zip(*ends, strict=True)
        _name_at_the_right(axis, heights, names, colours)
    return figure


def calibration(evaluations: Evaluations) -> Figure:
    """Draw a reliability diagram per row, before and after temperature scaling."""
    rows = evaluations.rows
    columns = min(7, max(3, len(rows)))
    lines = -(-len(rows) // columns)
    figure = _figure(1.75 * columns, 1.95 * lines + 0.7)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axis in panels.flat[len(rows) :]:
        axis.axis("off")
    for axis, row in zip(panels.flat, rows, strict=False):
        scores = row.first.metrics
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        bins = pd.DataFrame(scores.reliability)
        axis.plot(bins.confidence, bins.accuracy, ".-", color=ORANGE, linewidth=1, label="uncalibrated")
        title = f"{row.name}\n{scores.calibration_error:.1%}"
        if scores.calibrated_reliability:
            bins = pd.DataFrame(scores.calibrated_reliability)
            axis.plot(bins.confidence, bins.accuracy, ".-", color=BLUE, linewidth=1, label="temperature scaling")
            title += f" → {scores.calibrated_error:.1%}"
        axis.set_title(title, fontsize=7)
        axis.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.tick_params(labelsize=7)
    known = {
        label: handle for axis in panels.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    figure.supxlabel("confidence", fontsize=8)
    figure.supylabel("accuracy", fontsize=8)
    return figure


def per_class(evaluations: Evaluations) -> Figure:
    """Draw the F1 score on test, one line per row and one column per class."""
    rows, classes = evaluations.rows, evaluations.class_names
    values = np.array([[row.first.metrics.classes[name]["f1"] for name in classes] for row in rows])
    figure = _figure(1.9 + 0.72 * len(classes), 1.3 + 0.32 * len(rows))
    _heat_map(figure, values, [row.name for row in rows], classes, "{:.0%}")
    figure.suptitle("F1 score per class, test images", fontsize="medium")
    return figure


def pairwise(evaluations: Evaluations) -> Figure:
    """Draw the differences in test accuracy, row minus column, in points; grey where they are not significant."""
    names = [row.name for row in evaluations.rows]
    size = len(names)
    figure = _figure(max(5.5, 2.6 + 0.52 * size), 2.3 + 0.42 * size)
    axis = figure.subplots()
    differences, significant = np.zeros((size, size)), np.zeros((size, size), dtype=bool)
    for pair in evaluations.pairs:
        first, second = names.index(pair.first), names.index(pair.second)
        differences[first, second], differences[second, first] = pair.difference, -pair.difference
        significant[first, second] = significant[second, first] = pair.significant
    reach = max(abs(differences).max(), 0.01)
    shown = np.where(significant, differences, np.nan)
    shades = axis.imshow(shown, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto").to_rgba(shown)
    for (row, column), difference in np.ndenumerate(differences):
        if row == column:
            continue
        colour = _ink_on(shades[row, column]) if significant[row, column] else GREY
        text = f"{100 * difference:+.1f}" if significant[row, column] else f"≈ {100 * difference:+.1f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(size), names)
    axis.set_title(
        "Difference in test accuracy, row minus column, in points\n≈ not significant (McNemar, Holm, 5%)",
        fontsize="medium",
        loc="left",
    )
    return figure


def robustness(table: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Draw accuracy over severity, one panel per corruption; the best five in `order` in colours."""
    corruptions = list(dict.fromkeys(table.corruption))
    columns = min(3, len(corruptions))
    figure = _figure(10, 2.7 * -(-len(corruptions) // columns) + 0.6)
    panels = figure.subplots(-(-len(corruptions) // columns), columns, squeeze=False, sharex=True, sharey=True)
    names = [name for name in order if name in set(table["name"])]
    others = f"{len(names) - len(FEW)} other{'s' * (len(names) > len(FEW) + 1)}"
    for axis, corruption in zip(panels.flat, corruptions, strict=False):
        for place, name in reversed(list(enumerate(names))):
            curve = table[(table["name"] == name) & (table.corruption == corruption)].sort_values("severity")
            clean = float(curve.clean_accuracy.iloc[0])
            colour, width = (FEW[place], 1.6) if place < len(FEW) else (GREY, 0.8)
            label = name if place < len(FEW) else others
            axis.plot([0, *curve.severity], [clean, *curve.accuracy], ".-", label=label, color=colour, linewidth=width)
        axis.set_title(corruption.replace("_", " "), fontsize=9)
        axis.set(xticks=range(6))
        axis.grid(alpha=0.3)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    known = dict(zip(*reversed(panels.flat[0].get_legend_handles_labels()), strict=True))
    legend = [name for name in (*names, others) if name in known]
    figure.legend(
        [known[name] for name in legend], legend, loc="outside upper center", ncols=6, frameon=False, fontsize=8
    )
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel("test accuracy", fontsize=9)
    return figure


def mistakes(title: str, rows: dict[str, list[tuple[np.ndarray, np.ndarray | None, str]]], columns: int = 8) -> Figure:
    """Draw a row of images per heading, with captions and, where given, Grad-CAM maps below.

    Args:
        title: of the figure.
        rows: heading -> (image, map of 0 to 1 or None, caption), uint8 (32, 32, 3) and float (32, 32).
        columns: images per row, at most.
    """
    rows = {heading: images[:columns] for heading, images in rows.items() if images}
    heights = [2.05 if images[0][1] is not None else 1.2 for images in rows.values()]
    figure = _figure(1.25 * columns, sum(heights) + 0.42 * len(rows) + 0.4)
    figure.suptitle(title)
    parts: Any = figure.subfigures(max(len(rows), 1), 1, height_ratios=heights or None, squeeze=False)
    for part, (heading, images) in zip(parts[:, 0], rows.items(), strict=False):
        part.suptitle(heading, fontsize=9, x=0.01, ha="left")
        mapped = images[0][1] is not None
        grid = part.subplots(2 if mapped else 1, columns, squeeze=False)
        for axis in grid.flat:
            axis.axis("off")
        for column, (image, attention, caption) in enumerate(images):
            grid[0, column].imshow(image, interpolation="nearest")
            grid[0, column].set_title(caption, fontsize=6.5, pad=2)
            if attention is not None:
                grid[1, column].imshow(image.mean(axis=2), cmap="gray", interpolation="nearest")
                grid[1, column].imshow(attention, cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    return figure


def predictions(table: pd.DataFrame, images: Sequence[tuple[np.ndarray, np.ndarray]], title: str) -> Figure:
    """Draw a row per image: the original, the network's input, and the five most probable classes.

    Args:
        table: one row per image, with `image`, `label`, `probability`, `unsure`, and one column per class.
        images: the original, uint8 (height, width, 3), and the network's input, (32, 32, 3), of each row.
        title: of the figure.
    """
    classes = [column for column in table.columns if column not in ("image", "label", "probability", "unsure")]
    figure = _figure(8.5, 0.6 + 1.6 * len(images))
    figure.suptitle(title, fontsize="medium")
    grid = figure.subplots(len(images), 3, squeeze=False, width_ratios=(1.2, 1, 2.2))
    for (original, network_input, bars), (_, row), (full, small) in zip(grid, table.iterrows(), images, strict=False):
        name = str(row.image)
        original.imshow(full)
        original.set_title(name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}", fontsize=8)
        network_input.imshow(small, interpolation="nearest")
        network_input.set_title("network input", fontsize=8)
        for axis in (original, network_input):
            axis.axis("off")
        values = row[classes].astype(float).nlargest(5)
        drawn = bars.barh(np.arange(len(values)), values, color=[BLUE, *[GREY] * (len(values) - 1)])
        bars.bar_label(drawn, labels=[percent(value) for value in values], padding=3, fontsize=8)
        if row.unsure:
            bars.set_title(f"unsure: {describe_unsure()}", fontsize=8, loc="left")
        bars.set_yticks(np.arange(len(values)), values.index, fontsize=8)
        bars.set(xlim=(0, 1.15), ylim=(len(values) - 0.5, -0.5))
        bars.xaxis.set_visible(False)
        bars.tick_params(left=False)
        for side in ("top", "right", "bottom"):
            bars.spines[side].set_visible(False)
    return figure


def versions(runs: pd.DataFrame) -> Figure:
    """Draw the accuracy of every version over time, one panel per architecture."""
    names = sorted(set(runs.architecture), key=lambda name: -runs[runs.architecture == name].val_accuracy.max())
    columns = min(4, max(len(names), 1))
    rows = -(-max(len(names), 1) // columns)
    figure = _figure(2.9 * max(columns, 2), 2.1 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in panels.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(panels.flat, names, strict=False):
        of_one = runs[runs.architecture == name].sort_values("version").reset_index(drop=True)
        axis.plot(of_one.index + 1, of_one.accuracy, "o", color=BLUE, label="test")
        axis.plot(of_one.index + 1, of_one.val_accuracy, "d", color=ORANGE, markerfacecolor="none", label="validation")
        axis.set_title(name, fontsize=9)
        axis.set(xlim=(0.5, len(of_one) + 0.5))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        axis.grid(alpha=0.3)
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.supxlabel("version, oldest first", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    return figure


def benchmark(table: pd.DataFrame) -> Figure:
    """Draw training images per second, fastest on top, beside PyTorch's if measured; and FLOPs per second."""
    table = table.dropna(subset="training").sort_values("training", ascending=False).astype({"batch_size": int})
    figure = _figure(10, 1.6 + 0.42 * len(table))
    speed, work = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    places = np.arange(len(table))
    columns = table[["architecture", "compute_dtype", "batch_size"]].astype(str)
    labels = [", ".join(row) for row in columns.to_numpy()]
    with_torch = "torch" in table and table.torch.notna().any()
    height = 0.38 if with_torch else 0.6
    above = places - height / 2 if with_torch else places
    ours = speed.barh(above, table.training, height, color=BLUE, label="this project")
    speed.bar_label(ours, labels=[f"{value:,.0f}" for value in table.training], padding=3, fontsize=8)
    if with_torch:
        theirs = speed.barh(places + height / 2, table.torch.fillna(0), height, color=GREY, label="PyTorch")
        texts = [
            "" if np.isnan(torch) else f"{torch:,.0f} (ratio {ratio:.2f})"
            for torch, ratio in zip(table.torch, table.ratio, strict=True)
        ]
        speed.bar_label(theirs, labels=texts, padding=3, fontsize=8)
        figure.legend(*speed.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    speed.set(xscale="log", xlabel="training images per second", yticks=places, yticklabels=labels)
    smallest = min(table.training.min(), table.torch.min()) if with_torch else table.training.min()
    speed.set(xlim=(smallest / 2, table.training.max() * (12 if with_torch else 3)))
    speed.xaxis.set_major_formatter("{x:,.0f}")
    speed.set(ylim=(len(places) - 0.5, -0.5))
    _bars(work, places, table.gflops, "GFLOP per second", "{:,.0f}")
    figure.supxlabel(table.device.iloc[0], fontsize=8)
    for axis in figure.axes:
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    return figure


def tuning_history(trials: Trials) -> Figure:
    """Draw the validation accuracy of each trial in their order, and the best complete one so far."""
    figure = _tuning_figure(trials, 8, 3.8)
    axis = figure.subplots()
    _draw_trials(axis, trials, lambda trial: trial.number)
    complete = [trial for trial in trials.trials if trial.state == "complete"]
    best = np.maximum.accumulate([_accuracy(trial) for trial in complete])
    axis.step([trial.number for trial in complete], best, where="post", color=ORANGE, label="best so far")
    for trial in trials.trials:
        if trial.state == "failed":
            axis.axvline(trial.number, color=PINK, linestyle=":", linewidth=1, label="failed")
    axis.set(xlabel="trial")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def tuning_importance(trials: Trials) -> Figure:
    """Draw how much each option tells the best tenth of the complete trials from all of them."""
    shares = pd.Series(trials.importance, dtype=float).sort_values(ascending=False)
    figure = _tuning_figure(trials, 8, 1.4 + 0.36 * max(len(shares), 1))
    axis = figure.subplots()
    if shares.empty:
        axis.axis("off")
        axis.text(0.5, 0.5, "too few complete trials", ha="center", va="center")
        return figure
    _bars(axis, np.arange(len(shares)), shares, "share in what tells the best tenth of trials (PED-ANOVA)", "{:.2f}")
    axis.set(yticks=range(len(shares)), yticklabels=list(shares.index), ylim=(len(shares) - 0.5, -0.5))
    return figure


def tuning_slices(trials: Trials) -> Figure:
    """Draw validation accuracy against each option that was tuned, one panel per option."""
    columns = min(4, len(trials.space))
    rows = -(-len(trials.space) // columns)
    figure = _tuning_figure(trials, max(2.7 * columns, 8), 2.4 * rows + 0.8)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in panels.flat[len(trials.space) :]:
        axis.axis("off")
    for axis, (option, values) in zip(panels.flat, trials.space.items(), strict=False):
        choices = values.get("of")

        def place(trial: Trial, option: str = option, choices: list | None = choices) -> Any:
            value = trial.options.get(option, np.nan)
            return choices.index(value) if choices and value in choices else value

        _draw_trials(axis, trials, place)
        axis.set(xlabel=option, ylabel="")
        if choices:
            axis.set_xticks(range(len(choices)), ["null" if each is None else str(each) for each in choices])
            axis.set(xlim=(-0.5, len(choices) - 0.5))
            continue
        low, high = values["low"], values["high"]
        if values.get("log"):
            axis.set(xscale="log", xlim=(low / (high / low) ** 0.05, high * (high / low) ** 0.05))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.set(xlim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
            axis.xaxis.set_major_locator(MaxNLocator(4, integer=isinstance(low, int) and high - low > 1))
    figure.supylabel("validation accuracy", fontsize="medium")
    handles = panels.flat[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _tuning_figure(trials: Trials, width: float, height: float) -> Figure:
    figure = _figure(width, height)
    figure.suptitle(f"{trials.architecture}: {trials.summary}", fontsize="medium")
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
            label=label,
        )
    axis.set(ylabel="validation accuracy")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.grid(alpha=0.3)


def _accuracy(trial: Trial) -> float:
    return trial.val_accuracy or 0.0


def to_svg(figure: Figure) -> str:
    """Return a figure as SVG, with its label as the identifier; the same figure always gives the same text."""
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "cifar10"}):
        metadata = {"Date": None, "Identifier": figure.get_label() or None}
        figure.savefig(text, format="svg", metadata=metadata, transparent=True)
    return text.getvalue()


def _bars(axis: Any, places: np.ndarray, values: pd.Series, label: str, form: str) -> None:
    bars = axis.barh(places, values, height=0.6, color=GREY)
    axis.bar_label(bars, labels=[form.format(value) for value in values], padding=3, fontsize=8)
    axis.set(xlabel=label, xlim=(0, max(values.max() * 1.35, 1e-9)))
    axis.tick_params(left=False)


def _heat_map(figure: Figure, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], form: str) -> None:
    axis = figure.subplots()
    shades = axis.imshow(values, cmap="Blues", vmin=min(values.min(), 0.5), vmax=1, aspect="auto").to_rgba(values)
    for (row, column), value in np.ndenumerate(values):
        colour = _ink_on(shades[row, column])
        axis.text(column, row, form.format(value), ha="center", va="center", fontsize=7, color=colour)
    axis.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows)


def _ink_on(shade: np.ndarray) -> str:
    """Return the text colour, white or dark, with more contrast to a shade of red, green, blue and alpha, 0 to 1."""
    luminance = float(np.dot(shade[:3] ** 2.2, (0.2126, 0.7152, 0.0722)))
    return "white" if luminance < 0.19 else DARK  # at this luminance, both have the same contrast


def _name_at_the_right(
    axis: Any, heights: Sequence[float], names: Sequence[str], colours: Sequence[str] | None = None
) -> None:
    """Write names in a column beside the axes, each connected to its height, without overlaps."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(np.asarray(heights, float))
    low, high = axis.get_ylim()
    shares = (np.asarray(heights, float)[order] - low) / (high - low)
    # The approximate height of a line of text as a share of the axes, whose layout is not known yet.
    line = min(0.17 / (0.72 * axis.figure.get_figheight()), 1.0 / max(len(names), 1))
    # The positions closest to the heights that are at least a line apart: after subtracting the lines below each, they
    # only have to be non-decreasing, which is isotonic regression.
    lines = line * np.arange(len(names))
    places = isotonic_regression(shares - lines).x.clip(0, 1 - lines[-1]) + lines
    for share, place, index in zip(shares, places, order, strict=True):
        colour = colours[index] if colours else GREY
        axis.annotate(
            list(names)[index],
            (1, share),
            (1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=7.5,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _figure(width: float, height: float) -> Figure:
    """Make a figure of that size in inches. Not through pyplot, which would keep it open after the node."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")
