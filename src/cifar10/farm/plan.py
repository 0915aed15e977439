"""What is to be run: one task for each training, and for each worker of a study. Imports neither Keras nor Dask."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from kedro.framework.context import KedroContext
from kedro.io.core import generate_timestamp

from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Record
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.store import check_local
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.identity import is_recorded, recorded
from cifar10.training.recipe import RECIPES

LOGS = "09_logs"  # in the data folder


class Training(NamedTuple):
    """What a model is trained by, and on; see `Record`.

    Attributes:
        models: the folder of all models.
        checkpoints: the folder of the architecture's checkpoints.
        architecture: its name.
        expected: fields of the record of its model, by name.
    """

    models: Path
    checkpoints: Path
    architecture: str
    expected: dict[str, Any]

    def newest(self) -> Record | None:
        """Return the record of its newest model; None if there is none."""
        models = Models(self.models)
        records = (models.load(self.architecture, each).record for each in reversed(models.versions(self.architecture)))
        return next((record for record in records if is_recorded(record, self.expected)), None)

    def record(self) -> Record | None:
        """Return the record of its newest model; None if there is none, or the run that saved it did not finish."""
        record = self.newest()
        return None if record and Checkpoints(self.checkpoints).unfinished(record) else record


class Task(NamedTuple):
    """One `kedro run`, in a process of its own on some machine.

    Attributes:
        name: for the user.
        arguments: of `kedro`.
        folder: in which it runs.
        log: the file that its output is appended to.
        training: what it trains; None: it works on a study.
    """

    name: str
    arguments: list[str]
    folder: Path
    log: Path
    training: Training | None


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that a text such as `0..9` or `0,3,5..7` names, in its order.

    Raises:
        InputError: it is another text.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last >= 2**32:
            raise InputError(
                f"--seeds={text} is not valid: give numbers from 0 to {2**32 - 1:,}, or ranges of them, the lower end "
                "first, as in 0..9 or 0,3,5..7."
            )
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def plan(
    context: KedroContext,
    pipelines: list[str],
    seeds: list[int] | None,
    workers: int,
    options: list[str],
    params: str,
    prepare: str,
) -> list[Task]:
    """Return the tasks, in the order of the pipelines.

    Args:
        context: of the project, in the environment and with the parameters of the tasks.
        pipelines: `train_NAME` or `tune_NAME`.
        seeds: of each training; None: that of its recipe.
        workers: on each study.
        options: of `kedro run`, for all tasks.
        params: the value of its option `--params`, for all tasks.
        prepare: the command that prepares the data, for the message.

    Raises:
        InputError: there are other pipelines, seeds that nothing would have, or no data; or these are in an object
            store.
    """
    for name in pipelines:
        if not name.startswith(("train_", "tune_")):
            raise InputError(
                f"kedro farm runs train_NAME and tune_NAME, but not {name}, which is for one machine: kedro run "
                f"--pipelines={name}"
            )
        if seeds is not None and name.startswith("tune_"):
            raise InputError(f"--seeds: {name} has seeds of its own. Leave out one of them.")
    farmed = [name.partition("_")[2] for name in pipelines]
    for name, options_of_recipe in context.config_loader.runtime_params.items():
        if name in ARCHITECTURES and name not in farmed and options_of_recipe:
            raise InputError(
                f"{name}.{next(iter(options_of_recipe))} would have no effect: the tasks are of "
                f"{', '.join(dict.fromkeys(farmed))}. Leave it out, or add train_{name} to --pipelines."
            )
    models: Any = context.catalog.get("models")
    check_local(models.path, "kedro farm")
    statistics: Any = context.catalog.load("statistics")
    if statistics is None:
        raise InputError(f"The images must be prepared first: {prepare}")
    logs = models.path.parent.absolute() / LOGS / f"farm_{generate_timestamp()}"

    def task(name: str, pipeline: str, values: list[str], training: Training | None = None) -> Task:
        items = [*_without_others(params, pipeline.partition("_")[2]), *values]
        given = [f"--params={','.join(items)}"] if items else []
        log = logs / f"{name.replace(' ', '_')}.log"
        return Task(name, ["run", *options, f"--pipelines={pipeline}", *given], Path.cwd(), log, training)

    def expected(recipe: dict[str, Any], architecture: str) -> dict[str, Any]:
        parsed = RECIPES[architecture].model_validate(recipe)
        return recorded(parsed, architecture, statistics.data_version, context.params["class_names"])

    def trainings(pipeline: str, architecture: str) -> list[Task]:
        recipe = context.params[architecture]
        folders = models.path.absolute(), context.catalog.load(f"{architecture}.checkpoint").folder.absolute()
        if seeds is not None and "seed" in context.config_loader.runtime_params.get(architecture, {}):
            raise InputError(f"--seeds and --params={architecture}.seed are both given. Leave out one of them.")
        return [
            task(
                f"{architecture} seed {seed}",
                pipeline,
                [] if seeds is None else [f"{architecture}.seed={seed}"],
                Training(*folders, architecture, expected({**recipe, "seed": seed}, architecture)),
            )
            for seed in (seeds if seeds is not None else [recipe["seed"]])
        ]

    tasks: list[Task] = []
    for pipeline in dict.fromkeys(pipelines):
        kind, _, architecture = pipeline.partition("_")
        if kind == "train":
            tasks += trainings(pipeline, architecture)
        else:
            tasks += [task(f"{pipeline} worker {number}", pipeline, []) for number in range(1, workers + 1)]
    return tasks


def _without_others(params: str, architecture: str) -> list[str]:
    """Return the items of `--params` that are not of the recipe of another architecture, which a run would refuse."""
    items = filter(None, params.split(","))
    return [item for item in items if re.split(r"[.=]", item.strip())[0] not in ARCHITECTURES.keys() - {architecture}]
