"""`kedro run`, in which a mistake in the input ends in one clear message instead of a traceback, and `kedro prune`."""

import functools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.startup import ProjectMetadata
from kedro.io import DatasetError
from kedro.utils import find_kedro_project

from cifar10 import run_options
from cifar10.errors import InputError
from cifar10.pruning import delete, old_versions

logger = logging.getLogger(__name__)


@click.group(name="cifar10")
def cli() -> None:
    """Commands of this project, which take precedence over Kedro's own."""


@functools.wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:
    # Kedro would log the same error before the message below, and advice that does not help after it.
    logging.getLogger("kedro.pipeline.node").addFilter(lambda record: record.levelno < logging.ERROR)
    logging.getLogger("kedro.runner.sequential_runner").addFilter(lambda record: record.levelno < logging.WARNING)
    try:
        project = find_kedro_project(Path.cwd()) or Path.cwd()
        with _mistakes():
            run_options.check(options, Path(options["conf_source"] or project / "conf"))
            return kedro_run.callback(**options)  # type: ignore[misc]
    except KeyboardInterrupt as error:
        click.echo(err=True)  # after the terminal's ^C
        click.ClickException(f"{str(error) or 'Interrupted.'} All saved files are complete.").show()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(1)  # TensorFlow's threads may still be running, and would crash while Python shuts down
    except MemoryError as error:
        raise click.ClickException("There is not enough memory. Close other programs, or lower batch_size.") from error


@contextmanager
def _mistakes() -> Iterator[None]:
    """Show mistakes of the user as one message."""
    try:
        yield
    except (InputError, DatasetError, MissingConfigException, yaml.YAMLError) as error:
        logger.debug("Where it happened:", exc_info=True)
        raise click.ClickException(_message(error)) from error


def _message(error: BaseException) -> str:
    """Return the project's own message, if that is why Kedro failed; otherwise Kedro's."""
    return next((str(cause) for cause in _causes(error) if isinstance(cause, InputError)), str(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


run = click.Command("run", params=kedro_run.params, callback=_run, help=kedro_run.help)
cli.add_command(run)


@cli.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Number of versions of each artifact to keep.")
@click.option("--env", "-e", default="local", help="Environment, as in `kedro run`.")
@click.option(
    "--data-root", type=click.Path(path_type=Path, exists=True), help="Data folder, instead of that of the environment."
)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.pass_obj
def prune(metadata: ProjectMetadata, keep: int, env: str, data_root: Path | None, yes: bool) -> None:
    """Delete old versions and remains of killed runs, after listing them; the models of the leaderboard are kept."""
    with _mistakes():
        _prune(metadata, keep, env, data_root, yes)


def _prune(metadata: ProjectMetadata, keep: int, env: str, data_root: Path | None, yes: bool) -> None:
    if data_root is None:
        conf = metadata.project_path / "conf"
        if env != "local" and not (conf / env).is_dir():
            raise InputError(f"There is no environment {env}: {conf / env} is missing.")
        loader = OmegaConfigLoader(str(conf), base_env="base", default_run_env="local", env=env)
        data_root = metadata.project_path / loader["globals"]["data_root"]
    old = old_versions(data_root, keep)
    if not old:
        click.echo(f"Nothing in {data_root} has more than {keep} versions, or was left behind by a killed run.")
        return
    for each in old:
        click.echo(f"{each.megabytes:9.2f} MB  {each.path.relative_to(data_root)}")
    click.echo(
        f"{sum(each.megabytes for each in old):.1f} MB in total. The latest {keep} versions of each artifact stay, and "
        "all models of the latest evaluation."
    )
    if yes or click.confirm("Delete them?", default=False):
        delete(old)
        click.echo("Deleted.")
    else:
        click.echo("Nothing was deleted.")
