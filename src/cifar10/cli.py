"""`kedro run`, `farm`, `models`, `compare` and `prune`, in which a mistake in the input ends in one clear message."""

import copy
import functools
import inspect
import io
import logging
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import KedroCliError
from kedro.framework.project import pipelines as registry
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog, DatasetError
from kedro.utils import find_kedro_project

from cifar10 import pipelines, run_log, run_options, store
from cifar10.architectures import ARCHITECTURES
from cifar10.completion import Names
from cifar10.datasets.artifact import is_version
from cifar10.errors import BUSY, BusyError, InputError, forbidden, reason
from cifar10.keras_settings import several_processes
from cifar10.pruning import delete, old_versions

logger = logging.getLogger(__name__)


class _Group(click.Group):
    """Commands, and an answer to the name of a pipeline in place of one, for which Kedro suggests other commands."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name; None if another group may have it."""
        command = super().get_command(ctx, cmd_name)
        if command or ctx.resilient_parsing:  # the shell completes an unfinished line
            return command
        # Not from the registry, because Kedro asks here for its own commands, too, and that would import all pipelines.
        stages = {module.name for module in pkgutil.iter_modules(pipelines.__path__) if module.ispkg}
        kind, _, architecture = cmd_name.partition("_")
        if kind in run_options.ONE_EACH:
            cmd_name = f"{run_options.ONE_EACH[kind]}_{architecture or 'NAME'}"
        elif cmd_name not in stages:
            return None
        raise click.ClickException(f"That is no command, but a pipeline. To run it: kedro run --pipelines={cmd_name}")


@click.group(
    name="cifar10",
    cls=_Group,
    help=inspect.cleandoc("""
    This project trains CNN architectures on CIFAR-10 and compares them. To start:

    \b
    kedro run --env=demo    do all of it on synthetic images, in a minute
    kedro run --help        the pipelines, and how to choose and change them
    kedro models            the architectures, and what has been trained

    The recipes, one per architecture, are in conf/base/parameters_architectures.yml.
    """),  # Kedro appends it to its own help, which has another indentation
)
def cli() -> None:
    """Commands of this project, which take precedence over Kedro's own."""


@functools.wraps(kedro_run.callback)  # type: ignore[arg-type]
def _run(**options: Any) -> Any:
    # Kedro would log the same error before the message below, and advice that does not help after it.
    logging.getLogger("kedro.pipeline.node").addFilter(lambda record: record.levelno < logging.ERROR)
    for name in run_log.RUNNER_LOGGERS:
        logging.getLogger(name).addFilter(lambda record: record.levelno < logging.WARNING)
    try:
        with _mistakes():
            run_options.check(options, _conf(options["conf_source"]))
            if options["pipeline"] and not options["pipelines"]:  # both work here; Kedro would warn of the older one
                options |= {"pipelines": [options["pipeline"]], "pipeline": None}
            return kedro_run.callback(**options)  # type: ignore[misc]
    except KeyboardInterrupt as error:
        click.echo(err=True)  # after the terminal's ^C
        click.ClickException(f"{str(error) or 'Interrupted.'} All saved files are complete.").show()
        _end()  # TensorFlow's threads may still be running, and would crash while Python shuts down
    except MemoryError as error:
        raise click.ClickException("There is not enough memory. Close other programs, or lower batch_size.") from error


def _end(code: int = 1) -> NoReturn:
    """End this process at once, after an error."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _project() -> Path:
    return find_kedro_project(Path.cwd()) or Path.cwd()


def _conf(conf_source: str | None) -> Path:
    return Path(conf_source or _project() / "conf")


@contextmanager
def _mistakes() -> Iterator[None]:
    """Show mistakes of the user as one message."""
    try:
        yield
    except (InputError, DatasetError, MissingConfigException, PermissionError, yaml.YAMLError) as error:
        logger.debug("Where it happened:", exc_info=True)
        busy = any(isinstance(cause, BusyError) for cause in _causes(error))
        raise (_Busy if busy else click.ClickException)(_message(error)) from error


class _Busy(click.ClickException):
    exit_code = BUSY


def _message(error: BaseException) -> str:
    """Return the project's own message, if that is why Kedro failed; otherwise Kedro's."""
    for cause in _causes(error):
        if isinstance(cause, InputError):
            return store.with_urls(str(cause))
        if isinstance(cause, PermissionError):
            return forbidden(cause)
    return str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__


def _refuse_repeated(params: str | None) -> None:
    """Refuse `--params` that set one parameter twice, of which only the last would count."""
    names = [item.partition("=")[0].strip() for item in (params or "").split(",") if "=" in item]
    for name in names:
        if names.count(name) > 1:
            raise click.ClickException(f"--params sets {name} {names.count(name)} times. Set it once.")


def _refuse_empty(opts: dict[str, Any]) -> None:
    """Refuse options whose value is empty, for which the default would be used."""
    for name in ("pipelines", "pipeline", "env"):
        if name in opts and not opts[name].strip(", "):
            raise click.ClickException(
                f"--{name} is empty, as where a variable of the shell is not set. Give it a value, or leave it out."
            )


class _Command(click.Command):
    """A command that takes `--params`, whose values are read as YAML, and that can write on any terminal."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options as Click does; report values that are empty or not YAML, and options that are given twice.

        What is commonly typed in place of `--pipelines` and `--params` is reported with what was probably meant.
        """
        if ctx.resilient_parsing:  # the shell completes an unfinished line
            return super().parse_args(ctx, args)
        try:
            opts, arguments, given = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            from cifar10.parameters import is_recipe_option

            name = error.option_name.lstrip("-").replace("-", "_")
            if self.name != "run" or not is_recipe_option(name):
                raise
            advice = f"{error.message} For one run, set it by --params=NAME.{name}=VALUE; NAME is the architecture."
            raise click.NoSuchOption(error.option_name, advice, ctx=ctx) from error
        if "=" in arguments:
            raise click.UsageError("Write no spaces around the = of an option or a parameter.", ctx)
        if arguments and self.name == "run":
            what, example = "Name what to run", "--pipelines=train_vgg16,evaluation"
            if any("=" in each for each in arguments):
                what, example = "Separate parameters", "--params=vgg16.epochs=2,vgg16.seed=1"
            raise click.UsageError(
                f"{' '.join(arguments)} belongs to no option. {what} with commas and without spaces, as in {example}",
                ctx,
            )
        for option in given:
            if given.count(option) > 1 and not getattr(option, "is_flag", False):
                raise click.ClickException(
                    f"{option.opts[0]} is given {given.count(option)} times, of which only the last would count. Give "
                    "it once; where it takes several values, separate them by commas."
                )
        _refuse_empty(opts)
        _refuse_repeated(opts.get("params"))
        for each in filter(None, opts.get("load_versions", "").split(",")):
            if not re.match(r"\s*[^:=]+:", each):
                example = "simple_cnn.model:2026-01-31T12.00.00.000Z"
                raise click.ClickException(f"--load-versions={each} is not NAME:VERSION, as in {example}")
        try:
            return super().parse_args(ctx, args)
        except KedroCliError as error:  # which would show the error that is being handled, and so nothing
            raise click.ClickException(error.message) from error
        except click.UsageError as error:
            if "must contain a key and a value" not in error.message or re.search(r"`[^`]*:[^`]*` must", error.message):
                raise  # the latter says enough: `vgg16.epochs:3`, with a colon
            raise click.UsageError(
                f"{error.message} A comma begins the next parameter: write decimals with a point, and several values "
                'with spaces, as in "--params=vgg16.resolutions=16 24 32"',
                ctx,
            ) from error
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or reason(error)
            raise click.ClickException(
                f"--params is not valid: {problem}. Quote a value that has special characters in it, as in "
                "\"--params=data_root='[data]'\""
            ) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and escape the characters that the encoding of the terminal or log file lacks."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if not several_processes():
                raise
            error.show() if isinstance(error, click.ClickException) else traceback.print_exception(error)
            # JAX would wait for the other processes, which wait for this one.
            _end(error.exit_code if isinstance(error, click.ClickException) else 1)


def _environments(given: dict[str, Any]) -> list[str]:
    return run_options.environments(_conf(given.get("conf_source")))


def _pipelines(given: dict[str, Any]) -> list[str]:
    return [name for name in registry if name != "__default__"]


def _trained(given: dict[str, Any]) -> Iterator[str]:
    """Yield NAME of each trained architecture, and NAME:VERSION of each version, the newest first."""
    models: Any = _catalog(given.get("env"), given.get("conf_source"), given.get("params") or {}).load("models")
    for name in models.names():
        yield name
        yield from (f"{name}:{version}" for version in reversed(models.versions(name)))


# What this project changes in the options of `kedro run`. Its help shows these options first.
CHANGED: dict[str, dict[str, Any]] = {
    "pipelines": {
        "type": Names(_pipelines, several=True),
        "metavar": "NAME,...",
        "help": "Pipelines to run; their order does not matter. Default: the six named above.",
    },
    "params": {
        "metavar": "NAME=VALUE,...",
        "help": "Parameters of conf/*/parameters*.yml for this run alone, as in vgg16.epochs=3,vgg16.seed=1; and "
        "data_root=FOLDER, where all data but the published are.",
    },
    "env": {
        "type": Names(_environments),
        "metavar": "NAME",
        "help": "Folder of conf whose settings go before those of conf/base, such as demo or published. Default: "
        "KEDRO_ENV, or local.",
    },
    "load_versions": {
        "metavar": "NAME:VERSION,...",
        "help": "Versions to read in place of the newest, as in vgg16.model:VERSION.",
    },
    "runner": {
        "metavar": "NAME",
        "help": "SequentialRunner (the default) or, where nothing is trained, ThreadRunner.",
    },
    "pipeline": {"hidden": True},  # deprecated
}


def _options() -> list[click.Parameter]:
    options = {str(option.name): copy.copy(option) for option in kedro_run.params}
    for name, changes in CHANGED.items():
        vars(options[name]).update(changes)
    return [options[name] for name in {**CHANGED, **options}]


run = _Command(
    "run",
    params=_options(),
    callback=_run,
    short_help="Run pipelines: make the data, train, evaluate, report.",
    help="""Run pipelines: make the data, train networks, evaluate and report them.

    Without --pipelines, these six: ingestion, preprocessing, train_simple_cnn, train_deep_cnn, evaluation, reporting;
    in about half an hour on two cores.

    \b
    ingestion       download CIFAR-10, and check it (ingestion_csv: read CSV files)
    preprocessing   split off the validation images
    train_NAME      train the architecture NAME by its recipe
    tune_NAME       search for a better recipe
    evaluation      test all trained networks
    robustness      test the evaluated ones on corrupted images
    reporting       make the leaderboard, its figures, and report.html
    export          write the winner as SavedModel, ONNX and LiteRT
    predict         classify images: --params=image=FILE_OR_FOLDER (by an older model: architecture=NAME:VERSION)
    history         list and draw all trained versions
    publish         copy what the evaluation stands on into data/published
    benchmark       measure the speed of training and inference

    \b
    kedro run --env=demo
    kedro run --pipelines=ingestion,preprocessing
    kedro run --pipelines=train_vgg16 --params=vgg16.epochs=12
    kedro run --pipelines=evaluation,reporting

    `kedro models` lists the architectures. Their recipes are in conf/base/parameters_architectures.yml, all other
    parameters beside it; settings of your own go to conf/local.
    """,
    epilog="Exit codes: 0 success; 1 an error, or Ctrl-C; 2 an unknown option; "
    f"{BUSY} another run is training the same, so try again later.",
)
cli.add_command(run)
kedro_run.hidden = True  # it is what this one runs, and `kedro --help` would list both


@cli.command(
    cls=_Command,
    short_help="Train on many machines, with Dask.",
    context_settings={"ignore_unknown_options": True},
    epilog="Exit codes: 0 all tasks are complete; 1 an error, Ctrl-C, or a task that failed; 2 an unknown option.",
)
@click.option(
    "--pipelines",
    type=Names(
        lambda given: [name for name in _pipelines(given) if name.startswith(("train_", "tune_"))], several=True
    ),
    required=True,
    metavar="NAME,...",
    help="Any of train_NAME and tune_NAME.",
)
@click.option("--seeds", help="Seeds of each training, as in 0..9 or 0,3,5. Default: that of its recipe.")
@click.option("--scheduler", help="Dask scheduler, as in tcp://HOST:8786. Default: a cluster on this machine.")
@click.option(
    "--resource",
    help="What a task takes of a worker of the scheduler, as `dask worker --resources` declares it: GPU=1 (default), "
    "or cores to compute on, as in CORES=4.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share a study; without --scheduler, also those that this machine runs at once.",
)
@click.option("--params", default="", help="As of kedro run.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF kedro run]")
@click.pass_context
def farm(
    ctx: click.Context,
    pipelines: str,
    seeds: str | None,
    scheduler: str | None,
    resource: str | None,
    workers: int,
    params: str,
    options: tuple[str, ...],
) -> None:
    """Train on many machines: one `kedro run` for each training and seed, or for each worker of a study.

    What has been trained with the same recipe, seed and data is left out. If a worker dies, another one resumes its
    task. All machines need this folder and the data folder, under the same paths.
    """
    from cifar10.farm import cluster
    from cifar10.farm.plan import parse_seeds, plan

    with _mistakes():
        cluster.check_installed()
        shared = [*options, *([f"--params={params}"] if params else [])]
        given = run.make_context("run", [*shared, f"--pipelines={pipelines}"], parent=ctx.parent).params
        env = given["env"] or os.environ.get("KEDRO_ENV")
        if env and not given["env"]:
            options = (*options, f"--env={env}")  # other machines may have another variable
        run_options.check(given, _conf(given["conf_source"]))
        if given["only_missing_outputs"]:
            raise InputError("--only-missing-outputs: kedro farm leaves out what has been trained. Leave it out.")
        numbers = None if seeds is None else parse_seeds(seeds)
        if scheduler and workers > 1 and not any(name.startswith("tune_") for name in given["pipelines"]):
            raise InputError(
                f"--workers={workers} has no effect: the workers of the --scheduler run trainings. Leave it out."
            )
        needed = cluster.needed(resource, scheduler, workers)
        session = KedroSession.create(
            _project(), env=env, runtime_params=given["params"], conf_source=given["conf_source"]
        )
        same_data = run_log.same_data({"env": env, "runtime_params": given["params"]})
        tasks = plan(
            session.load_context(),
            given["pipelines"],
            numbers,
            workers,
            list(options),
            params,
            prepare=f"kedro run --pipelines=ingestion,preprocessing{same_data}",
        )
        complete = cluster.run(tasks, scheduler, workers, needed)
    if complete and any(task.training for task in tasks):
        click.echo(f"Next: kedro run --pipelines=evaluation,reporting{same_data}")
    ctx.exit(0 if complete else 1)


WHERE = {option.name: copy.copy(option) for option in run.params if option.name in ("env", "conf_source", "params")}
vars(WHERE["params"]).update(metavar="data_root=FOLDER", help="Where the data are, and other parameters of kedro run.")


@cli.command(cls=_Command, params=[*WHERE.values()], short_help="Delete old versions, after asking.")
@click.option("--keep", type=click.IntRange(min=1), required=True, help="Number of versions of each artifact to keep.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def prune(keep: int, env: str | None, conf_source: str | None, params: dict[str, Any], yes: bool) -> None:
    """Delete old versions and remains of killed runs, after listing them.

    Of each recipe and seed, on the data of the latest evaluation and of the latest training, the newest model is kept.

    The data folder is the one that `kedro run` would use with the same options and the same KEDRO_ENV.
    """
    with _mistakes():
        catalog: Any = _catalog(env, conf_source, params)
        if getattr(catalog.get("evaluations"), "read_only", False):
            raise InputError("kedro prune is not for published models: leave out --env, and unset KEDRO_ENV.")
        path = catalog.get("models").path
        store.check_local(path, "kedro prune")
        _prune(path.parent, keep, yes)


def _catalog(env: str | None, conf_source: str | None, params: dict[str, Any]) -> DataCatalog:
    """Return the catalog that `kedro run` would use with the same options."""
    run_options.check_environment(env, _conf(conf_source))
    context = KedroSession.create(_project(), env=env, runtime_params=params, conf_source=conf_source).load_context()
    # Kedro would import all pipelines, to check the parameters once more; the project's hook has done that.
    context._pipelines_to_validate = []
    return context.catalog  # type: ignore[return-value]


def _prune(data_root: Path, keep: int, yes: bool) -> None:
    old = old_versions(data_root, keep)
    if not old:
        click.echo(f"There is nothing to delete in {data_root}.")
        return
    click.echo(f"In {data_root}:")
    for each in old:
        click.echo(f"{each.megabytes:9.2f} MB  {each.path.relative_to(data_root)}")
    models = sum(each.path.parent.suffix == ".keras" and is_version(each.path) for each in old)
    latest = f"{keep} versions" if keep > 1 else "version"
    click.echo(
        f"{sum(each.megabytes for each in old):.1f} MB in total; {models} of these {len(old)} are models. What stays: "
        f"of each artifact the latest {latest}; of each recipe and seed, on the data of the latest evaluation and of "
        "the latest training, the newest model."
    )
    if yes or click.confirm(f"Delete them from {data_root}?", default=False):
        delete(old)
        click.echo("Deleted.")
    else:
        click.echo("Nothing was deleted.")


@cli.command(
    cls=_Command, params=[*WHERE.values()], short_help="List the architectures, or the trained versions of one."
)
@click.argument("name", required=False, type=Names(lambda given: ARCHITECTURES))
def models(name: str | None, env: str | None, conf_source: str | None, params: dict[str, Any]) -> None:
    """List all architectures, or what is known of the one with this NAME, and its trained versions.

    The data folder is the one that `kedro run` would use with the same options and the same KEDRO_ENV; with
    --env=published, the models are the published ones.
    """
    from cifar10 import comparison, terminal
    from cifar10.pipelines.history.nodes import list_architectures, list_versions

    with _mistakes():
        catalog = _catalog(env, conf_source, params)
        trained: Any = catalog.load("models")
        if name is not None:
            comparison.check_architecture(name, trained)
        runs = list_versions(trained, catalog.load("all_evaluations"))
        if name is None:
            where = store.with_urls(str(trained.folder))
            terminal.print_architectures(terminal.console(), list_architectures(runs), where)
        else:
            published = getattr(catalog.get("evaluations"), "read_only", False)  # and so without checkpoints
            records = (trained.load(name, version).record for version in trained.versions(name))
            unfinished = [] if published else catalog.load(f"{name}.checkpoint").trainings(records)
            commands = catalog.load("training_commands")([(name, each.recipe) for each in unfinished])
            terminal.print_versions(terminal.console(), name, runs, zip(unfinished, commands, strict=True))


@cli.command(cls=_Command, params=[*WHERE.values()], short_help="Compare trained models side by side.")
@click.argument("models", nargs=-1, type=Names(_trained), metavar="NAME[:VERSION] NAME[:VERSION] ...")
def compare(models: tuple[str, ...], env: str | None, conf_source: str | None, params: dict[str, Any]) -> None:
    """Compare two to five trained models, of one architecture or several: each with the first.

    Without a VERSION, the newest one is meant; `kedro models NAME` lists all. A row of the leaderboard can be named,
    too. The result is printed, and written as a page with figures and images, whose place is the last line.

    The data folder is the one that `kedro run` would use with the same options and the same KEDRO_ENV; with
    --env=published, the models are the published ones.
    """
    from cifar10 import comparison, terminal
    from cifar10.pipelines.reporting.comparison_page import write_page

    with _mistakes():
        catalog = _catalog(env, conf_source, params)
        compared = comparison.compare_versions(catalog, list(models))
        terminal.print_comparison(terminal.console(), compared)
        catalog.save("compare", write_page(compared))
        page: Any = catalog.get("compare")
        click.echo(f"\nPage: {page.path.resolve().as_uri()}")
