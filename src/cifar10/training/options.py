"""Every training option, with its type and default. `conf/base/parameters_architectures.yml` explains them.

The default of an option is the value at which it is off, or has its usual setting. Recipe hashes and the identity of a
checkpoint leave out options at their default, so a new option changes neither; therefore a default never changes.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

SIZE = 32  # of the images, in pixels on either side

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


def _numbers(given: Any) -> Any:
    """Split text at its spaces into whole numbers, because a comma ends a parameter on the command line."""
    if not isinstance(given, str | int):
        return given
    words = str(given).split()
    if wrong := [word for word in words if not word.isdecimal()]:
        raise ValueError(f"{wrong[0]} is not a number of pixels; separate several by spaces, as in 16 24 32")
    return [int(word) for word in words]


Sides = Annotated[list[Annotated[int, Field(ge=8, le=SIZE)]], Field(min_length=1), BeforeValidator(_numbers)]


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


class Options(AugmentationOptions, MixingOptions):
    """All options of a network that is trained from scratch."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: Count
    batch_size: Count
    accumulate: Count = 1
    optimizer: str  # a key of `OPTIMIZERS`
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
    schedule: str  # a key of `SCHEDULES`
    warmup: Fraction = 0.0
    schedule_start: Fraction = 0.0
    schedule_end: Fraction = 0.0
    plateau_patience: Count = 3
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    early_stopping: Count | None = None
    label_smoothing: Fraction = 0.0
    resolutions: Sides | None = None
    examples: Count | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    train_on: Literal["train", "all"] = "train"
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cpu_compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    deterministic: bool = False

    @property
    def sides(self) -> list[int]:
        """The side in pixels of the training images in each epoch; the last is at 32, whatever `epochs` is."""
        parts = self.resolutions or [SIZE]
        return [parts[-(-(epoch + 1) * len(parts) // self.epochs) - 1] for epoch in range(self.epochs)]

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
