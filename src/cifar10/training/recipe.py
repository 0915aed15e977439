"""The recipe of one network: its training options, checked against each other."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import Field, model_validator

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import RecipeError, did_you_mean, readable
from cifar10.training.optimizers import OPTIMIZERS
from cifar10.training.options import SIZE, AugmentationOptions, Count, Fraction, NotNegative, Options, Positive
from cifar10.training.schedules import SCHEDULES

THIS = "NAME"  # of the architecture, in messages of a recipe, which does not know it


class Choice(Protocol):
    """A row of `OPTIMIZERS` or `SCHEDULES`."""

    @property
    def options(self) -> frozenset[str]:
        """The recipe options that it uses."""


class Recipe(Options):
    """Every value that a training depends on besides the data."""

    BUILDER_OPTIONS: ClassVar[frozenset[str]] = frozenset()  # the options that the builder of the network takes
    WHITENS: ClassVar[bool] = False  # whether the network has a layer named `whitening`
    REDUCES: ClassVar[bool] = True  # whether it can be trained on images of lower resolution

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._refuse_unused("optimizer", self.optimizer, OPTIMIZERS)
        self._refuse_unused("schedule", self.schedule, SCHEDULES)
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix cannot be combined; set one of them to 0")
        if self.lookahead and self.accumulate > 1:
            raise ValueError("lookahead cannot be combined with accumulate; set one of them to its default")
        if self.whitening_epochs and not self.WHITENS:
            raise ValueError("this network has no whitening layer; set whitening_epochs=null")
        if self.whitening_epochs and self.whitening_epochs > self.epochs:
            raise ValueError(
                f"whitening_epochs is {self.whitening_epochs}, but epochs is only {self.epochs}; set "
                f"whitening_epochs={self.epochs} or lower"
            )
        if self.resolutions and not self.REDUCES:
            raise ValueError("resolutions are for networks trained from scratch; set resolutions=null, and image_size")
        if self.resolutions and self.resolutions[-1] != SIZE:
            raise ValueError(f"resolutions must end with {SIZE}, at which the network predicts")
        if self.train_on == "all" and (self.schedule == "plateau" or self.early_stopping):
            raise ValueError(
                "train_on=all leaves no images for validation, which schedule plateau and early_stopping need; choose "
                "another schedule, and early_stopping=null"
            )
        return self

    def _refuse_unused(self, kind: str, chosen: str, table: Mapping[str, Choice]) -> None:
        """Refuse an unknown name, and options that only other rows of the table use, unless at their defaults."""
        if chosen not in table:
            raise ValueError(f"there is no {kind} {chosen}; {did_you_mean(chosen, table)}")
        unused, resets = [], []
        for option in sorted(_of_others(table, chosen)):
            default = type(self).model_fields[option].default
            if getattr(self, option) != default:
                users = ", ".join(name for name, row in table.items() if option in row.options)
                unused.append(f"{option} (only {users})")
                resets.append(f"{THIS}.{option}={json.dumps(default)}")
        if unused:
            rate = f". Check {THIS}.learning_rate, too, now {self.learning_rate:g}" if kind == "optimizer" else ""
            raise ValueError(
                f"{kind} {chosen} does not use {' and '.join(unused)}, which this recipe sets: add {','.join(resets)} "
                f"to --params, or choose another {kind}{rate}"
            )

    @property
    def hash(self) -> str:
        """The first 12 digits of a SHA-256 over all options but the seed, without those at their default."""
        options = self.described(exclude={"seed"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def augments(self) -> bool:
        """Whether an image looks different from one epoch to the next."""
        return any(getattr(self, name) != field.default for name, field in AugmentationOptions.model_fields.items())

    @property
    def initial_weights(self) -> str:
        """Where the weights come from before the training."""
        return "random"

    def described(self, **selection: Any) -> dict[str, Any]:
        """Return the options as they identify a training; `selection` is as in `model_dump`."""
        return self.model_dump(**selection)

    def builder_options(self) -> dict[str, Any]:
        """Return what the builder of the network takes besides classes and statistics."""
        return self.model_dump(include=set(self.BUILDER_OPTIONS))


class WhiteningRecipe(Recipe):
    """A recipe for a network whose first layer whitens the images."""

    WHITENS = True


class TransferRecipe(Recipe):
    """A recipe for a backbone with ImageNet weights, trained in two phases: its head, then its last layers, too."""

    BUILDER_OPTIONS = frozenset({"weights", "image_size", "head_units", "head_l2", "head_dropout"})
    REDUCES = False

    weights: Annotated[str, Field(min_length=1)]
    """Of the backbone; `imagenet`: download them; or the path of a .weights.h5, .keras or .h5 file of it alone."""
    image_size: Annotated[int, Field(ge=32, le=512)]
    """Side in pixels to which the images are enlarged inside the network."""
    head_units: Count
    """Units of a dense layer between features and logits."""
    head_l2: NotNegative = 0.0
    """L2 penalty on the kernel of that layer."""
    head_dropout: Fraction = 0.0
    """Dropout rate after that layer."""
    head_epochs: Count
    """Epochs of the first phase, which trains the head on features of the frozen backbone."""
    head_learning_rate: Positive
    """Learning rate of the first phase."""
    feature_copies: Count = 1
    """Augmented copies of the training images, whose features the first phase computes."""
    unfreeze: Annotated[int, Field(ge=0)] = 0
    """Number of last layers of the backbone that the second phase trains, except batch norms; 0: no such phase."""
    cache_gb: Positive | None = None
    """Disk space in GB for what enters the trained layers, computed once for each copy; null: in each epoch."""

    @model_validator(mode="after")
    def _images_to_mix(self) -> Self:
        if self.cache_gb and (self.mixup or self.cutmix):
            raise ValueError(
                "mixup and cutmix mix images, and cache_gb leaves none to mix; set one of them to its default"
            )
        return self

    @property
    def copies(self) -> int:
        """The number of copies of the training images, which are the same without augmentation."""
        return self.feature_copies if self.augments else 1

    @cached_property
    def initial_weights(self) -> str:
        """Where the weights of the backbone come from: `imagenet`, or a file by its name and SHA-256.

        Raises:
            InputError: the file could not be read.
        """
        if self.weights == "imagenet":
            return self.weights
        path = Path(self.weights)
        advice = "Let the option weights name a file of Keras weights, or set it to imagenet."
        with readable(path, advice), path.open("rb") as file:
            return f"{path.name} ({hashlib.file_digest(file, 'sha256').hexdigest()})"

    def described(self, **selection: Any) -> dict[str, Any]:
        """Return the options as they identify a training: a file of weights by its origin, wherever it lies."""
        return {**super().described(**selection), "weights": self.initial_weights}


class MobileNetTransferRecipe(TransferRecipe):
    """The same for the backbone that exists in several widths."""

    BUILDER_OPTIONS = TransferRecipe.BUILDER_OPTIONS | {"alpha"}

    alpha: Positive = 1.0
    """Width of the network; ImageNet weights exist for 0.35, 0.5, 0.75, 1.0, 1.3 and 1.4."""

    @model_validator(mode="after")
    def _published(self) -> Self:
        widths = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
        if self.weights == "imagenet" and self.alpha not in widths:
            raise ValueError(f"with weights=imagenet, alpha must be one of {widths}, but it is {self.alpha}")
        return self


def check_optimizer(name: str, recipe: Recipe) -> None:
    """Refuse an optimizer that would destroy pretrained weights. Recorded recipes of old models may have it.

    Raises:
        RecipeError: it would.
    """
    if isinstance(recipe, TransferRecipe) and recipe.unfreeze and recipe.optimizer == "muon":
        raise RecipeError(
            f"{name}: muon sets the norm of every kernel that it trains, which would destroy the pretrained ones. "
            f"Choose another {name}.optimizer, or set {name}.unfreeze=0."
        )


RECIPES: dict[str, type[Recipe]] = {
    name: TransferRecipe if module == "imagenet" else Recipe for name, module in ARCHITECTURES.items()
} | {"airbench94": WhiteningRecipe, "mobilenetv2_imagenet": MobileNetTransferRecipe}


def with_defaults(architecture: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded options of a recipe, and those that did not exist then, at their defaults.

    A model may be of an architecture that does not exist any more.
    """
    fields = RECIPES.get(architecture, Recipe).model_fields
    return {**{name: field.default for name, field in fields.items() if not field.is_required()}, **options}


def unused(options: Mapping[str, Any]) -> set[str]:
    """Return the options that only other optimizers and schedules use than those of a recipe."""
    chosen = ((OPTIMIZERS, options.get("optimizer", "")), (SCHEDULES, options.get("schedule", "")))
    return {option for table, name in chosen if name in table for option in _of_others(table, name)}


def _of_others(table: Mapping[str, Choice], chosen: str) -> set[str]:
    """Return the options that only other rows of the table use."""
    return {option for row in table.values() for option in row.options} - table[chosen].options


def as_text(value: Any) -> str:
    """Return the value of an option as `--params` takes it."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
