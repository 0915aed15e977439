"""Every figure of the project, one function each. They draw what they are given and read no files."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar10.contracts import Examples

# Of the palette of Okabe and Ito (2008), which people with any colour vision tell apart.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def samples(examples: Examples, class_names: list[str], columns: int = 10) -> Figure:
    """A row a class: its first pictures."""
    figure = _figure(columns * 0.62 + 1.4, len(class_names) * 0.62)
    axes = figure.subplots(len(class_names), columns, squeeze=False)
    for label, (row, name) in enumerate(zip(axes, class_names, strict=True)):
        pictures = examples.images[examples.labels == label][:columns]
        for axis in row:
            axis.axis("off")
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
        row[0].text(-0.25, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
    return figure


def learning_curves(record: dict[str, Any]) -> Figure:
    """Accuracy and loss over the epochs of one training, with the epoch that was kept."""
    history = pd.DataFrame(record["history"])
    figure = _figure(9, 3.6)
    judged = record["val_accuracy"] is not None  # not if the validation pictures were trained on, too
    figure.suptitle(
        f"{record['architecture']}: epoch {record['best_epoch']} kept, "
        + (f"validation accuracy {record['val_accuracy']:.2%}" if judged else "trained on all pictures")
    )
    for axis, metric in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        axis.plot(history.epoch, history[metric], color=GREY, marker=".", label="training, augmented")
        if judged:
            axis.plot(history.epoch, history[f"val_{metric}"], color=BLUE, marker=".", label="validation")
        axis.axvline(record["best_epoch"], color=ORANGE, linestyle="--", linewidth=1, label="kept")
        for last in history.epoch[history.phase != history.phase.shift(-1)][:-1]:
            axis.axvspan(0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0, label=f"the {history.phase[0]} alone")
        axis.set(xlabel="epoch", ylabel=metric)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
    figure.axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.axes[0].legend(loc="lower right")
    return figure


def confusion_matrix(metrics: dict[str, Any]) -> Figure:
    """Counts of test pictures, true classes in rows; the shade is the share of the row."""
    class_names, counts = list(metrics["classes"]), np.array(metrics["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = _figure(7.2, 6.4)
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black" if count else "lightgrey"
        axis.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    places = range(len(class_names))
    axis.set(
        title=f"{metrics['architecture']}: test accuracy {metrics['accuracy']:.2%}", xlabel="predicted", ylabel="true"
    )
    axis.set_xticks(places, class_names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(places, class_names)
    figure.colorbar(picture, label="share of the true class", format=PercentFormatter(1.0), shrink=0.8)
    return figure


def comparison(leaderboard: pd.DataFrame) -> Figure:
    """The leaderboard, best on top: accuracy with its 95% interval, and what it cost."""
    figure = _figure(10, 1.9 + 0.42 * len(leaderboard))
    accuracy, minutes, size = figure.subplots(1, 3, sharey=True, width_ratios=(2.2, 1, 1))
    places = np.arange(len(leaderboard))

    test, val = leaderboard.accuracy, leaderboard.val_accuracy
    low, high = wilson_interval(test, leaderboard.test_pictures)
    accuracy.errorbar(
        test,
        places,
        xerr=(test - low, high - test),
        fmt="o",
        color=BLUE,
        capsize=3,
        label="test, 95% interval",
    )
    accuracy.plot(val, places, "d", color=ORANGE, markerfacecolor="none", label="validation, which ranks")
    accuracy.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    accuracy.xaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.set(xlabel="accuracy", yticks=places, yticklabels=leaderboard.architecture, ylim=(len(places) - 0.5, -0.5))
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)

    _bars(minutes, places, leaderboard.training_seconds / 60, "training, minutes", "{:,.1f}")
    _bars(size, places, leaderboard.parameters / 1e6, "parameters, millions", "{:,.2f}")
    for axis in figure.axes:
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    return figure


def benchmark(table: pd.DataFrame) -> Figure:
    """Pictures a second in training, on a logarithmic scale, fastest on top; and what of the machine that uses."""
    table = table.sort_values("training", ascending=False)
    figure = _figure(10, 1.6 + 0.42 * len(table))
    speed, work = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    places = np.arange(len(table))
    columns = table[["architecture", "precision", "batch_size"]].astype(str)
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
    speed.set(xscale="log", xlabel="pictures a second in training", yticks=places, yticklabels=labels)
    smallest = min(table.training.min(), table.torch.min()) if with_torch else table.training.min()
    speed.set(xlim=(smallest / 2, table.training.max() * (12 if with_torch else 3)))
    speed.xaxis.set_major_formatter("{x:,.0f}")
    speed.set(ylim=(len(places) - 0.5, -0.5))
    _bars(work, places, table.gflops, "GFLOP a second", "{:,.0f}")
    figure.supxlabel(table.device.iloc[0], fontsize=8)
    for axis in figure.axes:
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
    return figure


def wilson_interval(accuracy: pd.Series, pictures: pd.Series) -> tuple[pd.Series, pd.Series]:
    """95% score interval of a share of that many pictures (Wilson 1927)."""
    z = 1.959964
    centre = (accuracy + z**2 / (2 * pictures)) / (1 + z**2 / pictures)
    half = z / (1 + z**2 / pictures) * np.sqrt(accuracy * (1 - accuracy) / pictures + (z / (2 * pictures)) ** 2)
    return centre - half, centre + half


def _bars(axis: Any, places: np.ndarray, values: pd.Series, label: str, form: str) -> None:
    bars = axis.barh(places, values, height=0.6, color=GREY)
    axis.bar_label(bars, labels=[form.format(value) for value in values], padding=3, fontsize=8)
    axis.set(xlabel=label, xlim=(0, max(values.max() * 1.35, 1e-9)))
    axis.tick_params(left=False)


def _figure(width: float, height: float) -> Figure:
    """A figure of that many inches. Not through pyplot: nothing is shown, and nothing outlives the node."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")
