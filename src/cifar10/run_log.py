"""What a run logs besides the messages of its nodes: one line per node, and its result at the end."""

import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cifar10.configuration import ConfigLoader
from cifar10.contracts import Evaluations, TrainedModel
from cifar10.datasets.artifact import LocalDataset
from cifar10.store import with_urls

logger = logging.getLogger(__name__)

RUNNER_LOGGERS = ("kedro.runner.sequential_runner", "kedro.runner.thread_runner")
SEVERAL_SEEDS = "Validation: the mean over the seeds of a recipe. Test: of its lowest seed; the report has the mean."


class OneLinePerNode(logging.Filter):
    """Of the messages of Kedro's runners, keep one per node that has saved something, and which nodes are skipped.

    Attributes:
        saved: the names of the nodes that have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.saved: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log this record."""
        if logging.getLogger("kedro").isEnabledFor(logging.INFO):  # conf/logging.yml asks for all of them
            return True
        if record.levelno > logging.INFO or record.msg.startswith(("Pipeline execution completed", "Skipping ")):
            return True
        return record.msg == "Completed node: %s" and record.getMessage().removeprefix("Completed node: ") in self.saved

    def install(self) -> None:
        """Replace the filter of an earlier run in this process."""
        for name in RUNNER_LOGGERS:
            runner = logging.getLogger(name)
            for other in [each for each in runner.filters if isinstance(each, OneLinePerNode)]:
                runner.removeFilter(other)
            runner.addFilter(self)


def same_data(run_params: dict[str, Any]) -> str:
    """Return the options that make another command use the environment and the data folder of this run."""
    options = f" --env={run_params['env']}" if run_params["env"] else ""
    if data_root := run_params["runtime_params"].get("data_root"):
        options += f" {shlex.quote(f'--params=data_root={data_root}')}"
    return options


def log_versions(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Log which versions a run reads, of the datasets that have several, and what beside them is no version."""
    names = pipeline.inputs()
    for name in sorted(names):
        dataset = catalog.get(name)
        if isinstance(dataset, LocalDataset) and (others := dataset.others()):
            logger.warning("%s: not read, because their names are not versions: %s", name, ", ".join(others))
        if name.endswith(".model") and "models" in names:  # nodes that choose among all models say what they choose
            continue
        if (
            isinstance(dataset, LocalDataset)
            and dataset.has_versions
            and len(versions := dataset.list_versions(full_path=False)) > 1
        ):
            version = dataset.path.parent.name
            which = "the newest" if version == max(versions) else "one"
            logger.info("%s: reading version %s, %s of %d", name, version, which, len(versions))


def log_result(made: set[str], catalog: DataCatalog, run_params: dict[str, Any], loader: ConfigLoader) -> None:
    """Log what the run has produced, where it is, and what to run next.

    Args:
        made: the datasets that the run has saved.
        catalog: of the run.
        run_params: likewise.
        loader: of its configuration.
    """
    models = [name for name in sorted(made) if name.endswith(".model")]
    lines: list[str] = []
    if "leaderboard" in made:
        lines += _leaderboard(catalog.load("leaderboard"))
    elif "evaluations" in made:
        lines += [*_evaluations(catalog.load("evaluations")), _next("reporting", run_params)]
    elif models:
        lines += [_model(catalog.load(name), _path(catalog, name)) for name in models]
        lines.append(_next("evaluation,reporting", run_params))
    elif "robustness" in made:
        lines.append(_next("reporting", run_params))
    elif "statistics" in made:
        if not any(name.endswith(".trials") for name in made):  # what follows a search is said below
            lines.append(_next("train_simple_cnn", run_params) + " (or another of `kedro models`)")
    elif "train_examples" in made:
        lines.append(_next("preprocessing", run_params))
    if "report" in made:
        lines.append(f"Report: {_path(catalog, 'report').resolve().as_uri()}")
    for name in sorted(each.removesuffix(".trials") for each in made if each.endswith(".trials")):
        if f"{name}.confirmed" not in made:
            again = f" (with the same --params of {name})" if name in run_params["runtime_params"] else ""
            lines.append(_next(f"tune_{name}", run_params, f" --from-nodes=tuning.{name}.confirm") + again)
    for name in sorted(each for each in made if each.endswith(".tuned")):
        story = [line for line in catalog.load(name).splitlines() if line.startswith("#")]
        lines += [line.removeprefix("# ") for line in story]
        architecture = name.removesuffix(".tuned")
        if catalog.load(f"{architecture}.confirmed").candidates:
            env = run_params["env"] or "base"  # of which the images and the recipe are
            lines.append(f"Recipe, a block for the parameters in conf/{env}: {_path(catalog, name)}")
        else:
            lines.append(
                f"{_next(f'tune_{architecture}', run_params)} (the same --params, but more tuning.trials or "
                "tuning.minutes); or change the space, for which "
                f"{catalog.load(f'{architecture}.study')} must be moved away first"
            )
    if "figure.runs" in made:
        lines.append(f"All versions: {_path(catalog, 'figure.runs').resolve().as_uri()}, and {_path(catalog, 'runs')}")
    if "published" in made:
        reported = loader.of_environment("published", "parameters")["class_names"]
        same_classes = catalog.load("params:class_names") == reported
        lines += _published(_path(catalog, "published"), run_params, same_classes=same_classes)
    if "serving" in made:
        lines += _export(_path(catalog, "serving"), catalog.load("model_card"))
    if "prediction" in made:
        figure = _path(catalog, "figure.prediction").resolve().as_uri()
        lines.append(f"Figure: {figure}, and the table {_path(catalog, 'prediction')}")
    for line in lines:
        logger.info("%s", line)


def _path(catalog: DataCatalog, name: str) -> Path:
    return catalog.get(name).path  # type: ignore[union-attr]


def _next(pipelines: str, run_params: dict[str, Any], options: str = "") -> str:
    return f"Next: kedro run --pipelines={pipelines}{options}{same_data(run_params)}"


def _model(model: TrainedModel, path: Path) -> str:
    record = model.record
    accuracy = "no validation" if record.val_accuracy is None else f"validation accuracy {record.val_accuracy:.2%}"
    place = with_urls(str(path))
    return f"{record.architecture}: {accuracy} (epoch {record.best_epoch} of {record.epochs}), saved as {place}"


def _leaderboard(leaderboard: pd.DataFrame) -> Iterator[str]:
    rows: Any = leaderboard.itertuples()
    yield _row("rank", "model", "validation", "test", "95% CI")
    for row in rows:
        yield _row(
            "-" if pd.isna(row.rank) else str(row.rank),
            f"{row.name} ≈" if row.ties_with_first else row.name,
            "n/a" if pd.isna(row.mean_val_accuracy) else f"{row.mean_val_accuracy:.2%}",
            f"{row.accuracy:.2%}",
            f"{100 * row.accuracy_low:.1f} to {100 * row.accuracy_high:.1f}",
        )
    yield from _recipes(dict(zip(leaderboard.name, leaderboard.recipe, strict=True)))
    if leaderboard.ties_with_first.any():
        yield "≈: test accuracy not significantly different from that of the first."
    if (leaderboard.seeds > 1).any():
        yield SEVERAL_SEEDS


def _evaluations(evaluations: Evaluations) -> Iterator[str]:
    yield _row("rank", "model", "validation", "test", "95% CI")
    for place, row in enumerate(evaluations.rows, start=1):
        metrics, ranked = row.first.metrics, row.val_accuracy is not None
        yield _row(
            str(place) if ranked else "-",
            row.name,
            f"{row.val_accuracy:.2%}" if ranked else "n/a",
            f"{metrics.accuracy:.2%}",
            f"{100 * metrics.accuracy_low:.1f} to {100 * metrics.accuracy_high:.1f}",
        )
    from cifar10.comparison import compare_recipes  # imports what most commands can do without

    yield from _recipes(compare_recipes(evaluations.rows))
    if any(len(row.seeds) > 1 for row in evaluations.rows):
        yield SEVERAL_SEEDS


def _recipes(differing: dict[str, Any]) -> Iterator[str]:
    """Say how the recipes of the rows differ that are of one architecture; those of others are empty, or NaN."""
    yield from (f"{name}: {text}" for name, text in differing.items() if isinstance(text, str) and text)


def _row(rank: str, name: str, val: str, test: str, interval: str) -> str:
    return f"{rank:>4}  {name:28}{val:>10}{test:>9}   {interval}"


def _published(folder: Path, run_params: dict[str, Any], *, same_classes: bool) -> Iterator[str]:
    yield f"Published in {folder}"
    env, preparation = "published", ""
    if not same_classes:
        env = "NAME"
        preparation = "copy conf/published to conf/NAME, set class_names and data_name in its parameters.yml, then: "
    options = ""
    if folder != Path(run_params["project_path"]) / "data/published":  # which is that of conf/base/globals.yml
        docs = folder.with_name(f"{folder.name}_docs")  # because docs has the tracked leaderboard of data/published
        options = f" {shlex.quote(f'--params=published_root={folder},docs_root={docs}')}"
    yield f"Next: {preparation}kedro run --env={env} --pipelines=reporting{options}"


def _export(folder: Path, card: dict[str, Any]) -> Iterator[str]:
    version = max((int(each.name) for each in (folder / card["name"]).iterdir() if each.name.isdecimal()), default=0)
    yield f"Exported {card['name']}, version {version}: {folder / card['name'] / str(version)}"
    yield f"Serve it: cifar10-serve --models {shlex.quote(str(folder))}"
