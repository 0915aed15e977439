"""Checks of the options of `kedro run`, before anything is loaded."""

import importlib
import itertools
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import InputError, did_you_mean, nearest

ONE_EACH = {"train": "train", "training": "train", "tune": "tune", "tuning": "tune"}  # a word -> its pipelines' prefix
RUNNERS = ("SequentialRunner", "ThreadRunner", "ParallelRunner")


def check(options: dict[str, Any], conf: Path) -> None:
    """Refuse a name that does not exist, and pipelines that cannot run together.

    Args:
        options: of `kedro run`, as its callback gets them.
        conf: the configuration; if it is a folder, it has one folder per environment.

    Raises:
        InputError: it says which name is unknown, and which similar ones exist; or which pipelines exclude each other.
    """
    if options["pipeline"] and options["pipelines"]:
        both = ",".join([*options["pipelines"], options["pipeline"]])
        raise InputError(f"--pipeline is the older spelling of --pipelines: give one of them, as in --pipelines={both}")
    if "," in (options["pipeline"] or ""):
        raise InputError(f"--pipeline takes one name; for several: --pipelines={options['pipeline']}")
    names = options["pipelines"] or [options["pipeline"] or "__default__"]
    for name in names:
        if name in ARCHITECTURES and name not in pipelines:
            raise InputError(f"There is no pipeline {name}, which is an architecture. To train it: train_{name}")
        kind, _, architecture = name.partition("_")  # which may be `all`
        if kind in ONE_EACH and name not in pipelines and not (architecture and nearest(architecture, ARCHITECTURES)):
            both = ",".join(f"{ONE_EACH[kind]}_{each}" for each in ("simple_cnn", "vgg16"))
            raise InputError(
                f"There is no pipeline {name}, but one for each architecture, as in --pipelines={both}; `kedro models` "
                "lists the architectures."
            )
    _check("pipeline", names, pipelines)
    check_environment(options["env"], conf)
    if runner := options["runner"]:
        _check_runner(runner)
    for one, other in itertools.combinations(dict.fromkeys(names), 2):
        _check_outputs(one, other)
    pipeline = sum((pipelines[name] for name in names), Pipeline([]))
    where = f" in {', '.join(names)}"
    nodes = {node.name for node in pipeline.nodes}
    for option in ("node_names", "from_nodes", "to_nodes"):
        _check("node", options[option], nodes, where)
    _check("namespace", options["namespaces"], set(_namespaces(pipeline)), where)
    _check("tag", options["tags"], {tag for node in pipeline.nodes for tag in node.tags}, where)
    for option in ("from_inputs", "to_outputs"):
        _check("dataset", options[option], pipeline.datasets(), where)
    _check("dataset", options["load_versions"], {name for each in pipelines.values() for name in each.datasets()})


def check_environment(env: str | None, conf: Path) -> None:
    """Refuse an environment that does not exist.

    Args:
        env: as the option has it; None: that of the variable KEDRO_ENV, if it is set.
        conf: the configuration; if it is a folder, it has one folder per environment.

    Raises:
        InputError: it says which environments exist.
    """
    env = env or os.environ.get("KEDRO_ENV")
    if env and conf.is_dir():
        _check("environment", [env], environments(conf))


def environments(conf: Path) -> list[str]:
    """Return the environments of a configuration in a folder."""
    return sorted(path.name for path in conf.iterdir() if path.is_dir())


def _check(kind: str, given: Iterable[str] | None, known: Collection[str], where: str = "") -> None:
    for name in given or ():
        if name not in known:
            if not known:
                raise InputError(f"There is no {kind} {name}{where}, nor any other.")
            raise InputError(f"There is no {kind} {name}{where}; {did_you_mean(name, known)}")


def _check_outputs(one: str, other: str) -> None:
    """Refuse two pipelines of which different nodes write the same."""
    first, second = set(pipelines[one].nodes), set(pipelines[other].nodes)
    both = {name for node in first - second for name in node.outputs} & {
        name for node in second - first for name in node.outputs
    }
    if both:
        raise InputError(
            f"The pipelines {one} and {other} cannot run together, because both write {', '.join(sorted(both))}. "
            "Leave out one of them."
        )


def _check_runner(runner: str) -> None:
    """Check a runner of Kedro, or the dotted path of another one."""
    if "." not in runner:
        _check("runner", [runner], RUNNERS)
        return
    module, _, name = runner.rpartition(".")
    try:
        found = hasattr(importlib.import_module(module), name)
    except (ImportError, TypeError, ValueError):  # the latter two of names that begin with a point
        found = False
    if not found:
        raise InputError(f"There is no runner {runner}; Kedro's own are {', '.join(RUNNERS)}.")


def _namespaces(pipeline: Pipeline) -> Iterable[str]:
    """Yield every namespace of a node, and those around it."""
    for node in pipeline.nodes:
        parts = (node.namespace or "").split(".")
        yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))
