"""Which values a trial may give to the options of a recipe. Imports neither Keras nor Optuna."""

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from cifar10.errors import InputError, RecipeError, did_you_mean
from cifar10.training.recipe import RECIPES, Recipe, check_optimizer, unused

if TYPE_CHECKING:
    import optuna

Options = Mapping[str, Any]  # of a recipe, or some of them
Scalar = None | bool | int | float | str


def _number(given: Any) -> Any:
    if isinstance(given, bool) or not isinstance(given, int | float | None) or not math.isfinite(given or 0):
        raise ValueError(f"it must be a number, but it is {given!r}")
    return given


Number = Annotated[Any, AfterValidator(_number)]  # kept as it is given, because whole numbers stay whole

UNTUNED = {  # options that no space may have, and why
    "seed": "the best of several seeds is no better recipe",
    "train_on": "trials are compared on the validation images, which must not be trained on",
}
FIRST = ("optimizer", "schedule")  # which decide what other options are used


class Values(BaseModel):
    """The values of one option: those from `low` to `high`, with `log` on a logarithmic scale; or those in `of`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    low: Number = None
    high: Number = None
    log: bool = False
    of: list[Scalar] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.of is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either low and high, or of, but not both")
            if len(set(self.of)) < max(len(self.of), 2):
                raise ValueError(f"of needs at least two different values, but it is {self.of}")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, as in {low: 0.01, high: 1.0, log: true}, or of, as in {of: [64, 128]}")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but they are {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 on a logarithmic scale, but it is {self.low}")
        return self

    @property
    def ends(self) -> list[Any]:
        """Both ends of the range, or each of the values."""
        return [self.low, self.high] if self.of is None else self.of

    def __contains__(self, value: Any) -> bool:
        """Return whether a trial may give the option this value."""
        if self.of is not None:
            return value in self.of
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Return the values as an error message names them."""
        return f"{self.low} to {self.high}" if self.of is None else ", ".join(map(_shown, self.of))

    def suggest(self, trial: "optuna.Trial", option: str, whole: bool) -> Any:
        """Return the value that a trial proposes for this option, a whole number if `whole`.

        Other numbers have four significant digits, so that the recipe that is written is the one that was trained.
        """
        if self.of is not None:
            return trial.suggest_categorical(option, self.of)
        if whole:
            return trial.suggest_int(option, self.low, self.high, log=self.log)
        rounded = float(f"{trial.suggest_float(option, self.low, self.high, log=self.log):.4g}")
        return min(max(rounded, float(self.low)), float(self.high))


Space = dict[str, Values]  # by option


def propose(trial: "optuna.Trial", architecture: str, shipped: Options, space: Space) -> dict[str, Any]:
    """Return the values that a trial proposes for the options that its optimizer and schedule use."""
    options: dict[str, Any] = {}
    for option in sorted(space, key=lambda option: option not in FIRST):
        if option not in unused({**shipped, **options}):
            options[option] = space[option].suggest(trial, option, _kinds(architecture, option) == {"integer"})
    return options


def recipe_of(architecture: str, shipped: Options, options: Options) -> Recipe:
    """Return the recipe with these options changed; what its optimizer and schedule do not use has its default.

    Raises:
        ValidationError: the options are inconsistent.
    """
    values = {**shipped, **options}
    skipped = unused(values)
    return RECIPES[architecture].model_validate({name: values[name] for name in values if name not in skipped})


def check_space(architecture: str, shipped: Options, space: Space) -> None:
    """Check a space by building the recipe at the ends of each range.

    Args:
        architecture: its name.
        shipped: the recipe that the trials start from, at their fidelity.
        space: the values of each option.

    Raises:
        InputError: the recipe has no such option, an option cannot have a value at an end of its range, or the range
            does not include the value of the recipe, which is the first trial.
    """
    for option, values in space.items():
        where = f"tuning: the space of {architecture} has {option}"
        if option in UNTUNED:
            raise InputError(f"{where}, but {UNTUNED[option]}. Remove it.")
        if option not in RECIPES[architecture].model_fields:
            raise InputError(f"{where}, which is no option of its recipe; {did_you_mean(option, shipped)}")
        if values.of is None and not _kinds(architecture, option) & {"integer", "number"}:
            raise InputError(f"{where}, which is not a number: give its values as in {{of: [...]}}.")
        for end in values.ends:
            if problem := _problem(architecture, shipped, space, option, end):
                raise InputError(f"{where} {_shown(end)}, with which its recipe is not valid: {problem}.")
        if option not in unused(shipped) and shipped[option] not in values:
            raise InputError(
                f"{where} {values}, without {_shown(shipped[option])}, which its recipe has; the first trial is the "
                f"recipe, so include that value, or change the recipe with --params={architecture}.{option}=VALUE."
            )


def _problem(architecture: str, shipped: Options, space: Space, option: str, end: Any) -> str | None:
    """Return why a recipe cannot have this value, whatever optimizer and schedule of the space it has, or None."""
    choices = [[(name, value) for value in space[name].ends] for name in FIRST if name in space and name != option]
    problem = f"{shipped['optimizer']} and {shipped['schedule']} do not use it"
    for chosen in itertools.product(*choices):
        options = {**dict(chosen), option: end}
        if option in unused({**shipped, **options}):
            continue
        try:
            check_optimizer(architecture, recipe_of(architecture, shipped, options))
        except ValidationError as error:
            problem = why(error)
        except RecipeError as error:
            problem = str(error).removeprefix(f"{architecture}: ").rstrip(".")
        else:
            return None
    return problem


def why(error: ValidationError) -> str:
    """Return what is wrong with a recipe, in a clause."""
    first = error.errors()[0]
    place = "".join(f"{name}: " for name in first["loc"])
    return place + first["msg"].removeprefix("Value error, ").rstrip(".?")


def _kinds(architecture: str, option: str) -> set[str]:
    """Return the types of an option, without null, as JSON Schema names them."""
    schema = RECIPES[architecture].model_json_schema()["properties"][option]
    return {each.get("type", "string") for each in schema.get("anyOf", [schema])} - {"null"}


def describe(options: Options) -> str:
    """Return options as a log line or comment names them, numbers to four digits."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {_shown(value)}"
        for name, value in options.items()
    )


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
