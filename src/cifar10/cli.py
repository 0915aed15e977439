"""`kedro run`, but a mistake in the input ends in one clear message instead of a traceback."""

import functools
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.io import DatasetError

from cifar10.errors import InputError
from cifar10.parameters import did_you_mean

logger = logging.getLogger(__name__)


@click.group(name="cifar10")
def cli() -> None:
    """Commands of this project, which take precedence over Kedro's own."""


@functools.wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:
    # The message below says it all. Kedro would log the same error before it, and after it advice that does not help.
    logging.getLogger("kedro.pipeline.node").addFilter(lambda record: record.levelno < logging.ERROR)
    logging.getLogger("kedro.runner.sequential_runner").addFilter(lambda record: record.levelno < logging.WARNING)
    try:
        _check_names([*options["pipelines"], *filter(None, [options["pipeline"]])])
        return kedro_run.callback(**options)  # type: ignore[misc]
    except (InputError, DatasetError, MissingConfigException, yaml.YAMLError) as error:
        logger.debug("Where it happened:", exc_info=True)
        raise click.ClickException(_message(error)) from error
    except KeyboardInterrupt:
        click.ClickException(
            "Interrupted. What was saved is whole; the same command continues a training after its last finished epoch."
        ).show()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)  # TensorFlow's threads may still be at work, and crash where Python takes itself apart under them
    except MemoryError as error:
        raise click.ClickException("There is no memory left. Close other programs, or lower batch_size.") from error


def _check_names(names: list[str]) -> None:
    for name in names:
        if name not in pipelines:
            raise InputError(f"There is no pipeline {name}; {did_you_mean(name, pipelines.keys())}")


def _message(error: BaseException) -> str:
    """What the project itself says is wrong, if that is why Kedro failed; otherwise what Kedro says."""
    return next((str(cause) for cause in _causes(error) if isinstance(cause, InputError)), str(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


cli.add_command(click.Command("run", params=kedro_run.params, callback=_run, help=kedro_run.help))
