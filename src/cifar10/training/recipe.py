"""The recipe of one network: every training option, as written in `conf/base/parameters_architectures.yml`.

The default of a field is the value at which the option is off, or has its usual setting. Recipe hashes and the identity
of a checkpoint leave out options at their default, so a new option changes neither; therefore a default never changes.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import did_you_mean
from cifar10.training.optimizers import OPTIMIZERS
from cifar10.training.schedules import SCHEDULES

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def _known(kind: str, table: Mapping[str, Any]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"there is no {kind} {name}; {did_you_mean(name, table)}")
        return name

    return AfterValidator(check)


class AugmentationOptions(BaseModel):
    """Options of the random changes that each training image undergoes by itself (see `augmentation.AUGMENTATIONS`)."""

    flip: Literal["none", "random", "alternating"] = "none"
    shift: Annotated[int, Field(ge=0, le=16)] = 0
    cutout: Annotated[int, Field(ge=0, le=32)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    zoom: Fraction = 0.0


class MixingOptions(BaseModel):
    """Options of mixing the images of a batch with each other (see `augmentation.Mixing`)."""

    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0


class Choice(Protocol):
    """A row of `OPTIMIZERS` or `SCHEDULES`."""

    @property
    def options(self) -> frozenset[str]:
        """The recipe options that it uses."""


class Recipe(AugmentationOptions, MixingOptions):
    """Every value that a training depends on besides the data. The comments in the configuration explain them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    BUILDER_OPTIONS: ClassVar[frozenset[str]] = frozenset()  # the fields that the builder of the network takes

    epochs: Count
    batch_size: Count
    accumulate: Count = 1
    optimizer: Annotated[str, _known("optimizer", OPTIMIZERS)]
    learning_rate: Positive
    momentum: Fraction = 0.9
    muon_learning_rate: Positive = 0.24
    bias_learning_rate: Positive = 1.0
    weight_decay: NotNegative = 0.0
    decay_biases: bool = False
    decoupled: bool = False
    lookahead: Count | None = None
    whitening_epochs: Count | None = None
    gradient_clip: Positive | None = None
    schedule: Annotated[str, _known("schedule", SCHEDULES)]
    warmup: Fraction = 0.0
    schedule_start: Fraction = 0.0
    schedule_end: Fraction = 0.0
    plateau_patience: Count = 3
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    early_stopping: Count | None = None
    label_smoothing: Fraction = 0.0
    examples: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    train_on: Literal["train", "all"] = "train"
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cpu_compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    deterministic: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._refuse_unused("optimizer", self.optimizer, OPTIMIZERS)
        self._refuse_unused("schedule", self.schedule, SCHEDULES)
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix cannot be combined; set one of them to 0")
        if self.lookahead and self.accumulate > 1:
            raise ValueError("lookahead cannot be combined with accumulate; set one of them to its default")
        if self.train_on == "all" and (self.schedule == "plateau" or self.early_stopping):
            raise ValueError(
                "train_on=all leaves no images for validation, which schedule plateau and early_stopping need; choose "
                "another schedule, and early_stopping=null"
            )
        return self

    def _refuse_unused(self, kind: str, chosen: str, table: Mapping[str, Choice]) -> None:
        """Refuse an option that only other rows of the table use, unless it has its default."""
        for option in sorted({option for row in table.values() for option in row.options} - table[chosen].options):
            default = type(self).model_fields[option].default
            if getattr(self, option) != default:
                users = ", ".join(name for name, row in table.items() if option in row.options)
                raise ValueError(
                    f"{kind} {chosen} does not use {option} (only {users}): set {option}={json.dumps(default)}, or "
                    f"choose another {kind}"
                )

    @property
    def hash(self) -> str:
        """The first 12 digits of a SHA-256 over all options but the seed, without those at their default."""
        options = self.model_dump(exclude={"seed"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def augments(self) -> bool:
        """Whether an image looks different from one epoch to the next."""
        return any(getattr(self, name) != field.default for name, field in AugmentationOptions.model_fields.items())

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate of a step at the peak of the schedule.

        A decoupled learning rate is stated for 1,024 images, whatever batch size and momentum are: with a constant
        gradient, a weight then moves about as far over the same number of images (as defined by airbench94, Jordan
        2024, arXiv 2404.00498).
        """
        if not self.decoupled:
            return self.learning_rate
        return self.learning_rate * self.batch_size * self.accumulate / 1024 / (1 + 1 / (1 - self.momentum))

    def builder_options(self) -> dict[str, Any]:
        """Return what the builder of the network takes besides classes and statistics."""
        return self.model_dump(include=set(self.BUILDER_OPTIONS))


class TransferRecipe(Recipe):
    """A recipe for a backbone with ImageNet weights, trained in two phases: its head, then its last layers, too."""

    BUILDER_OPTIONS = frozenset({"weights", "image_size", "head_units", "head_l2", "head_dropout"})

    weights: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32, le=512)]
    head_units: Count
    head_l2: NotNegative = 0.0
    head_dropout: Fraction = 0.0
    head_epochs: Count
    head_learning_rate: Positive
    feature_copies: Count = 1
    unfreeze: Annotated[int, Field(ge=0)] = 0


class MobileNetTransferRecipe(TransferRecipe):
    """The same for the backbone that exists in several widths."""

    BUILDER_OPTIONS = TransferRecipe.BUILDER_OPTIONS | {"alpha"}

    alpha: Positive = 1.0

    @model_validator(mode="after")
    def _published(self) -> Self:
        widths = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
        if self.weights == "imagenet" and self.alpha not in widths:
            raise ValueError(f"with weights=imagenet, alpha must be one of {widths}, but it is {self.alpha}")
        return self


RECIPES: dict[str, type[Recipe]] = {
    name: TransferRecipe if module == "imagenet" else Recipe for name, module in ARCHITECTURES.items()
} | {"mobilenetv2_imagenet": MobileNetTransferRecipe}
