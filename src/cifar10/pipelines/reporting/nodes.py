"""Rank the evaluated models, and write the leaderboard and the report."""

import base64
import datetime
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures, metrics
from cifar10.architectures.descriptions import describe
from cifar10.architectures.facts import FACTS
from cifar10.comparison import compare_recipes
from cifar10.contracts import (
    CIFAR10_C,
    NESTED_METRICS,
    PROJECT,
    Evaluations,
    Pair,
    Row,
    check_class_names,
    machine_name,
)
from cifar10.datasets import cifar10_c
from cifar10.pipelines.reporting import advice, formatting, recipes
from cifar10.training.identity import engine_version

logger = logging.getLogger(__name__)

FIRST_COLUMNS = ["rank", "name", "mean_val_accuracy", "accuracy", "accuracy_low", "accuracy_high"]
DIGITS = 6  # significant ones in tables: more than a reader needs, and few enough for processors to agree
DRAWN = ("comparison", "trade_offs", "overlaid_curves", "calibration", "per_class", "pairs", "robustness")
SHOWN = {  # figures on the Markdown page -> what they show
    "comparison": "Accuracy, training minutes and parameters of each model",
    "trade_offs": "Test accuracy against latency, file size and training time",
    "overlaid_curves": "Validation accuracy over the epochs",
    "robustness": "Test accuracy under corruptions of increasing severity",
}


def rank(evaluations: Evaluations, class_names: list[str]) -> pd.DataFrame:
    """Return the leaderboard: one line per row, by mean validation accuracy. Test metrics decide nothing.

    A row whose models were trained on the val split, too, cannot be ranked by it, and stands at the end without a rank.
    `ties_with_first` marks rows whose test accuracy does not differ significantly from that of the first. Metrics,
    costs and record are those of the lowest seed. `mean_val_accuracy` is the mean over all `seeds`, which ranks;
    `seeds_mean`, `seeds_sd`, `seeds_low` and `seeds_high` are mean, standard deviation and 95% interval of their test
    accuracies; `differs` says what differs between them besides the seed. `recipe` says how the rows of one
    architecture differ. `evaluations` is the digest of the evaluations.

    Raises:
        InputError: the models were trained with other class names.
    """
    check_class_names("The latest evaluation", evaluations.class_names, class_names)
    ties, differing = _ties(evaluations), compare_recipes(evaluations.rows)
    lines = [
        {
            "rank": None if row.val_accuracy is None else place,
            "name": row.name,
            "architecture": row.architecture,
            "ties_with_first": row.name in ties,
            "recipe": differing[row.name],
            "mean_val_accuracy": row.val_accuracy,
            **_of_first(row),
            **_over_seeds(row),
            "evaluations": evaluations.digest,
        }
        for place, row in enumerate(evaluations.rows, start=1)
    ]
    table = _rounded(pd.DataFrame(lines)).astype({"rank": "Int64"})
    return table[[*FIRST_COLUMNS, *(name for name in table if name not in FIRST_COLUMNS)]]


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with `DIGITS` significant digits."""
    floats = table.select_dtypes("float").columns
    return table.assign(**{name: table[name].map(lambda value: float(f"{value:.{DIGITS}g}")) for name in floats})


def _ties(evaluations: Evaluations) -> set[str]:
    """Return the rows whose test accuracy does not differ significantly from that of the first, if that has a rank."""
    first = evaluations.rows[0].name
    if evaluations.rows[0].val_accuracy is None:
        return set()
    return {
        name
        for pair in evaluations.pairs
        if not pair.significant and first in (pair.first, pair.second)
        for name in {pair.first, pair.second} - {first}
    }


def _of_first(row: Row) -> dict[str, Any]:
    """Return the metrics, the costs, and what identifies the model of the lowest seed, as plain values."""
    evaluation, record = row.first, row.first.record
    versions = {name: version for name, version in record.versions.items() if name != "commit"}
    return {
        **evaluation.metrics.model_dump(exclude=NESTED_METRICS),
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
        "fingerprint": record.fingerprint,
        "engine_version": record.engine_version,
        "compute_dtype": record.compute_dtype,
        "model_version": evaluation.version,
        "identity": evaluation.identity,
        "data_version": record.data_version,
        "initial_weights": record.initial_weights,
        "image_size": record.image_size,
        "commit": record.versions["commit"],
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "hardware": record.hardware,
        "remark": evaluation.remark,
    }


def _over_seeds(row: Row) -> dict[str, Any]:
    """Summarise the test accuracies of a row over its seeds."""
    values = [each.metrics.accuracy for each in row.seeds]
    several, interval = len(values) > 1, metrics.t_interval(values)
    return {
        "seeds": len(values),
        "seeds_mean": float(np.mean(values)) if several else None,
        "seeds_sd": float(np.std(values, ddof=1)) if several else None,
        "seeds_low": interval.low if interval else None,
        "seeds_high": interval.high if interval else None,
        "seed_numbers": " ".join(str(each.record.seed) for each in row.seeds),
        "seed_versions": " ".join(each.version for each in row.seeds),
        "differs": "; ".join(f"{name} {', '.join(found)}" for name, found in row.differences.items()),
    }


def list_pairs(evaluations: Evaluations) -> pd.DataFrame:
    """Return the pairwise comparisons, one row per pair."""
    return _rounded(pd.DataFrame([pair.model_dump() for pair in evaluations.pairs], columns=list(Pair.model_fields)))


def write_markdown(
    evaluations: Evaluations,
    class_names: list[str],
    data_name: str,
    robustness: pd.DataFrame | None,
    leaderboard_figures: str | None,
) -> str:
    """Return the leaderboard as a Markdown page: result, table, which model to use, and links to figures.

    Args:
        evaluations: of all models.
        class_names: the current ones.
        data_name: for the title.
        robustness: accuracy on corrupted images, if it has been evaluated.
        leaderboard_figures: the folder of the figures, relative to the page; None to leave them out.

    Raises:
        InputError: the models were trained with other class names.
    """
    leaderboard = rank(evaluations, class_names)
    sections = [
        f"# Leaderboard: {data_name}",
        summarise(evaluations),
        _table(leaderboard, evaluations),
        " ".join(
            [
                *explain_ranks(leaderboard),
                *_explain_recipes(leaderboard),
                *_explain_views(leaderboard),
                explain_latency(leaderboard),
            ]
        ),
        *advice.remarks(evaluations),
    ]
    if sentences := advice.advise(evaluations):
        sections += ["## Which model to use", "\n".join(f"- {each}" for each in sentences)]
    if missing := advice.not_run(evaluations):
        sections.append(f"Not run here: {', '.join(missing)}.")
    if leaderboard_figures is not None:
        shown = dict(SHOWN)
        if _of_evaluated(robustness, evaluations).empty:
            del shown["robustness"]
        sections += ["## Figures", *(f"![{text}]({leaderboard_figures}/{name}.png)" for name, text in shown.items())]
    return "\n\n".join(sections) + "\n"


def _table(leaderboard: pd.DataFrame, evaluations: Evaluations) -> str:
    """Return the leaderboard as a Markdown table; columns that would be empty are left out."""
    with_views, with_seeds = leaderboard.averaged_accuracy.notna().any(), (leaderboard.seeds > 1).any()
    with_commit = leaderboard.commit.notna().any()
    rows: list[dict[str, str]] = []
    lines: Any = leaderboard.to_dict("records")
    for line, row in zip(lines, evaluations.rows, strict=True):
        model = f"`{row.name}`{row.marked_name.removeprefix(row.name)}{' ≈' if line['ties_with_first'] else ''}"
        interval = f"{100 * line['accuracy_low']:.2f} to {100 * line['accuracy_high']:.2f}"
        cells = {
            "rank": formatting.number(line["rank"], "d") or "-",
            "model": f"{model} ({line['recipe']})" if line["recipe"] else model,
            "validation, mean over seeds" if with_seeds else "validation": (
                formatting.percent(line["mean_val_accuracy"]) or "n/a"
            ),
            "test (95% CI)": f"{formatting.percent(line['accuracy'])} ({interval})",
        }
        if with_views:
            cells["test, views averaged"] = formatting.percent(line["averaged_accuracy"])
        if with_seeds:
            mean = f"{formatting.percent(line['seeds_mean'])} ({formatting.spread(line)})"
            cells["test, mean over seeds"] = mean if line["seeds"] > 1 else ""
        rows.append(
            {
                **cells,
                "log loss": f"{line['loss']:.3f}",
                "parameters": f"{line['parameters']:,}",
                "latency, ms": formatting.latency(row.first.costs),
                "seed": line["seed_numbers"].replace(" ", ", "),
                "epoch kept": f"{line['best_epoch']} of {line['epochs']}",
                "minutes": f"{line['training_seconds'] / 60:,.1f}",
                "trained on": machine_name(line["hardware"]),
                **({"commit": row.first.record.versions["commit"] or "n/a"} if with_commit else {}),
            }
        )
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (rows[0], ["---"] * len(rows[0]), *(row.values() for row in rows))
    )


def _explain_recipes(leaderboard: pd.DataFrame) -> list[str]:
    if not leaderboard.recipe.any():
        return []
    network = "; `network` is its fingerprint" if leaderboard.recipe.str.contains("network ").any() else ""
    return [f"In parentheses: the options in which the recipes of one network differ{network}."]


def _explain_views(leaderboard: pd.DataFrame) -> list[str]:
    if (leaderboard.views == "none").all():
        return []
    return [
        "Views averaged: the prediction for a test image is averaged over shifted or mirrored copies of it; the "
        "accuracy to quote is the one without."
    ]


def explain_ranks(leaderboard: pd.DataFrame) -> list[str]:
    """Return the sentences that explain the marks of this leaderboard."""
    ranked, several = leaderboard["rank"].notna(), (leaderboard.seeds > 1).any()
    sentences = []
    if ranked.any():
        sentences.append(f"Ranked by validation accuracy{', averaged over the seeds of a recipe' if several else ''}.")
    if several:
        sentences.append("Whatever is not called a mean is of its lowest seed.")
    if not ranked.all():
        sentences.append("n/a: trained on the validation images, too, and so without a rank.")
    if leaderboard.ties_with_first.any():
        sentences.append(
            "≈: test accuracy not significantly different from that of the first (McNemar's exact test with Holm's "
            "correction, 5%)."
        )
    return sentences


def explain_latency(leaderboard: pd.DataFrame) -> str:
    """Return the sentence that explains the latencies of this leaderboard."""
    spread = ""
    if leaderboard.latency_low_ms.notna().any():
        spread = ", with their 5th and 95th percentiles" + (
            "" if leaderboard.latency_low_ms.notna().all() else " where they were recorded"
        )
    machines = leaderboard.measured_on.unique()
    where = machine_name(machines[0])
    if len(machines) > 1:
        elsewhere: Any = leaderboard[leaderboard.measured_on != leaderboard.hardware].itertuples()
        others = "; ".join(f"{row.name}: {machine_name(row.measured_on)}" for row in elsewhere)
        where = f"the machine of the training{f' ({others})' if others else ''}"
    return f"Latency: the median of repeated predictions of one image with Keras{spread}, on {where}."


def labelled(draw: Callable[[Any], Figure]) -> Callable[[Any], Figure]:
    """Make a function of the evaluations, or of their leaderboard, label its figure with their digest.

    The label is saved with the figure, so that the report can tell whether it shows the same evaluations.
    """

    @functools.wraps(draw)
    def draw_labelled(source: Any) -> Figure:
        figure = draw(source)
        figure.set_label(source.digest if isinstance(source, Evaluations) else source.evaluations.iloc[0])
        return figure

    return draw_labelled


def draw_robustness(robustness: pd.DataFrame | None, evaluations: Evaluations) -> Iterator[Figure]:
    """Draw the accuracy on corrupted images of the models that were evaluated; yield nothing if there is none."""
    table = _of_evaluated(robustness, evaluations)
    if not table.empty:
        figure = figures.robustness(table, [row.name for row in evaluations.rows])
        figure.set_label(_digest(table))
        yield figure


def _of_evaluated(robustness: pd.DataFrame | None, evaluations: Evaluations, suite: str = PROJECT) -> pd.DataFrame:
    """Return the lines of a suite and of those models that stand for a row of the evaluations, under its name."""
    if robustness is None:
        return pd.DataFrame(columns=["name"])
    if "suite" in robustness:
        robustness = robustness[robustness.suite.fillna(PROJECT) == suite].drop(columns="suite")
    elif suite != PROJECT:
        robustness = robustness[:0]
    rows = [(row.name, row.first.identity) for row in evaluations.rows]
    return pd.DataFrame(rows, columns=["name", "identity"]).merge(robustness.drop(columns="name"), on="identity")


def _digest(table: pd.DataFrame) -> str:
    """Return the first 12 digits of the SHA-256 of a table."""
    return hashlib.sha256(table.to_csv().encode()).hexdigest()[:12]


def write_report(
    evaluations: Evaluations,
    class_names: list[str],
    data_name: str,
    data_description: str,
    training_commands: Callable[[list[tuple[str, dict[str, Any]]]], list[str]],
    portraits: dict[str, str] | None,
    robustness: pd.DataFrame | None,
    *drawn: str | None,
) -> str:
    """Return one HTML page that needs no other file: the result, the evidence for it, and how it was produced.

    Figures of other models or evaluations, which an interrupted or partial run has left, are left out.

    Args:
        evaluations: of all models.
        class_names: the current ones.
        data_name: for the title.
        data_description: in sentences.
        training_commands: returns the commands of these architectures and recipes, empty where there is none.
        portraits: SVG figures of single models, `NAME_confusion_matrix`, `NAME_learning_curves` and `NAME_mistakes`;
            None where the images are missing, as with published models: then those that need no images are drawn.
        robustness: accuracy on corrupted images, if it has been evaluated.
        drawn: the SVG figures named in `DRAWN`, in that order.

    Raises:
        InputError: the models were trained with other class names.
    """
    leaderboard, corrupted = rank(evaluations, class_names), _of_evaluated(robustness, evaluations)
    kinds = ["confusion_matrix", "learning_curves", "mistakes"]
    if portraits is None:
        kinds.remove("mistakes")
        drawn_here = [figures.portraits(row) for row in evaluations.rows]
        portraits = {name: figures.to_svg(figure) for each in drawn_here for name, figure in each.items()}
    given: dict[str, str | None] = {**dict(zip(DRAWN, drawn, strict=True)), **portraits}
    labels = dict.fromkeys(DRAWN, evaluations.digest) | {"robustness": _digest(corrupted)}
    if corrupted.empty:
        del labels["robustness"]
    for row in evaluations.rows:
        labels |= dict.fromkeys((f"{row.name}_{kind}" for kind in kinds), row.first.identity)
    shown = {name: svg for name, label in labels.items() if (svg := given.get(name)) and formatting.label(svg) == label}
    expected = {name for name, svg in given.items() if svg} | (set(labels) - set(DRAWN))
    if missing := sorted(expected & set(labels) - set(shown)):
        logger.warning(
            "The report lacks figures, because an earlier or interrupted run has left none, or those of other models "
            "or data: %s. To draw them: kedro run --pipelines=evaluation,reporting (with the same --env and --params)",
            ", ".join(missing),
        )
    trainings = [(row.architecture, row.first.record.recipe) for row in evaluations.rows]
    models = [
        {
            **line,
            "row": row,
            "record": row.first.record,
            "description": describe(row.architecture),
            "facts": FACTS.get(row.architecture),
            "options": recipes.chosen_options(row.first.record),
            "command": command,
            "engine": engine_version(row.architecture),
        }
        for line, row, command in zip(
            leaderboard.to_dict("records"), evaluations.rows, training_commands(trainings), strict=True
        )
    ]
    return formatting.template("report.html.jinja").render(
        title=f"{len(models)} model{'s' * (len(models) > 1)} on {data_name}",
        data_description=data_description,
        data_version=evaluations.data_version,
        downloads={"leaderboard.csv": _as_uri(leaderboard), "pairs.csv": _as_uri(list_pairs(evaluations))},
        summary=summarise(evaluations),
        advice=advice.advise(evaluations),
        not_run=advice.not_run(evaluations),
        remarks=advice.remarks(evaluations),
        remarked=[row.marked_name for row in evaluations.rows if row.first.remark],
        marked={row.name: row.marked_name for row in evaluations.rows},
        with_mistakes="mistakes" in kinds,
        models=models,
        figures=shown,
        robustness=_mean_robustness(corrupted),
        corruptions=corrupted.corruption.nunique() if len(corrupted) else 0,
        severities=corrupted.severity.nunique() if len(corrupted) else 0,
        latency_explanation=explain_latency(leaderboard),
        machines=leaderboard.measured_on.unique().tolist(),
        several_machines=len(figures.machines(leaderboard)) > 1,
        caveat=" ".join(advice.caveat(evaluations.rows)),
        cifar10_c=_errors(_of_evaluated(robustness, evaluations, CIFAR10_C)),
        extra_corruptions=cifar10_c.EXTRA,
        not_corrupted=[row.marked_name for row in evaluations.rows if row.name not in set(corrupted["name"])],
        views=sorted({line["views"] for line in models} - {"none"}),
        explanations=explain_ranks(leaderboard),
        ranked=[row.name for row in evaluations.rows if row.val_accuracy is not None],
        redefined=_redefined(evaluations.rows),
        unranked=[row.name for row in evaluations.rows if row.val_accuracy is None],
        with_seeds=bool((leaderboard.seeds > 1).any()),
        test_images=int(leaderboard.test_examples.iloc[0]),
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _as_uri(table: pd.DataFrame) -> str:
    """Return a table as a CSV file in a data URI."""
    return f"data:text/csv;base64,{base64.b64encode(table.to_csv(index=False).encode()).decode()}"


def _redefined(rows: list[Row]) -> set[str]:
    """Return the architectures whose rows do not all have the same network, as after a change of the code."""
    networks = {(row.architecture, row.first.record.fingerprint) for row in rows}
    names = [architecture for architecture, _ in networks]
    return {name for name in names if names.count(name) > 1}


def summarise(evaluations: Evaluations) -> str:
    """Say in two or three sentences which model is best, and how certain that is."""
    ranked = [row for row in evaluations.rows if row.val_accuracy is not None]
    if not ranked:
        return "No model can be ranked, because all of them were trained on the validation images, too."
    first, scores = ranked[0], ranked[0].first.metrics
    test = (
        f"{'' if len(first.seeds) == 1 else f'with seed {first.first.record.seed} '}a test accuracy of "
        f"{formatting.percent(scores.accuracy)} (95% CI {100 * scores.accuracy_low:.1f} to "
        f"{100 * scores.accuracy_high:.1f})"
    )
    if len(ranked) == 1:
        return f"{first.marked_name} is the only ranked model, and has {test}."
    tied = [row.marked_name for row in ranked[1:] if row.val_accuracy == first.val_accuracy]
    over = "" if len(first.seeds) == 1 else f", mean over {len(first.seeds)} seeds"
    best = (
        f"{first.marked_name} has the best validation accuracy of {len(ranked)} models "
        f"({formatting.percent(first.val_accuracy)}{over}{f', as has {formatting.listed(tied)}' if tied else ''}), "
        f"and {test}."
    )
    ties = [row.title for row in ranked if row.name in _ties(evaluations)]
    if ties:
        same = f"{best} This test accuracy is not significantly different from that of {formatting.listed(ties)}."
        return " ".join([same, *advice.caveat([row for row in ranked if row == first or row.title in ties])])
    second = ranked[1]
    pair = next(pair for pair in evaluations.pairs if {pair.first, pair.second} == {first.name, second.name})
    sign = 1 if pair.first == first.name else -1
    low, high = sorted((sign * pair.low, sign * pair.high))
    order = "ahead of" if sign * pair.difference > 0 else "behind"
    difference = (
        f"On the test images it is {abs(100 * pair.difference):.1f} points {order} the next model, {second.title} "
        f"(95% CI of the difference {100 * low:+.1f} to {100 * high:+.1f}), which is significant."
    )
    return " ".join([best, difference, *advice.caveat([first, second])])


def _mean_robustness(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the mean accuracy over all corruptions, one line per row of the evaluations, in their order."""
    if table.empty:
        return []
    means = table.groupby("name", sort=False)[["accuracy", "clean_accuracy", "images"]].mean()
    return means.reset_index().to_dict("records")  # type: ignore[return-value]


def _errors(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the error on CIFAR-10-C in the columns of a table: model -> corruption -> its mean over the severities.

    `mean` is that over the 15 common corruptions, as the literature reports it, and NaN if one of them is missing.
    """
    if table.empty:
        return {}
    errors = 1 - table.pivot_table(index="name", columns="corruption", values="accuracy", sort=False)
    errors = errors.reindex(columns=[*cifar10_c.COMMON, *cifar10_c.EXTRA])
    mean = errors[[*cifar10_c.COMMON]].mean(axis=1, skipna=False)
    return errors.dropna(axis=1, how="all").assign(mean=mean).to_dict("index")  # type: ignore[return-value]
