"""`kedro run`, where a mistake in the input ends in one clear message instead of a traceback; and `kedro prune`."""

import functools
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import pipelines
from kedro.framework.startup import ProjectMetadata
from kedro.io import DatasetError

from cifar10.errors import InputError, did_you_mean
from cifar10.pruning import delete, old_versions

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


@cli.command()
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Versions of each artefact that stay.")
@click.option("--env", "-e", default="local", help="As of `kedro run`.")
@click.option("--data-root", type=click.Path(path_type=Path, exists=True), help="If not that of the environment.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.pass_obj
def prune(metadata: ProjectMetadata, keep: int, env: str, data_root: Path | None, yes: bool) -> None:
    """Delete old versions, after showing which; models that the leaderboard names stay."""
    if data_root is None:
        conf = metadata.project_path / "conf"
        if env != "local" and not (conf / env).is_dir():
            raise click.ClickException(f"There is no environment {env}: {conf / env} is missing.")
        loader = OmegaConfigLoader(str(conf), base_env="base", default_run_env="local", env=env)
        data_root = metadata.project_path / loader["globals"]["data_root"]
    old = old_versions(data_root, keep)
    if not old:
        click.echo(f"Nothing in {data_root} has more than {keep} versions.")
        return
    for each in old:
        click.echo(f"{each.megabytes:9.2f} MB  {each.folder.relative_to(data_root)}")
    click.echo(
        f"{len(old)} versions, {sum(each.megabytes for each in old):.1f} MB in all. The last {keep} of each stay."
    )
    if yes or click.confirm("Delete them?", default=False):
        delete(old)
        click.echo("Deleted.")
    else:
        click.echo("Nothing was deleted.")
