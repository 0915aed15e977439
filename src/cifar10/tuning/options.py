"""The parameters of tuning; `conf/base/parameters_tuning.yml` has their values and explains them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import InputError, did_you_mean
from cifar10.training.options import Count, Positive
from cifar10.training.recipe import RECIPES, TransferRecipe, unused
from cifar10.tuning.space import FIRST, Options, Space, check_space, why


def _not_empty(space: Space) -> Space:
    if not space:
        raise ValueError("it is empty; name at least one option, as in batch_size: {of: [64, 128]}")
    return space


def _known(spaces: dict[str, Space]) -> dict[str, Space]:
    for name in spaces:
        if name not in ARCHITECTURES:
            raise ValueError(f"there is no architecture {name}; {did_you_mean(name, ARCHITECTURES)}")
    return spaces


NotEmpty = Annotated[Space, AfterValidator(_not_empty)]


class Fidelity(BaseModel):
    """What a trial has less of than the whole training.

    Attributes:
        epochs: of a trial; None: those of the recipe.
        examples: training images of a trial; None: those of the recipe.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    epochs: Count | None
    examples: Count | None

    @property
    def options(self) -> dict[str, int]:
        """The options of the recipe that it sets."""
        return self.model_dump(exclude_none=True)


class Tuning(BaseModel):
    """Parameters of the tuning pipelines."""

    model_config = ConfigDict(extra="forbid", strict=True)

    trials: Count | None
    minutes: Positive | None
    fidelity: Fidelity
    sampler: Literal["tpe", "random"]
    pruner: Literal["hyperband", "none"]
    min_epochs: Count
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    confirm_top: Count
    confirm_seeds: Count
    space: NotEmpty | None
    spaces: Annotated[dict[str, NotEmpty], AfterValidator(_known)]

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.trials is None and self.minutes is None:
            raise ValueError("give trials or minutes, without which a search never ends")
        return self

    def space_of(self, architecture: str, recipe: Options) -> Space:
        """Return the space of an architecture.

        That of `spaces` serves each of its recipes, so it goes without the options that this one's optimizer and
        schedule do not use, unless the trials choose these.

        Args:
            architecture: its name.
            recipe: all options of the recipe that is tuned.

        Raises:
            InputError: there is none.
        """
        if self.space:
            return self.space
        space = self.spaces.get(architecture, {})
        skipped = set() if space.keys() & set(FIRST) else unused(recipe)
        if used := {option: values for option, values in space.items() if option not in skipped}:
            return used
        raise InputError(f"tuning.spaces has no {architecture}: add a space for it, or set tuning.space.")


def check_tuning(architecture: str, recipe: dict[str, Any], tuning: dict[str, Any]) -> None:
    """Check that a recipe can be tuned with these parameters, and that Optuna is installed.

    Raises:
        InputError: it says what is wrong.
    """
    from cifar10.tuning.study import import_optuna

    import_optuna()
    options = Tuning.model_validate(tuning)
    shipped = at_fidelity(architecture, recipe, options.fidelity)
    space = options.space_of(architecture, shipped)
    for option in options.fidelity.options:
        if option in space:
            raise InputError(
                f"tuning: the space of {architecture} has {option}, which tuning.fidelity sets for all trials. Remove "
                "one of them."
            )
    check_space(architecture, shipped, space)


def at_fidelity(architecture: str, recipe: Options, fidelity: Fidelity) -> dict[str, Any]:
    """Return all options of a recipe as its trials have them, each as it is given.

    Raises:
        InputError: the fidelity is more than the whole training, the recipe is not valid with it, or it leaves no
            images for validation.
    """
    recipe = {**RECIPES[architecture].model_validate(recipe).model_dump(), **recipe}
    if recipe["train_on"] == "all":
        raise InputError(
            f"{architecture} cannot be tuned with train_on=all, because trials are compared on the validation images: "
            f"set {architecture}.train_on=train."
        )
    for option, value in fidelity.options.items():
        whole = recipe[option]
        if whole is not None and value > whole:
            raise InputError(
                f"tuning.fidelity.{option} is {value}, but the recipe of {architecture} has only {whole}. Lower it, or "
                "set it to null for all of them."
            )
    values = {**recipe, **fidelity.options}
    try:
        RECIPES[architecture].model_validate(values)
    except ValidationError as error:
        raise InputError(f"{architecture} is not valid with tuning.fidelity: {why(error)}.") from error
    return values


def epochs_of(architecture: str, shipped: Options, space: Space) -> int:
    """Return the number of epochs that a trial has at most, over all phases."""
    epochs = max(space["epochs"].ends) if "epochs" in space else shipped["epochs"]
    if issubclass(RECIPES[architecture], TransferRecipe):
        head = max(space["head_epochs"].ends) if "head_epochs" in space else shipped["head_epochs"]
        unfreeze = max(space["unfreeze"].ends) if "unfreeze" in space else shipped["unfreeze"]
        return epochs + head if unfreeze else head
    return epochs
