"""Checks before a run, so that a mistake is reported before any work, and clean-up after it."""

import functools
import inspect
import logging
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import LOGGING, pipelines
from kedro.io import DataCatalog, DatasetError, MemoryDataset, SharedMemoryDataCatalog
from kedro.pipeline import Node, Pipeline

from cifar10 import parameters, run_log
from cifar10.architectures import ARCHITECTURES, build
from cifar10.configuration import ROOTS, ConfigLoader
from cifar10.datasets.artifact import LocalDataset
from cifar10.errors import InputError, nearest
from cifar10.keras_settings import check_backend, check_devices, several_processes
from cifar10.pipelines.reporting.recipes import training_command
from cifar10.store import check_local, is_local
from cifar10.training.identity import is_recorded, recorded
from cifar10.training.recipe import RECIPES, Recipe, TransferRecipe, check_optimizer
from cifar10.training.subset import check_examples
from cifar10.tuning.options import check_tuning

logger = logging.getLogger(__name__)


class ProjectHooks:
    """Check parameters, inputs and ImageNet weights before a run, and delete the checkpoints of finished trainings."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check all parameters, including those of other pipelines, and log as the project says in a notebook, too.

        Raises:
            InputError: a parameter is not valid, or stands where nothing reads it.
        """
        _configure_logging(context.project_path / "conf/logging.yml")
        loader = context.config_loader
        given = loader["parameters"]
        parameters.check(given)
        for name in ROOTS:
            if name in given and name not in loader.runtime_params:
                raise InputError(
                    f"{name} is set in conf/*/parameters*.yml, where nothing reads it. Set it in globals.yml of the "
                    f"environment, or for one run with --params={name}=FOLDER"
                )
        _warn_of_misspelt(loader["globals"], ROOTS, "globals.yml sets {name}, which no file of this project uses")
        self.loader: Any = loader

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog, load_versions: dict[str, str] | None) -> None:
        """Check that every version that is asked for exists, and add `training_commands`, which name the environment.

        Raises:
            InputError: a version does not exist, or the dataset has no versions.
        """
        for name in load_versions or {}:
            dataset = catalog.get(name)
            if not isinstance(dataset, LocalDataset) or not dataset.has_versions:
                raise InputError(f"--load-versions={name}: this dataset has no versions.")
            dataset.missing()
        commands = functools.partial(_training_commands, catalog=catalog, loader=self.loader)
        metadata = {"kedro-viz": {"layer": "reporting"}}
        catalog["training_commands"] = MemoryDataset(commands, copy_mode="assign", metadata=metadata)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check that everything the run reads exists and is readable.

        Raises:
            InputError: something does not exist yet, and the message names the pipelines that create it; an artifact
                is damaged or was written with another schema; it would write what the environment only reads; a version
                is asked for that the run would not use; nothing can be saved where it would save; the runner, the
                backend of Keras, or several devices or processes cannot run it; or the weights of a backbone are not
                available.
        """
        check_backend()
        self.recipes = _recipes(catalog, pipeline, {"model"})
        if self.recipes or several_processes():
            check_devices(
                catalog.load("params:devices"),
                only_trains=all((node.namespace or "").startswith("training.") for node in pipeline.nodes),
                only_missing_outputs=run_params["only_missing_outputs"],
            )
        _check_runner(run_params["runner"], catalog, trains=bool(self.recipes))
        tuned = _recipes(catalog, pipeline, {"trials", "confirmed"})
        if tuned or several_processes():
            models: Any = catalog.get("models")
            check_local(models.path, "A study" if tuned else "A training of several processes")
        _check_load_versions(run_params["load_versions"] or {}, pipeline)
        for name in sorted(pipeline.all_outputs()):
            dataset = catalog.get(name)
            if getattr(dataset, "read_only", False):
                raise InputError(
                    f"{name} is only read with --env={run_params['env']}. Leave that option out, or run what reads it: "
                    f"kedro run --env={run_params['env']} --pipelines=reporting"
                )
            architecture, _, kind = name.rpartition(".")
            if kind == "model" and architecture in ARCHITECTURES:
                _check_model_entry(architecture, dataset)
            if isinstance(dataset, LocalDataset):
                dataset.check_writable()
        _check_unused(run_params["runtime_params"] or {}, pipeline, catalog, {**self.recipes, **tuned})
        used = set().union(*(each.datasets() for each in pipelines.values()))
        entries = (name for name in catalog.keys() if not name.startswith("param"))  # noqa: SIM118 - no dict
        _warn_of_misspelt(entries, used, "The catalog has an entry {name}, which no pipeline uses")
        if missing := _missing_inputs(pipeline, catalog):
            wants_winner = "leaderboard" in pipeline.inputs()
            raise InputError(_how_to_create(missing, catalog, run_log.same_data(run_params), wants_winner=wants_winner))
        for name in sorted(pipeline.inputs()):
            dataset = catalog.get(name)
            if isinstance(dataset, LocalDataset):
                dataset.check(f"kedro run --pipelines={_maker(name)}{run_log.same_data(run_params)}")
        run_log.log_versions(pipeline, catalog)
        for name in tuned:
            check_tuning(name, catalog.load(f"params:{name}"), catalog.load("params:tuning"))
        self.follows = several_processes() and not _join(pipeline, catalog)
        for name, recipe in {**self.recipes, **tuned}.items():
            check_optimizer(name, recipe)
        _check_backbones({**self.recipes, **tuned})
        self.lines = run_log.OneLinePerNode()
        self.lines.install()

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> None:
        """Check, before the first training, that there are enough images for all of them: data may be made in the run.

        Log of a training whether the newest version is of the same.

        Raises:
            InputError: a recipe asks for more images than there are.
        """
        trained = next((name for name in self.recipes if f"{name}.model" in node.outputs), None)
        if trained is None:
            return
        train, val = len(inputs["train"]), len(inputs["val"])
        for name, recipe in self.recipes.items():
            check_examples(name, train_on=recipe.train_on, examples=recipe.examples, train=train, val=val)
        if not self.follows:
            data_version, class_names = inputs["statistics"].data_version, inputs["params:class_names"]
            _mention_the_same(trained, recorded(self.recipes[trained], trained, data_version, class_names), catalog)

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """Note that this node has saved something."""
        self.lines.saved.add(node.name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Delete the checkpoints of what was trained, because everything is saved, and log the result."""
        if self.follows:
            return
        made = {name for name in pipeline.all_outputs() if getattr(catalog.get(name), "saved", False)}
        for name, recipe in self.recipes.items():
            record = catalog.load(f"{name}.model").record
            if f"{name}.model" in made:
                from cifar10.training.identity import identity_of

                catalog.load(f"{name}.checkpoint").clear(identity_of(record))
            elif not is_recorded(
                record,
                recorded(recipe, name, catalog.load("statistics").data_version, catalog.load("params:class_names")),
            ):
                logger.warning(
                    "%s was not trained: any version satisfies --only-missing-outputs, and the newest is of another "
                    "recipe, seed, data, class names or engine version. Leave that option out to train this one, or to "
                    "resume it",
                    name,
                )
        run_log.log_result(made, catalog, run_params, self.loader)


def _mention_the_same(name: str, fields: dict[str, Any], catalog: DataCatalog) -> None:
    """Log that the newest version of an architecture was trained in the same way, which its record says."""
    models: Any = catalog.get("models")
    if not is_local(models.path):  # all versions would have to be fetched
        return
    with suppress(InputError, DatasetError):  # whoever reads a damaged record says so
        before = catalog.load(f"{name}.model")
        if before is None or not is_recorded(before.record, fields):
            return
        if not catalog.load(f"{name}.checkpoint").unfinished(before.record):  # else this run resumes it
            logger.info(
                "%s: version %s is of the same recipe, seed and data; this run trains another", name, before.version
            )


def _training_commands(
    trainings: list[tuple[str, dict[str, Any]]], catalog: DataCatalog, loader: ConfigLoader
) -> list[str]:
    """Return the commands of trainings, architectures and recipes, in this environment and on the data of this run."""
    recipes = loader.without_runtime_params("parameters")
    env, data_root = loader.env, loader.runtime_params.get("data_root")
    if getattr(catalog.get("evaluations"), "read_only", False):  # they come from elsewhere
        env = data_root = None
    return [training_command(name, recipe, recipes.get(name, {}), env, data_root) for name, recipe in trainings]


def _configure_logging(path: Path) -> None:
    """Apply the project's logging where Kedro has not found it, because it only looks in the current folder."""
    if path.exists() and not os.environ.get("KEDRO_LOGGING_CONFIG") and not Path("conf/logging.yml").exists():
        LOGGING.configure(yaml.safe_load(path.read_text(encoding="utf-8")))


def _recipes(catalog: DataCatalog, pipeline: Pipeline, kinds: set[str]) -> dict[str, Recipe]:
    """Return the recipe of each architecture of which a pipeline makes an artifact of one of these kinds."""
    made = pipeline.all_outputs()
    return {
        name: recipe.model_validate(catalog.load(f"params:{name}"))
        for name, recipe in RECIPES.items()
        if made & {f"{name}.{kind}" for kind in kinds}
    }


def _check_runner(runner: str, catalog: DataCatalog, *, trains: bool) -> None:
    """Refuse a runner under which nodes would not see what others save, or would disturb a training.

    Args:
        runner: as Kedro describes it, or `None`.
        catalog: of a class of its own for the ParallelRunner.
        trains: whether a network is trained.
    """
    if isinstance(catalog, SharedMemoryDataCatalog):
        raise InputError("ParallelRunner cannot run this project, whose nodes share one process: leave out --runner.")
    if trains and runner != "None" and "SequentialRunner" not in runner:
        raise InputError(
            "A training cannot share its process with other nodes, which would change its random numbers and so its "
            "weights: leave out --runner."
        )


def _join(pipeline: Pipeline, catalog: DataCatalog) -> bool:
    """Connect to the other processes of a training; return whether this is the first, which alone saves and logs."""
    from cifar10.compute.parallel import is_first, join_processes

    join_processes()
    if is_first():
        return True
    logger.info("Training along with the first process, which locks, saves and logs")
    logging.disable(logging.INFO)
    logging.getLogger("kedro.io").setLevel(logging.ERROR)  # Kedro warns of each dataset that is replaced
    for name in pipeline.all_outputs():
        catalog[name] = MemoryDataset(copy_mode="assign")
    return False


def _check_load_versions(load_versions: dict[str, str], pipeline: Pipeline) -> None:
    """Refuse the version of a dataset that the run does not read, or that it saves itself."""
    for name, version in load_versions.items():
        if name in pipeline.all_outputs():
            raise InputError(
                f"--load-versions={name}: this run saves a version of its own, and uses that. Leave out the option, or "
                "the pipeline that saves it."
            )
        if name not in pipeline.inputs():
            advice = ""
            if name.endswith(".model") and "evaluations" in pipeline.all_outputs():
                advice = " It evaluates all versions. For this one in place of the others: --pipelines=evaluation"
            elif name.endswith(".model") and "leaderboard" in pipeline.inputs():
                chosen = f"architecture={name.removesuffix('.model')}:{version}"
                advice = f" Name this version with --params={chosen} to predict, or --params=export.{chosen} to export."
            raise InputError(f"--load-versions={name}: this run does not read that dataset.{advice}")
        if all(f"all_{name}" in node.inputs for node in pipeline.only_nodes_with_inputs(name).nodes):
            raise InputError(f"--load-versions={name}: this run lists all versions, whichever is named. Leave it out.")


def _check_backbones(recipes: dict[str, Recipe]) -> None:
    """Build each network that starts from weights once, before data are loaded or any other network is trained.

    Not on a GPU, whose memory this process would keep from those that train the trials of a study.
    """
    transferred = {name: recipe for name, recipe in recipes.items() if isinstance(recipe, TransferRecipe)}
    if transferred:
        import keras

        with keras.device("cpu"):
            for name, recipe in transferred.items():
                build(name, 2, None, **recipe.builder_options())


def _missing_inputs(pipeline: Pipeline, catalog: DataCatalog) -> list[str]:
    """Return the inputs that some pipeline creates and that do not exist. Raw data report errors when they are read."""
    return [
        name
        for name in sorted(pipeline.inputs())
        if not name.startswith("params:")
        and _maker(name)
        and not (getattr(catalog.get(name), "optional", False) and _not_required(pipeline, name))
        and not catalog.exists(name)
    ]


def _how_to_create(missing: list[str], catalog: DataCatalog, same_data: str, *, wants_winner: bool) -> str:
    """Return what to do about inputs that do not exist.

    Args:
        missing: their names.
        catalog: of this run.
        same_data: the options that name its data.
        wants_winner: whether it chooses a model by the leaderboard, which is optional and so never missing.
    """
    makers = _makers(missing, catalog)
    if unsaved := [name for name in missing if not _is_saved(catalog, name)]:
        return (
            f"The catalog names no file for {', '.join(unsaved)}, so the run of "
            f"{','.join(dict.fromkeys(map(str, map(_maker, unsaved))))} keeps nothing of it. Add an entry to "
            "conf/*/catalog.yml as in conf/base, or run both at once, separated by a comma."
        )
    if "evaluation" in makers and not catalog.load("models").names():
        makers.insert(makers.index("evaluation"), "train_simple_cnn")  # or any other: without a model there is nothing
    if "evaluation" in makers and wants_winner:
        makers.append("reporting")
    return f"{', '.join(missing)} must be created first: kedro run --pipelines={','.join(makers)}{same_data}"


def _warn_of_misspelt(names: Iterable[str], known: Collection[str], problem: str) -> None:
    """Warn of names that are nearly those of others: new ones are allowed, but a typing error would go unnoticed."""
    for name in sorted(set(names) - set(known)):
        if similar := nearest(name, known, cutoff=0.85):
            logger.warning("%s: did you mean %s?", problem.format(name=name), similar)


def _check_unused(given: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog, trains: Collection[str]) -> None:
    """Warn of parameters for this run that only other pipelines use, such as recipes of networks it does not train.

    Raises:
        InputError: no recipe is given but such ones, or this run has a parameter of the same name in another place.
            Whatever it was to change, the run would be another one.
    """
    used = _parameters_of(pipeline)
    recipes = [name for name in given if name in ARCHITECTURES and isinstance(given[name], dict) and given[name]]
    if trains and recipes and not used & set(recipes):
        name, option = recipes[0], next(iter(given[recipes[0]]))
        raise InputError(
            f"{name}.{option} would have no effect: this run trains {', '.join(trains)}. Name that network, as in "
            f"{next(iter(trains))}.{option}, or add train_{name} to --pipelines."
        )
    others = set().union(*map(_parameters_of, pipelines.values())) - used
    blocks = {name: block for name in sorted(used) if isinstance(block := catalog.load(f"params:{name}"), dict)}
    for name in sorted(given.keys() & others):
        value = given[name]
        written = ", ".join(f"{name}.{option}" for option in value) if isinstance(value, dict) and value else name
        if meant := next((f"{block}.{name}" for block in blocks if name in blocks[block]), None):
            raise InputError(f"{written} would have no effect on this run; did you mean {meant}?")
        logger.warning("Not used by this run: %s", written)


def _parameters_of(pipeline: Pipeline) -> set[str]:
    """Return the names at the top of the parameters that a pipeline uses."""
    return {name.removeprefix("params:").partition(".")[0] for name in pipeline.inputs() if name.startswith("params:")}


def _is_saved(catalog: DataCatalog, name: str) -> bool:
    return name in catalog and not getattr(catalog.get(name), "_EPHEMERAL", False)


def _check_model_entry(architecture: str, dataset: Any) -> None:
    """Check, before a training whose end would be too late, that a model can be saved as its readers expect it.

    Raises:
        InputError: an environment has replaced the entry by one of another kind.
    """
    from cifar10.datasets.model import ModelDataset

    if not (isinstance(dataset, ModelDataset) and dataset.is_of(architecture)):
        raise InputError(
            f"The catalog entry {architecture}.model must be a cifar10.datasets.model.ModelDataset with `versioned: "
            f"true` and a filepath that ends in {architecture}.keras, as in conf/base. Correct conf/*/catalog.yml."
        )


def _not_required(pipeline: Pipeline, dataset: str) -> bool:
    """Return whether every node that reads this dataset accepts None in its place, by its type hints."""
    return all(_accepts_none(node, dataset) for node in pipeline.only_nodes_with_inputs(dataset).nodes)


def _accepts_none(node: Node, dataset: str) -> bool:
    arguments = inspect.signature(node.func).bind(*node.inputs).arguments
    name = next(
        name for name, value in arguments.items() if value == dataset or (isinstance(value, tuple) and dataset in value)
    )
    return type(None) in get_args(get_type_hints(node.func)[name])


def _maker(dataset: str) -> str | None:
    """Return the pipeline that creates this dataset."""
    stages = (name for name in pipelines if name != "__default__")
    return next((name for name in stages if dataset in pipelines[name].all_outputs()), None)


def _makers(missing: list[str], catalog: DataCatalog) -> list[str]:
    """Return the pipelines that create these datasets, after those that create what they need in turn."""
    makers: list[str] = []
    for dataset in missing:
        if maker := _maker(dataset):
            makers += [*_makers(_missing_inputs(pipelines[maker], catalog), catalog), maker]
    return list(dict.fromkeys(makers))
