"""The tables of `kedro models` and `kedro compare`, for a terminal or a file."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.descriptions import describe
from cifar10.architectures.facts import FACTS
from cifar10.comparison import SPLITS, Accuracy, Comparison, Disagreement, Side, verdicts
from cifar10.contracts import Costs, Epoch
from cifar10.pipelines.reporting.formatting import duration, latency, percent
from cifar10.scoring import DIGITS
from cifar10.training.checkpoint import Unfinished

WIDTH = 100  # characters of a line in a file
WHOLE = 96  # characters of a line about an architecture; where there are fewer, two columns are left out
COLOURS = ("dodger_blue1", "dark_orange3", "green3", "orchid", "dark_cyan")  # of the models, as in the figures
LISTED = 15  # places of images in a line
CURVE = (12, 78)  # lines and characters of the learning curves
FEW_EPOCHS = 4  # of which the table says enough


def console() -> Console:
    """Return the terminal, or a page of fixed width where the output goes to a file."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(highlight=False, width=width, soft_wrap=False, emoji=False, markup=False)


def print_architectures(to: Console, table: pd.DataFrame, folder: str) -> None:
    """Print one line per architecture, as `list_architectures` returns them, and the sources of the expectations.

    Args:
        to: where to print.
        table: the architectures.
        folder: of the models.
    """
    sources = {text: f"[{number}]" for number, text in enumerate(table.source.dropna().unique(), start=1)}
    work = ("MFLOP", "input") if to.width >= WHOLE else ()
    shown = _table("architecture", "parameters", *work, "trained", "validation", "test", "expected")
    lines: Any = table.to_dict("records")
    for line in lines:
        facts = FACTS.get(line["architecture"])
        shown.add_row(
            Text(line["architecture"], "bold" if line["versions"] else ""),
            f"{facts.parameters:,}" if facts else "-",
            *((f"{facts.flops / 1e6:,.0f}", f"{facts.image_size} px") if facts else ("-", "-"))[: len(work)],
            str(line["versions"] or "-"),
            percent(line["val_accuracy"]) or "-",
            percent(line["accuracy"]) or "-",
            f"{facts.expectation} {sources[facts.source]}" if facts else "-",
        )
    to.print(shown)
    to.print()
    _hanging(to, {mark: text for text, mark in sources.items()})
    to.print(
        f"\nMFLOP: of one image, in convolutions and dense layers{'' if work else ' (kedro models NAME says it)'}. "
        "Trained: the number of versions; the accuracies are those of the one with the best validation accuracy, among "
        "those of the same data as the latest. "
        "Expected: the test accuracy on CIFAR-10 that others report, by the recipe of that environment if one is "
        "named; most of them chose the epoch by the test images. What this project reached: docs/leaderboard.md."
    )
    if unknown := [name for name in table.architecture if name in ARCHITECTURES and name not in FACTS]:
        to.print(f"\nNothing is known of {', '.join(unknown)}: add a row to src/cifar10/architectures/facts.py")
    if not table.versions.any():
        to.print(f"\nThere is no model in {folder} yet. Those of the demo: kedro models --env=demo")
    to.print("\nTo train one: kedro run --pipelines=train_NAME. Its versions: kedro models NAME")


def print_versions(to: Console, name: str, runs: pd.DataFrame, unfinished: Iterable[tuple[Unfinished, str]]) -> None:
    """Print what is known of an architecture, its trained versions, the latest first, and its unfinished trainings.

    Args:
        to: where.
        name: the architecture.
        runs: one row per version of every architecture, as `history` lists them.
        unfinished: its unfinished trainings, and the commands that resume them.
    """
    to.print(Text(name, "bold"))
    to.print(describe(name))
    if facts := FACTS.get(name):
        to.print(
            f"{facts.parameters:,} parameters, {facts.flops / 1e6:,.0f} MFLOP per image, which it sees at "
            f"{facts.image_size}x{facts.image_size} pixels. Expected test accuracy on CIFAR-10: {facts.expectation} "
            f"({facts.source})."
        )
    of_one = runs[runs.architecture == name]
    if of_one.empty:
        to.print("\nNo version of it has been trained yet. To train one, with the --env and --params of this command:")
        to.print(f"kedro run --pipelines=train_{name}")
    else:
        _print_runs(to, of_one)
    for each, command in unfinished:
        epochs = f"{each.epochs} epoch{'s' * (each.epochs > 1)}"
        if each.running:
            to.print(f"\nBeing trained now, seed {each.seed}: {epochs} done.")
            continue
        if each.saved:
            to.print(f"\nSaved, seed {each.seed}, after {epochs}, but its run has not come to its end.")
        else:
            to.print(f"\nUnfinished, seed {each.seed}, after {epochs}.")
        if command:  # its architecture has not been removed
            is_file = f"{name}.weights=" in command and f"{name}.weights=imagenet" not in command
            weights = ", where weights is the path of that file" if is_file else ""
            to.print(f"To resume it with the same network and data{weights}:")
            variable = "" if each.backend == "tensorflow" else f"KERAS_BACKEND={each.backend} "
            to.print(variable + command, soft_wrap=True)
        to.print("To give it up, delete")
        to.print(str(each.folder), soft_wrap=True)


def _print_runs(to: Console, of_one: pd.DataFrame) -> None:
    shown = _table("version", "seed", "epoch", "validation", "test", "time", left=1)
    shown.add_column("recipe, and how it differs", ratio=1, overflow="fold")
    lines: Any = of_one.to_dict("records")
    for line in lines:
        shown.add_row(
            line["version"],
            str(line["seed"]),
            f"{line['best_epoch']} of {line['epochs']}",
            (percent(line["val_accuracy"]) or "-") + (" best" if line["best"] else ""),
            percent(line["accuracy"]) or "-",
            duration(line["training_seconds"]),
            ": ".join(filter(None, [line["recipe_hash"][:DIGITS], line["recipe"]])),
            style="bold" if line["best"] else "",
        )
    to.print(shown)
    if of_one.data_version.nunique() > 1:
        to.print("Best: among the versions of the same data as the latest. The others cannot be compared with it.")
    to.print("Epoch: the one that was kept, of how many. The files, the latest first:")
    for line in lines:
        to.print(line["path"], soft_wrap=True)


def print_comparison(to: Console, comparison: Comparison) -> None:
    """Print models side by side: results, tests, differences, curves, classes and images."""
    shown = _table("", "model", "seed", "validation", "test", "epoch", "time", "latency, ms", left=2)
    for side in comparison.sides:
        record = side.record
        shown.add_row(
            _letter(side.letter),
            f"{record.architecture}\n{side.model.version}\nrecipe {record.recipe_hash[:DIGITS]}",
            str(record.seed),
            _accuracy(side.val),
            _accuracy(side.test),
            f"{record.best_epoch} of {record.epochs}",
            duration(record.training_seconds),
            _latency(side.costs),
        )
    to.print(shown)
    if any(each and each.interval for side in comparison.sides for each in (side.val, side.test)):
        to.print(Text("Below each value: its 95% interval; of the latency, the 5th to 95th percentile.", "dim"))
    to.print()
    for verdict in verdicts(comparison):
        to.print(verdict)
    for note in comparison.notes:
        to.print(Text(note, "dim"))
    _print_differences(to, comparison)
    _print_curves(to, comparison.sides)
    for each in comparison.disagreements:
        _print_disagreement(to, comparison, each)
    if comparison.disagreements:
        seen = "; the page shows them" if comparison.truth.images else ""
        to.print(f"Numbers of images are their places in the {SPLITS[comparison.split]} split{seen}.")


def _print_differences(to: Console, comparison: Comparison) -> None:
    _heading(to, "What differs")
    shown = _table("", "", *(side.letter for side in comparison.sides), left=7)
    same = []
    for part, facts in comparison.differences.items():
        if not facts:
            same.append(part)
        for place, (name, values) in enumerate(facts.items()):
            shown.add_row(Text("" if place else part, "bold"), name, *values)
    if shown.row_count:
        to.print(shown)
    if same:
        to.print(f"The same: {', '.join(same)}.")


def _print_curves(to: Console, sides: list[Side]) -> None:
    """Print the validation accuracy over the epochs, each point as the letter of its model, or as * for several."""
    curves = {side.letter: _validated(side.record.history) for side in sides}
    points = [(letter, epoch, value) for letter, curve in curves.items() for epoch, value in curve]
    if points and max(map(len, curves.values())) < FEW_EPOCHS:
        return
    _heading(to, "Validation accuracy after each epoch")
    if not points:
        to.print("None of these models has a validation accuracy.")
        return
    height, width = CURVE
    last = max(epoch for _, epoch, _ in points)
    low, high = min(value for *_, value in points), max(value for *_, value in points)
    cells = [[Text(" ")] * width for _ in range(height)]
    for letter, epoch, value in points:
        column = round((epoch - 1) / max(last - 1, 1) * (width - 1))
        line = round((high - value) / ((high - low) or 1) * (height - 1))
        cells[line][column] = _letter(letter) if cells[line][column].plain == " " else Text("*", "bold")
    for place, row in enumerate(cells):
        label = {0: f"{high:.1%}", height - 1: f"{low:.1%}"}.get(place, "")
        to.print(Text.assemble(f"{label:>7} ", ("| ", "dim"), *row))
    to.print(Text(f"{'epoch 1':>17}{last:>{width - 7}}", "dim"))
    if any(cell.plain == "*" for row in cells for cell in row):
        to.print(Text(f"{'*: several models':>27}", "dim"))


def _validated(history: Sequence[Epoch]) -> list[tuple[int, float]]:
    return [(each["epoch"], each["val_accuracy"]) for each in history if each["val_accuracy"] is not None]


def _print_disagreement(to: Console, comparison: Comparison, each: Disagreement) -> None:
    split = SPLITS[comparison.split].capitalize()
    _heading(to, f"{split} accuracy by class, and images that only one of {each.first} and {each.second} gets right")
    shown = _table("class", "images", each.first, each.second, f"gained by {each.second}", "lost", "net")
    for row in each.classes:
        net = row.gained - row.lost
        shown.add_row(
            row.name,
            str(row.images),
            f"{row.first:.1%}",
            f"{row.second:.1%}",
            str(row.gained),
            str(row.lost),
            Text(f"{net:+d}" if net else "0", "green" if net > 0 else "red" if net < 0 else "dim"),
        )
    to.print(shown)
    for letter, places in ((each.second, each.gained), (each.first, each.lost)):
        more = f" and {len(places) - LISTED} more" if len(places) > LISTED else ""
        numbers = ", ".join(map(str, places[:LISTED])) or "none"
        to.print(f"Only {letter}, the clearest first: {numbers}{more}")


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return "-"
    low_high = accuracy.interval
    return percent(accuracy.value) + (f"\n{100 * low_high.low:.1f} to {100 * low_high.high:.1f}" if low_high else "")


def _latency(costs: Costs | None) -> str:
    median, _, percentiles = (latency(costs) if costs else "-").partition(" (")
    return median + (f"\n{percentiles[:-1]}" if percentiles else "")


def _letter(letter: str) -> Text:
    return Text(letter, f"bold {COLOURS[ord(letter) - ord('A')]}")


def _heading(to: Console, text: str) -> None:
    to.print()
    to.print(Text(text, "bold"))


def _hanging(to: Console, paragraphs: dict[str, str]) -> None:
    """Print paragraphs beside their marks."""
    grid = Table.grid(padding=(0, 1))
    for mark, text in paragraphs.items():
        grid.add_row(Text(mark, "bold"), text)
    to.print(Padding(grid, (0, 0, 0, 1)))


def _table(*columns: str, left: int = 1) -> Table:
    """Return an empty table whose first `left` columns are aligned at the left, and the others at the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return table
