"""Rank the evaluated models, and write the leaderboard and the report."""

import datetime
import importlib.resources
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures, metrics
from cifar10.architectures.descriptions import describe
from cifar10.contracts import Evaluation, Evaluations, Pair
from cifar10.pipelines.reporting import formatting

NESTED = {"classes", "confusion", "reliability", "calibrated_reliability"}  # metrics that do not fit into a table
DRAWN = ("comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "robustness")


def rank(evaluations: Evaluations) -> pd.DataFrame:
    """Return the leaderboard: one row per model, by validation accuracy. Test metrics decide nothing.

    A model that was trained on the val split, too, cannot be ranked by it, and stands at the end without a rank.
    `ties_with_first` marks models whose test accuracy does not differ significantly from that of the first. If several
    seeds of a recipe were evaluated, `seeds` is their number, and `seeds_mean`, `seeds_sd`, `seeds_low` and
    `seeds_high` are mean, standard deviation and 95% interval of their test accuracies.
    """
    models = evaluations.models
    first = models[0].architecture
    ties = {pair.second for pair in evaluations.pairs if pair.first == first and not pair.significant}
    ties |= {pair.first for pair in evaluations.pairs if pair.second == first and not pair.significant}
    rows = []
    for place, each in enumerate(models, start=1):
        ranked = each.metrics.val_accuracy is not None
        head = {
            "rank": place if ranked else None,
            "architecture": each.architecture,
            "ties_with_first": each.architecture in ties,
        }
        rows.append({**head, **_row(each), **_over_seeds(each, evaluations.other_seeds)})
    return pd.DataFrame(rows).astype({"rank": "Int64"})


def _row(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metrics, the costs, and what identifies the model, as plain values."""
    record = evaluation.record
    return {
        **evaluation.metrics.model_dump(exclude=NESTED),
        **evaluation.costs.model_dump(),
        "parameters": record.parameters,
        "megabytes": evaluation.megabytes,
        "training_examples": record.training_examples,
        "training_seconds": record.training_seconds,
        "training_joules": record.training_joules,
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "seed": record.seed,
        "train_on": record.recipe["train_on"],
        "recipe_hash": record.recipe_hash,
        "model_version": evaluation.version,
        "data_version": record.data_version,
        "initial_weights": record.initial_weights,
        "image_size": record.image_size,
        "compute_dtype": record.compute_dtype,
        "commit": record.versions["commit"],
        "hardware": record.hardware,
    }


def _over_seeds(evaluation: Evaluation, others: list[Evaluation]) -> dict[str, Any]:
    """Summarise the test accuracies of this recipe over its seeds."""
    same = [each for each in others if each.architecture == evaluation.architecture]
    values = [each.metrics.accuracy for each in (evaluation, *same)]
    interval = metrics.t_interval(values)
    return {
        "seeds": len(values),
        "seeds_mean": float(np.mean(values)) if interval else None,
        "seeds_sd": float(np.std(values, ddof=1)) if interval else None,
        "seeds_low": interval.low if interval else None,
        "seeds_high": interval.high if interval else None,
    }


def list_pairs(evaluations: Evaluations) -> pd.DataFrame:
    """Return the pairwise comparisons, one row per pair."""
    return pd.DataFrame([pair.model_dump() for pair in evaluations.pairs], columns=list(Pair.model_fields))


def write_markdown(leaderboard: pd.DataFrame) -> str:
    """Return the leaderboard as a Markdown table."""
    lines = [
        "| | validation | test (95% CI) | test, views averaged | log loss | parameters | latency | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows: Any = leaderboard.itertuples()
    for row in rows:
        mark = " ≈" if row.ties_with_first else ""
        cells = [
            f"`{row.architecture}`{mark}",
            formatting.percent(row.val_accuracy),
            f"{formatting.percent(row.accuracy)} ({100 * row.accuracy_low:.2f} to {100 * row.accuracy_high:.2f})",
            formatting.percent(row.averaged_accuracy),
            f"{row.loss:.3f}",
            f"{row.parameters:,}",
            f"{row.latency_ms:.1f} ms",
            formatting.duration(row.training_seconds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Ranked by validation accuracy. ≈: test accuracy not significantly different from that of the first "
        "(McNemar's exact test with Holm's correction, 5%).",
    ]
    return "\n".join(lines) + "\n"


def draw_robustness(robustness: pd.DataFrame | None, leaderboard: pd.DataFrame) -> Iterator[Figure]:
    """Draw the accuracy on corrupted images of the models in the leaderboard; yield nothing if there is none."""
    if robustness is None:
        return
    table = _in_leaderboard(robustness, leaderboard)
    if not table.empty:
        yield figures.robustness(table, list(leaderboard.architecture))


def write_report(
    leaderboard: pd.DataFrame,
    evaluations: Evaluations,
    portraits: dict[str, str],
    robustness: pd.DataFrame | None,
    *drawn: str | None,
) -> str:
    """Return one HTML page that needs no other file: the result, the evidence for it, and how it was produced.

    Args:
        leaderboard: the ranked models.
        evaluations: of these models.
        portraits: SVG figures of single models, `NAME_confusion_matrix` and `NAME_mistakes`.
        robustness: accuracy on corrupted images, if it has been evaluated.
        drawn: the SVG figures named in `DRAWN`, in that order.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=formatting.percent,
        duration=formatting.duration,
        number=formatting.number,
        data_uri=formatting.data_uri,
        width=formatting.width,
    )
    source = importlib.resources.files("cifar10.pipelines.reporting").joinpath("report.html.jinja").read_text("utf-8")
    models = [
        {
            **row,
            "record": each.record,
            "description": describe(each.architecture),
            "confusion_matrix": portraits.get(f"{each.architecture}_confusion_matrix"),
            "mistakes": portraits.get(f"{each.architecture}_mistakes"),
        }
        for row, each in zip(leaderboard.to_dict("records"), evaluations.models, strict=True)
    ]
    corrupted = [] if robustness is None else _mean_robustness(robustness, leaderboard)
    shown = dict(zip(DRAWN, drawn, strict=True)) | ({} if corrupted else {"robustness": None})
    return environment.from_string(source).render(
        summary=summarise(leaderboard, evaluations),
        models=models,
        figures=shown,
        robustness=corrupted,
        views=next((row["views"] for row in models if row["views"] != "none"), None),
        with_seeds=bool((leaderboard.seeds > 1).any()),
        test_images=int(leaderboard.test_examples.iloc[0]),
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def summarise(leaderboard: pd.DataFrame, evaluations: Evaluations) -> str:
    """Say in two or three sentences which model is best, and how certain that is."""
    ranked = leaderboard[leaderboard["rank"].notna()]
    if ranked.empty:
        return "No model can be ranked, because all of them were trained on the validation images, too."
    first = ranked.iloc[0]
    test = (
        f"test accuracy {formatting.percent(first.accuracy)} (95% CI {100 * first.accuracy_low:.1f} to "
        f"{100 * first.accuracy_high:.1f})"
    )
    if len(ranked) == 1:
        return f"{first.architecture} is the only ranked model: {test}."
    best = (
        f"{first.architecture} has the best validation accuracy of {len(ranked)} models "
        f"({formatting.percent(first.val_accuracy)}), and {test}."
    )
    ties = list(ranked.architecture[ranked.ties_with_first])
    if ties:
        return f"{best} Its test accuracy is not significantly different from that of {formatting.listed(ties)}."
    second = ranked.iloc[1]
    pair = next(
        pair for pair in evaluations.pairs if {pair.first, pair.second} == {first.architecture, second.architecture}
    )
    sign = 1 if pair.first == first.architecture else -1
    low, high = sorted((sign * pair.low, sign * pair.high))
    order = "ahead of" if sign * pair.difference > 0 else "behind"
    return (
        f"{best} On the test images it is {abs(100 * pair.difference):.1f} points {order} the next model, "
        f"{second.architecture} (95% CI of the difference {100 * low:+.1f} to {100 * high:+.1f}), which is significant."
    )


def _mean_robustness(table: pd.DataFrame, leaderboard: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the mean accuracy over all corruptions, one row per model, in the order of the leaderboard."""
    columns = ["accuracy", "clean_accuracy", "images"]
    means = _in_leaderboard(table, leaderboard).groupby("architecture")[columns].mean()
    return [
        {"architecture": name, **means.loc[name].to_dict()} for name in leaderboard.architecture if name in means.index
    ]


def _in_leaderboard(table: pd.DataFrame, leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of those versions that are in the leaderboard."""
    return table.merge(leaderboard[["architecture", "model_version"]], on=["architecture", "model_version"])
