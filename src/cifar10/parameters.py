"""All parameters of the project with their types, checked before a run starts."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from cifar10.errors import InputError, did_you_mean
from cifar10.pipelines.benchmark.nodes import Benchmark
from cifar10.pipelines.export.nodes import ExportOptions
from cifar10.pipelines.publish.nodes import Publish
from cifar10.pipelines.robustness.nodes import Robustness
from cifar10.pipelines.selection import WinnerOrKnown
from cifar10.training.recipe import RECIPES, THIS
from cifar10.tuning.options import Fidelity, Tuning
from cifar10.tuning.space import Values

SETTINGS: dict[str, type[BaseModel]] = {  # blocks of parameters of one pipeline each
    "benchmark": Benchmark,
    "robustness": Robustness,
    "publish": Publish,
    "export": ExportOptions,
    "tuning": Tuning,
}


COLUMNS = {"image", "label", "probability", "unsure"}  # of the table of predictions, beside one per class


def _distinct(names: list[str]) -> list[str]:
    """Refuse names of classes that tables could not tell apart from each other, or from their other columns."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} is there more than once; give each class a name of its own")
        if name in COLUMNS:
            raise ValueError(f"no class can be called {name}, which is a column of the predictions; rename it")
    return names


class _Shared(BaseModel):
    """The parameters besides the recipes."""

    model_config = ConfigDict(
        extra="forbid", strict=True
    )  # nothing is converted, because the checked value is not the one that is used

    data_root: str | None = None  # on the command line only; read by the catalog
    published_root: str | None = None  # likewise
    docs_root: str | None = None  # likewise, with --env=published
    class_names: Annotated[list[str], Field(min_length=2, max_length=256), AfterValidator(_distinct)]
    data_name: Annotated[str, Field(min_length=1)]
    data_description: str
    hub_dataset: str | None
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Annotated[int, Field(ge=0, lt=2**32)]
    devices: Literal["one", "all"]
    test_time_augmentation: Literal["none", "flip", "flip_and_shift"]
    evaluate_versions: Literal["recipes", "all"]
    leaderboard_figures: str | None
    robustness: Robustness
    publish: Publish
    image: str | None
    architecture: WinnerOrKnown
    export: ExportOptions
    benchmark: Benchmark
    tuning: Tuning


_recipes: Any = {name: (recipe, ...) for name, recipe in RECIPES.items()}
Parameters = create_model("Parameters", __base__=_Shared, **_recipes)


def check(parameters: dict[str, Any]) -> None:
    """Refuse a parameter that is misspelt, missing, or of the wrong type or range.

    Names that begin with an underscore are YAML anchors and are ignored.

    Raises:
        InputError: it names each wrong parameter and what it should be.
    """
    try:
        Parameters.model_validate({name: value for name, value in parameters.items() if not name.startswith("_")})
    except ValidationError as error:
        problems = [_problem(each["loc"], each["type"], each["msg"], each["input"]) for each in error.errors()]
        raise InputError("The parameters are not valid (conf/*/parameters*.yml, or --params):", problems) from error


def is_recipe_option(name: str) -> bool:
    """Return whether some recipe has an option of this name."""
    return any(name in recipe.model_fields for recipe in RECIPES.values())


def _problem(location: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    name = ".".join(map(str, location))
    if kind == "extra_forbidden":
        blocks: dict[str, type[BaseModel]] = {
            **RECIPES,
            **SETTINGS,
            "tuning": Tuning if len(location) < 3 else Fidelity if location[1] == "fidelity" else Values,
        }
        fields = (blocks[str(location[0])] if len(location) > 1 else Parameters).model_fields
        if len(location) == 1 and is_recipe_option(name):
            owner = next(each for each in ("simple_cnn", *RECIPES) if name in RECIPES[each].model_fields)
            return f"{name}: no such parameter without its architecture, as in {owner}.{name}"
        if len(location) == 1 and (owners := [block for block in SETTINGS if name in SETTINGS[block].model_fields]):
            return f"{name}: no such parameter; did you mean {owners[0]}.{name}?"
        if location[0] in RECIPES and is_recipe_option(option := str(location[-1])):
            having = [each for each in RECIPES if option in RECIPES[each].model_fields]
            return f"{name}: no such parameter; {option} is one of {', '.join(having)}"
        return f"{name}: no such parameter; {did_you_mean(str(location[-1]), fields)}"
    if kind == "model_type":
        known: dict[str, type[BaseModel]] = {**RECIPES, **SETTINGS, "tuning.fidelity": Fidelity}
        block = known.get(name, Values)
        option = "epochs" if "epochs" in block.model_fields else next(iter(block.model_fields))
        return f"{name}: must be options with their values, as in {name}.{option}=VALUE, but it is {value!r}"
    if kind == "missing":
        return f"{name}: missing"
    if kind == "value_error":
        return f"{name}: {message.removeprefix('Value error, ').replace(f'{THIS}.', f'{name}.')}"
    separate = isinstance(value, str) and re.search(r"\s[\w.]+=", value)
    advice = ". Separate parameters by commas, without spaces" if separate else ""
    return f"{name}: {message[0].lower()}{message[1:]}, but it is {value!r}{advice}"
