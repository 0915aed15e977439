"""Every parameter of the project with its type, checked before a run starts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from cifar10.errors import InputError, did_you_mean
from cifar10.pipelines.benchmark.nodes import Benchmark
from cifar10.pipelines.export.nodes import ExportOptions
from cifar10.pipelines.robustness.nodes import Robustness
from cifar10.pipelines.winner import WinnerOrKnown
from cifar10.training.recipe import RECIPES


class _Shared(BaseModel):
    """What concerns all architectures."""

    model_config = ConfigDict(extra="forbid", strict=True)  # what is checked is what is used, so nothing is converted

    data_root: str | None = None  # of the command line only; the catalog reads it
    class_names: Annotated[list[str], Field(min_length=2, max_length=256)]
    data_description: str
    val_fraction: Annotated[float, Field(gt=0, lt=1)]
    split_seed: Annotated[int, Field(ge=0, lt=2**32)]
    test_time_augmentation: Literal["none", "flip", "flip_and_shift"]
    evaluate_versions: Literal["latest", "all"]
    robustness: Robustness
    image: str | None
    architecture: WinnerOrKnown
    export: ExportOptions
    benchmark: Benchmark


_recipes: Any = {name: (recipe, ...) for name, recipe in RECIPES.items()}
Parameters = create_model("Parameters", __base__=_Shared, **_recipes)


def check(parameters: dict[str, Any]) -> None:
    """Refuse a parameter that is misspelt, missing, or of the wrong type or range.

    Names that begin with an underscore are YAML anchors and not looked at.

    Raises:
        InputError: naming each parameter at fault and what it should be.
    """
    try:
        Parameters.model_validate({name: value for name, value in parameters.items() if not name.startswith("_")})
    except ValidationError as error:
        complaints = [_complaint(each["loc"], each["type"], each["msg"], each["input"]) for each in error.errors()]
        raise InputError(
            "The parameters are not valid (conf/*/parameters*.yml, or --params):\n  " + "\n  ".join(complaints)
        ) from error


def _complaint(location: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    name = ".".join(map(str, location))
    if kind == "extra_forbidden":
        blocks: dict[str, type[BaseModel]] = {
            **RECIPES,
            "benchmark": Benchmark,
            "robustness": Robustness,
            "export": ExportOptions,
        }
        fields = (blocks[str(location[0])] if len(location) > 1 else Parameters).model_fields
        return f"{name}: no such parameter; {did_you_mean(str(location[-1]), fields)}"
    if kind == "missing":
        return f"{name}: is missing"
    if kind == "value_error":
        return f"{name}: {message.removeprefix('Value error, ')}"
    return f"{name}: {message[0].lower()}{message[1:]}, but it is {value!r}"
