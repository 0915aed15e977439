"""What is checked before a run, so that a mistake is told before anything heavy starts."""

from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from cifar10 import parameters
from cifar10.errors import InputError
from cifar10.training.recipe import RECIPES, TransferRecipe


class ProjectHooks:
    """Checks of the parameters, of the weights that a training starts from, and of the data that a run starts from."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Check every parameter, those of other pipelines too."""
        parameters.check(context.config_loader["parameters"])

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """See that what the run reads is there.

        Raises:
            InputError: something has not been made yet, and the message names the pipelines that make it; or the
                weights of a backbone cannot be had.
        """
        missing = _not_made_yet(pipeline, catalog)
        if missing:
            command = ["kedro run", f"--pipelines={','.join(_makers(missing, catalog))}"]
            if run_params["env"]:
                command.append(f"--env={run_params['env']}")
            if data_root := run_params["runtime_params"].get("data_root"):
                command.append(f"--params=data_root={data_root}")
            raise InputError(f"{', '.join(missing)} must be made first: {' '.join(command)}")
        _check_backbones(pipeline, catalog)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Forget the checkpoints of what was trained: now that all is done and saved, there is nothing to continue."""
        for name, recipe in RECIPES.items():
            if f"{name}.model" in pipeline.all_outputs():
                from cifar10.training.fit import identify

                identity = identify(
                    name, recipe.model_validate(catalog.load(f"params:{name}")), catalog.load("statistics")
                )
                catalog.load(f"{name}.checkpoint").clear(identity)


def _check_backbones(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Build each network that starts from weights, once, before any data is loaded or any other network trained."""
    for name, recipe in RECIPES.items():
        if issubclass(recipe, TransferRecipe) and f"{name}.model" in pipeline.all_outputs():
            from cifar10.architectures.imagenet import check_weights

            check_weights(name, **recipe.model_validate(catalog.load(f"params:{name}")).knobs())


def _not_made_yet(pipeline: Pipeline, catalog: DataCatalog) -> list[str]:
    """Inputs that some pipeline makes and that are not there. Raw data speak for themselves when they are read."""
    return [
        name
        for name in sorted(pipeline.inputs())
        if not name.startswith("params:")
        and _maker(name)
        and not (getattr(catalog.get(name), "OPTIONAL", False) and _can_do_without(pipeline, name))
        and not catalog.exists(name)
    ]


def _can_do_without(pipeline: Pipeline, dataset: str) -> bool:
    """Training works on the model of its architecture; the other stages on whatever models there are."""
    readers = pipeline.only_nodes_with_inputs(dataset).nodes
    return not any(str(node.namespace).startswith("training.") for node in readers)


def _maker(dataset: str) -> str | None:
    stages = (name for name in pipelines if name != "__default__")
    return next((name for name in stages if dataset in pipelines[name].all_outputs()), None)


def _makers(missing: list[str], catalog: DataCatalog) -> list[str]:
    """The pipelines that make these datasets, after those that make what they need in turn."""
    makers: list[str] = []
    for dataset in missing:
        if maker := _maker(dataset):
            makers += [*_makers(_not_made_yet(pipelines[maker], catalog), catalog), maker]
    return list(dict.fromkeys(makers))
