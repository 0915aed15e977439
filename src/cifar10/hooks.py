"""Checks before a run, so that a mistake is reported before any work, and clean-up after it."""

import inspect
import os
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import LOGGING, pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from cifar10 import parameters, run_log
from cifar10.datasets.artifact import LocalDataset
from cifar10.errors import InputError
from cifar10.training.recipe import RECIPES, Recipe, TransferRecipe
from cifar10.training.subset import check_examples
from cifar10.tuning.options import check_tuning


class ProjectHooks:
    """Check parameters, inputs and ImageNet weights before a run, and delete the checkpoints of finished trainings."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check all parameters, including those of other pipelines, and log as the project says in a notebook, too."""
        _configure_logging(context.project_path / "conf/logging.yml")
        parameters.check(context.config_loader["parameters"])

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog, load_versions: dict[str, str] | None) -> None:
        """Check that every version that is asked for exists.

        Raises:
            InputError: a version does not exist, or the dataset has no versions.
        """
        for name in load_versions or {}:
            dataset = catalog.get(name)
            if not isinstance(dataset, LocalDataset) or not dataset.has_versions:
                raise InputError(f"--load-versions={name}: this dataset has no versions.")
            dataset.missing()

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Check that everything the run reads exists and is readable.

        Raises:
            InputError: something does not exist yet, and the message names the pipelines that create it; an artifact
                is damaged or was written with another schema; it would write what the environment only reads; or the
                weights of a backbone are not available.
        """
        for name in sorted(pipeline.all_outputs()):
            if getattr(catalog.get(name), "read_only", False):
                raise InputError(
                    f"{name} is only read with --env={run_params['env']}. Leave that option out, or run what reads it: "
                    f"kedro run --env={run_params['env']} --pipelines=reporting"
                )
        missing = _missing_inputs(pipeline, catalog)
        if missing:
            command = f"kedro run --pipelines={','.join(_makers(missing, catalog))}{run_log.same_data(run_params)}"
            raise InputError(f"{', '.join(missing)} must be created first: {command}")
        for name in sorted(pipeline.inputs()):
            dataset = catalog.get(name)
            if isinstance(dataset, LocalDataset):
                dataset.check(f"kedro run --pipelines={_maker(name)}{run_log.same_data(run_params)}")
        self.recipes = {
            name: recipe.model_validate(catalog.load(f"params:{name}"))
            for name, recipe in RECIPES.items()
            if f"{name}.model" in pipeline.all_outputs()
        }
        tuned = {
            name: recipe.model_validate(catalog.load(f"params:{name}"))
            for name, recipe in RECIPES.items()
            if {f"{name}.trials", f"{name}.confirmed"} & pipeline.all_outputs()
        }
        for name in tuned:
            check_tuning(name, catalog.load(f"params:{name}"), catalog.load("params:tuning"))
        _check_backbones({**self.recipes, **tuned})
        self.lines = run_log.OneLinePerNode()
        self.lines.install()

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Check, before the first training, that there are enough images for all of them: data may be made in the run.

        Raises:
            InputError: a recipe asks for more images than there are.
        """
        if not any(f"{name}.model" in node.outputs for name in self.recipes):
            return
        train, val = len(inputs["train"]), len(inputs["val"])
        for name, recipe in self.recipes.items():
            check_examples(name, train_on=recipe.train_on, examples=recipe.examples, train=train, val=val)

    @hook_impl
    def after_dataset_saved(self, node: Node) -> None:
        """Note that this node has saved something."""
        self.lines.saved.add(node.name)

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Delete the checkpoints of what was trained, because everything is saved, and log the result."""
        for name in self.recipes:
            models, version = catalog.load("models"), run_params["run_id"]
            if version in models.versions(name):
                from cifar10.training.identity import identity_of

                record = models.load(name, version).record
                catalog.load(f"{name}.checkpoint").clear(identity_of(record))
        run_log.log_result(pipeline, catalog, run_params)


def _configure_logging(path: Path) -> None:
    """Apply the project's logging where Kedro has not found it, because it only looks in the current folder."""
    if path.exists() and not os.environ.get("KEDRO_LOGGING_CONFIG") and not Path("conf/logging.yml").exists():
        LOGGING.configure(yaml.safe_load(path.read_text(encoding="utf-8")))


def _check_backbones(recipes: dict[str, Recipe]) -> None:
    """Build each network that starts from weights once, before data are loaded or any other network is trained."""
    for name, recipe in recipes.items():
        if isinstance(recipe, TransferRecipe):
            from cifar10.architectures.imagenet import check_weights

            check_weights(name, **recipe.builder_options())


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
