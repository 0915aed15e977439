"""Which model to use on what budget, in words, as far as the evaluated models tell."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Evaluations, Row, machine_name
from cifar10.metrics import MIN_SEEDS, pareto_front, t_interval
from cifar10.pipelines.reporting import formatting


class Budget(NamedTuple):
    """A cost that may be limited.

    Attributes:
        name: of the cost.
        cost: returns that of a row, of its lowest seed.
        text: returns a cost as text.
        machine: returns what it was measured on; empty if that does not matter.
    """

    name: str
    cost: Callable[[Row], float]
    text: Callable[[float], str]
    machine: Callable[[Row], str]


MINUTE = 60  # seconds
VARIES = 3  # from this ratio of the 95th to the 5th percentile on, a latency says little
BUDGETS = (
    Budget(
        "Training time",
        lambda row: row.first.record.training_seconds,
        lambda value: f"{value / 60:,.1f} minutes" if value >= MINUTE else f"{value:.1f} seconds",
        lambda row: machine_name(row.first.record.hardware),
    ),
    Budget("Size", lambda row: row.first.record.parameters, lambda value: f"{value:,} parameters", lambda row: ""),
    Budget(
        "Latency of one image",
        lambda row: row.first.costs.latency_ms,
        lambda value: f"{value:.2f} ms",
        lambda row: machine_name(row.first.costs.measured_on),
    ),
)


def advise(evaluations: Evaluations) -> list[str]:
    """Return sentences on which model to use; none if no model has a rank.

    Validation accuracy decides, as in the leaderboard. Test accuracies are reported, and whether they differ
    significantly. Costs that were measured on different machines are not compared.
    """
    rows = [row for row in evaluations.rows if row.val_accuracy is not None]
    if not rows:
        return []
    best = rows[0]
    if len(rows) == 1:
        return [f"{best.marked_name} is the only ranked model, so these runs do not tell which architecture is better."]
    costs = ", ".join(budget.text(budget.cost(best)) for budget in BUDGETS)
    sentences = [f"Without a limit: {best.marked_name} (test accuracy {_test(best)}; {costs})."]
    possible = {best.name}  # the best on some budget, or not compared with others
    for budget in BUDGETS:
        machines: dict[str, list[Row]] = {}
        for row in rows:
            machines.setdefault(budget.machine(row), []).append(row)
        for machine, of_one in machines.items():
            front = _front(of_one, budget)
            possible |= {row.name for row in front}
            if len(of_one) > 1:
                where = f" on {machine}" if machine else ""
                sentences.append(f"{budget.name}{where}: {_steps(front, budget, evaluations)}.")
        if alone := [of_one[0].marked_name for of_one in machines.values() if len(of_one) == 1]:
            each = "each " if len(alone) > 1 else ""
            sentences.append(
                f"{budget.name}: not compared for {formatting.listed(alone)}, {each}measured on a machine of its own."
            )
    if never := [row.marked_name for row in rows if row.name not in possible]:
        sentences.append(
            f"Never the best choice: {formatting.listed(never)}, because within each limit another model has at least "
            "the same validation accuracy."
        )
    return [*sentences, *_caveats(rows)]


def _test(row: Row) -> str:
    return formatting.percent(row.first.metrics.accuracy)


def _front(rows: list[Row], budget: Budget) -> list[Row]:
    """Return the Pareto-optimal rows by validation accuracy and a cost, the cheapest first; of equal ones, one."""
    costs = [budget.cost(row) for row in rows]
    optimal = pareto_front(costs, [row.val_accuracy or 0.0 for row in rows])
    by_cost = {cost: row for cost, row, chosen in reversed(list(zip(costs, rows, optimal, strict=True))) if chosen}
    return [by_cost[cost] for cost in sorted(by_cost)]


def _steps(front: list[Row], budget: Budget, evaluations: Evaluations) -> str:
    """Say which model to use from which cost on."""
    costs = [budget.text(budget.cost(row)) for row in front]
    first = f"{front[0].marked_name} ({costs[0]}, test accuracy {_test(front[0])})"
    if len(front) == 1:
        return f"{first} costs the least and has the best validation accuracy"
    texts = [f"with less than {costs[1]}, {first}"]
    for (before, row), cost in zip(itertools.pairwise(front), costs[1:], strict=True):
        tie = "" if _differ(before, row, evaluations) else f", not significantly different from {before.marked_name}"
        texts.append(f"from {cost} on, {row.marked_name} (test accuracy {_test(row)}{tie})")
    return "; ".join(texts)


def _differ(one: Row, other: Row, evaluations: Evaluations) -> bool:
    """Return whether the test accuracies of two rows differ significantly."""
    return any(pair.significant for pair in evaluations.pairs if {pair.first, pair.second} == {one.name, other.name})


def caveat(rows: list[Row]) -> Iterator[str]:
    """Say that the difference of models is one of single trainings, and whether they have enough seeds for more."""
    if counts := [len(row.seeds) for row in rows if len(row.seeds) < MIN_SEEDS]:
        seeds = "one seed" if max(counts) == 1 else f"fewer than {MIN_SEEDS} seeds"
        whose = "each" if len(counts) == len(rows) else f"for {'one' if len(counts) == 1 else 'some'} of them"
        yield f"With {seeds} {whose}, this compares trainings, not {_kind(rows)}."
    else:
        yield "Significance is that of the trainings with the lowest seed; the leaderboard has the means over seeds."


def _caveats(rows: list[Row]) -> Iterator[str]:
    """Say what these trainings tell about architectures, and what they do not."""
    if _kind(rows) == "recipes":
        yield f"All of these models are {rows[0].architecture}: they compare its recipes, not architectures."
    else:
        yield "Each result is that of a recipe: by another one, the same network may do better or worse."
    if noisy := [row.marked_name for row in rows if _varies(row)]:
        yield (
            f"Latencies are not reliable: while they were measured, those of {formatting.listed(noisy)} varied more "
            f"than {VARIES}-fold. Evaluate again while the machine does nothing else."
        )
    if part := {row.marked_name: row.first.record for row in rows if row.first.record.recipe.get("examples")}:
        counts = [f"{name} ({record.training_examples:,})" for name, record in part.items()]
        yield f"Trained on a part of the training images only: {formatting.listed(counts)}."
    means = [_mean(row) for row in rows[:2]]
    if means[0] and means[1]:
        yield f"Mean test accuracies over the seeds: {means[0]}, {means[1]}."
    if few := [row.marked_name for row in rows if len(row.seeds) < MIN_SEEDS]:
        which = "All of these models were" if len(few) == len(rows) else f"{formatting.listed(few)} {_were(few)}"
        yield (
            f"{which} trained with fewer than {MIN_SEEDS} seeds: a difference to another model, even if significant, "
            f"is one between two trainings, and not yet one between {_kind(rows)}."
        )
    else:
        yield "Significance is that of the trainings with the lowest seed, not of the means."


def _varies(row: Row) -> bool:
    """Return whether the latency varied so much that it says little."""
    costs = row.first.costs
    if costs.latency_low_ms is None or costs.latency_high_ms is None:
        return False
    return costs.latency_high_ms > VARIES * costs.latency_low_ms


def _kind(rows: list[Row]) -> str:
    """Return what these rows are different ones of."""
    return "architectures" if len({row.architecture for row in rows}) > 1 else "recipes"


def _were(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _mean(row: Row) -> str:
    """Return the mean test accuracy of a row over its seeds with its interval; empty if it has none."""
    values = [each.metrics.accuracy for each in row.seeds]
    interval = t_interval(values)
    if interval is None:
        return ""
    ends = f"95% CI {100 * interval.low:.2f} to {100 * interval.high:.2f}"
    return f"{row.marked_name} {formatting.percent(float(np.mean(values)))} ({ends}, {len(values)} seeds)"


def not_run(evaluations: Evaluations) -> list[str]:
    """Return the architectures of which no model has been evaluated."""
    known = {row.architecture for row in evaluations.rows}
    return [name for name in ARCHITECTURES if name not in known]


def remarks(evaluations: Evaluations) -> list[str]:
    """Return the remarks, each after the names of the rows that it is about."""
    names: dict[str, list[str]] = {}
    for row in evaluations.rows:
        if row.first.remark:
            names.setdefault(row.first.remark, []).append(row.name)
    return [f"† {formatting.listed(of_one)}: {remark}" for remark, of_one in names.items()]
