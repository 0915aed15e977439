"""Every training option: its type, its default, and what it does, from which docs/training.md has its table.

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

    model_config = ConfigDict(use_attribute_docstrings=True)

    flip: Literal["none", "random", "alternating"] = "none"
    """Flip horizontally: half of the images, drawn at random, or all of them in every other epoch (`alternating`)."""
    shift: Annotated[int, Field(ge=0, le=16)] = 0
    """Shift each image by up to this number of its 32 pixels in both directions; the border is reflected."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 0
    """Side in pixels of a square that is filled with the mean colour; 0: none."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotate by up to this number of degrees."""
    zoom: Fraction = 0.0
    """Enlarge or shrink by up to this fraction."""


class MixingOptions(BaseModel):
    """Options of mixing the images of a batch with each other (see `augmentation.Mixing`)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    mixup: NotNegative = 0.0
    """Blend pairs of images, by a weight from Beta(mixup, mixup); 0: never. Train accuracy counts the first image."""
    cutmix: NotNegative = 0.0
    """Paste a square of another image, with an area from Beta(cutmix, cutmix); 0: never. Accuracy as with mixup."""


class Options(AugmentationOptions, MixingOptions):
    """All options of a network that is trained from scratch."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    epochs: Count
    """Number of epochs, at most; in transfer learning, of the second phase."""
    batch_size: Count
    """Images per step."""
    accumulate: Count = 1
    """Gradient accumulation steps; the effective batch size is batch_size x accumulate."""
    optimizer: str  # a key of `OPTIMIZERS`
    """The algorithm; muon: Muon (Jordan et al. 2024) for most kernels, sgd for depthwise, the last layer, biases."""
    learning_rate: Positive
    """Peak of the schedule; with muon, of what sgd trains."""
    momentum: Fraction = 0.9
    """Nesterov momentum."""
    muon_learning_rate: Positive = 0.24
    """Learning rate of the kernels that muon trains."""
    bias_learning_rate: Positive = 1.0
    """Learning rate of biases, including those of batch norms, as a multiple of learning_rate."""
    weight_decay: NotNegative = 0.0
    """A step multiplies kernels by 1 - weight_decay x learning rate; with muon, only those that sgd trains."""
    decay_biases: bool = False
    """Whether weight decay includes biases and batch norms."""
    decoupled: bool = False
    """Whether learning_rate and weight_decay are stated for 1,024 images, at any batch size and momentum."""
    lookahead: Count | None = None
    """Steps between two returns to a slow average of the weights (Zhang et al. 2019); null: never."""
    whitening_epochs: Count | None = None
    """Epochs over which the learning rate of a whitening bias falls to 0; null: it follows the schedule."""
    gradient_clip: Positive | None = None
    """Maximum norm of the gradient over all weights; null: no limit."""
    schedule: str  # a key of `SCHEDULES`
    """Course of the learning rate; cosine and triangular fall over `epochs`."""
    warmup: Fraction = 0.0
    """Share of `epochs` in which the learning rate rises to the peak."""
    schedule_start: Fraction = 0.0
    """Fraction of the peak at which the learning rate begins to rise; triangular: not below schedule_end."""
    schedule_end: Fraction = 0.0
    """Fraction of the peak at which the learning rate ends."""
    plateau_patience: Count = 3
    """Epochs without a better validation accuracy before the learning rate is lowered."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor by which it is lowered."""
    early_stopping: Count | None = None
    """Epochs without a better validation accuracy before training stops; null: never."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread over all classes."""
    resolutions: Sides | None = None
    """Side in pixels of the training images over equal parts of the epochs, up to 32: `16 24 32`; null: always 32."""
    examples: Count | None = None
    """Number of training images, drawn at random; null: all."""
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Seed of the initial weights, the order of the images and their augmentation."""
    train_on: Literal["train", "all"] = "train"
    """Which images; `all`: also those for validation; the last epoch is kept, and the model is not ranked."""
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of the arithmetic; auto: bfloat16 on a GPU, and on a CPU what cpu_compute_dtype says."""
    cpu_compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What auto means on a CPU with bfloat16 instructions (AVX512_BF16, AMX); on others, it means float32."""
    deterministic: bool = False
    """Whether a GPU gives the same result for the same seed, too, but more slowly; a CPU always does."""

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
