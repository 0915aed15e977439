"""Rank the models, draw the comparison, and write the report."""

import base64
import datetime
import importlib.resources
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures, metrics
from cifar10.pipelines.reporting.architectures import describe

NESTED = ("classes", "confusion", "reliability", "calibrated_reliability", "history", "recipe", "versions")
MEASURED = ("latency_ms", "throughput", "flops", "measured_on")  # where the costs were
COLOURS = {  # of the figures -> their names in the page, which has others for a dark one
    "#000000": "ink",
    figures.BLUE: "blue",
    figures.ORANGE: "orange",
    figures.GREEN: "green",
    figures.PINK: "pink",
    figures.SKY: "sky",
    figures.GREY: "grey",
}
STYLE = """<style>
:root { --ink: #1c1c1c; --blue: #0072b2; --orange: #d55e00; --green: #009e73; --pink: #b85c92; --sky: #3a9bd1; \
--grey: #757575; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e4e4; --blue: #4aa8e0; --orange: #f0803c; --green: #2fc49a; \
--pink: #dd92bd; --sky: #8ccbf0; --grey: #9a9a9a; } }
svg { fill: var(--ink); }
</style>"""


def rank(evaluations: list[dict[str, Any]], pairs: pd.DataFrame, seeds: pd.DataFrame | None) -> pd.DataFrame:
    """The leaderboard: a row a model, by validation accuracy. Test figures stand beside it and decide nothing.

    A model trained on the validation pictures too stands at the end, without a rank: it cannot be chosen by them.
    `like_the_first` says of which the first cannot be told apart on test. Where several seeds of a recipe were judged,
    `seeds` says how many, and `seeds_mean`, `seeds_sd`, `seeds_low` and `seeds_high` what their test accuracies are.
    """
    table = pd.DataFrame(evaluations).drop(columns=list(NESTED), errors="ignore")
    table = table.reindex(columns=list(dict.fromkeys([*table.columns, *MEASURED])))
    places = pd.Series(table.index + 1, table.index, dtype="Int64")
    table.insert(0, "rank", places.where(table.val_accuracy.notna()))
    first = table.architecture[0]
    alike = {*pairs.loc[(pairs["first"] == first) & ~pairs.told_apart, "second"],
             *pairs.loc[(pairs["second"] == first) & ~pairs.told_apart, "first"]}  # fmt: skip
    table.insert(2, "like_the_first", [name in alike for name in table.architecture])
    return pd.concat([table, pd.DataFrame([_seeds_of(each, seeds) for each in evaluations])], axis=1)


def _seeds_of(evaluation: dict[str, Any], seeds: pd.DataFrame | None) -> dict[str, Any]:
    columns = ["architecture", "recipe_hash", "data_version"]
    if seeds is None:
        seeds = pd.DataFrame(columns=[*columns, "accuracy"])
    mine = seeds[(seeds[columns] == [evaluation[column] for column in columns]).all(axis=1)]
    values = mine.accuracy.astype(float).tolist()
    interval = metrics.t_interval(values)
    return {
        "seeds": len(values) or 1,
        "seeds_mean": float(np.mean(values)) if interval else None,
        "seeds_sd": float(np.std(values, ddof=1)) if interval else None,
        "seeds_low": interval.low if interval else None,
        "seeds_high": interval.high if interval else None,
    }


def write_markdown(leaderboard: pd.DataFrame) -> str:
    """The leaderboard for a README."""
    lines = [
        "| | validation | test, 95% interval | averaged views | log loss | parameters | an answer | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows: Any = leaderboard.itertuples()
    for row in rows:
        mark = " ≈" if row.like_the_first else ""
        cells = [
            f"`{row.architecture}`{mark}",
            _share(row.val_accuracy),
            f"{_share(row.accuracy)} ({100 * row.accuracy_low:.2f} to {100 * row.accuracy_high:.2f})",
            _share(row.averaged_accuracy),
            f"{row.loss:.3f}",
            f"{row.parameters:,}",
            "" if pd.isna(row.latency_ms) else f"{row.latency_ms:.1f} ms",
            _duration(row.training_seconds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "By validation accuracy. ≈: on test, not to be told apart from the first (McNemar's exact test, Holm, 5%).",
    ]
    return "\n".join(lines) + "\n"


def draw_comparison(leaderboard: pd.DataFrame) -> Figure:
    """The leaderboard as a picture: how good, how costly."""
    return figures.comparison(leaderboard)


def draw_trade_offs(leaderboard: pd.DataFrame) -> Figure:
    """Accuracy against latency, size and training time."""
    return figures.trade_offs(leaderboard)


def draw_overlaid_curves(evaluations: list[dict[str, Any]]) -> Figure:
    """Validation accuracy over the epochs."""
    return figures.overlaid_curves(evaluations)


def draw_calibration(evaluations: list[dict[str, Any]]) -> Figure:
    """How far confidence can be believed."""
    return figures.calibration(evaluations)


def draw_per_class(evaluations: list[dict[str, Any]]) -> Figure:
    """F1 by class."""
    return figures.per_class(evaluations)


def draw_pairs(leaderboard: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Which models can be told apart."""
    return figures.pairwise(leaderboard, pairs)


def draw_robustness(table: pd.DataFrame | None, leaderboard: pd.DataFrame) -> Iterator[Figure]:
    """Accuracy under corruptions, of the versions in the leaderboard; yields nothing where none was judged."""
    if table is None:
        return
    of_it = _of_leaderboard(table, leaderboard)
    if not of_it.empty:
        yield figures.robustness(of_it, list(leaderboard.architecture))


def write_report(
    leaderboard: pd.DataFrame,
    evaluations: list[dict[str, Any]],
    pairs: pd.DataFrame,
    portraits: dict[str, dict[str, str]],
    robustness: pd.DataFrame | None,
    *drawn: str | None,
) -> str:
    """One HTML page that needs nothing else: the answer, the evidence for it, and how it was made.

    `drawn` is the SVG of the comparison, the trade-offs, the curves, the calibration, the classes, the pairs and, where
    it was judged, the robustness.
    """
    import jinja2

    names = ("comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "robustness")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(share=_share, duration=_duration, picture=_picture, points=_points, number=_number)
    source = importlib.resources.files("cifar10.pipelines.reporting").joinpath("report.html.jinja").read_text("utf-8")
    models = [
        {
            **row,
            "evaluation": each,
            "description": describe(row["architecture"]),
            **portraits.get(row["architecture"], {}),
        }
        for row, each in zip(leaderboard.to_dict("records"), evaluations, strict=True)
    ]
    robust = [] if robustness is None else _robust(robustness, leaderboard)
    pictures = dict(zip(names, drawn, strict=True)) | ({} if robust else {"robustness": None})
    return environment.from_string(source).render(
        answer=answer(leaderboard, pairs),
        models=models,
        figures=pictures,
        robustness=robust,
        views=next((row["views"] for row in models if row["views"] != "none"), None),
        with_seeds=bool((leaderboard.seeds > 1).any()),
        pictures=int(leaderboard.test_pictures.iloc[0]),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def answer(leaderboard: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Which model is better, and how sure that is, in two sentences."""
    ranked = leaderboard[leaderboard["rank"].notna()]
    if ranked.empty:
        return "No model can be ranked: those that were judged were trained on the validation pictures, too."
    first = ranked.iloc[0]
    right = (
        f"{_share(first.accuracy)} of the test pictures right, which stands for {100 * first.accuracy_low:.1f} to "
        f"{100 * first.accuracy_high:.1f}% of pictures of this kind."
    )
    if len(ranked) == 1:
        return f"{first.architecture} is the only model that can be ranked: it has {right}"
    best = f"{first.architecture} is the best of {len(ranked)} by validation ({_share(first.val_accuracy)})"
    sentence = f"{best}; it has {right}"
    alike = list(ranked.architecture[ranked.like_the_first])
    if alike:
        return f"{sentence} It cannot be told apart from {_listed(alike)}."
    second = ranked.iloc[1]
    pair = pairs[
        ((pairs["first"] == first.architecture) & (pairs["second"] == second.architecture))
        | ((pairs["second"] == first.architecture) & (pairs["first"] == second.architecture))
    ].iloc[0]
    sign = 1 if pair["first"] == first.architecture else -1
    low, high = sorted((sign * pair.low, sign * pair.high))
    better = "ahead of" if sign * pair.difference > 0 else "behind"
    return (
        f"{sentence} On test it is {abs(100 * pair.difference):.1f} points {better} the next, {second.architecture} "
        f"(95% interval of the difference: {100 * low:+.1f} to {100 * high:+.1f}), more than chance would explain."
    )


def _robust(table: pd.DataFrame, leaderboard: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean accuracy under all corruptions, and of how many pictures, a row a model, by the order of the leaderboard."""
    columns = ["accuracy", "clean_accuracy", "pictures"]
    means = _of_leaderboard(table, leaderboard).groupby("architecture")[columns].mean()
    return [
        {"architecture": name, **means.loc[name].to_dict()} for name in leaderboard.architecture if name in means.index
    ]


def _of_leaderboard(table: pd.DataFrame, leaderboard: pd.DataFrame) -> pd.DataFrame:
    """The rows of those versions that are in the leaderboard."""
    return table.merge(leaderboard[["architecture", "model_version"]], on=["architecture", "model_version"])


def _picture(svg: str) -> str:
    """An SVG of ours as a data address, in colours that follow those of the page."""
    for colour, name in COLOURS.items():
        svg = re.sub(colour, f"var(--{name})", svg, flags=re.IGNORECASE)
    svg = re.sub(r"(<svg[^>]*>)", lambda found: f"{found[1]}{STYLE}", svg, count=1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _points(svg: str) -> float:
    """How wide an SVG of ours is drawn."""
    found = re.search(r'<svg[^>]* width="([\d.]+)pt"', svg)
    assert found  # noqa: S101  matplotlib always writes it
    return float(found[1])


def _share(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{100 * value:.2f}%"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or pd.isna(value) else format(value, form)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
