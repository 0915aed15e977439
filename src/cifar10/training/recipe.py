"""How one network is trained, as written in `conf/base/parameters_architectures.yml`."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cifar10.architectures import ARCHITECTURES

Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Recipe(BaseModel):
    """Every value a training depends on besides the data. The values live in the configuration, so none here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    KNOBS: ClassVar[frozenset[str]] = frozenset()  # the fields that the builder of the network takes

    train_on: Literal["train", "all"]
    precision: Literal["auto", "float32", "bfloat16"]
    bfloat16_cpu: Literal["float32", "bfloat16"]
    deterministic: bool
    epochs: Count
    batch_size: Count
    accumulate: Count
    optimizer: Literal["sgd", "muon", "adam", "adamw"]
    learning_rate: Positive
    momentum: Fraction
    muon_learning_rate: Positive
    bias_learning_rate: Positive
    weight_decay: NotNegative
    decay_biases: bool
    decoupled: bool
    lookahead: Count | None
    whitening_epochs: Count | None
    gradient_clip: Positive | None
    schedule: Literal["constant", "plateau", "cosine", "triangular"]
    warmup: Fraction
    schedule_start: Fraction
    schedule_end: Fraction
    plateau_patience: Count
    plateau_factor: Annotated[float, Field(gt=0, lt=1)]
    early_stopping: Count | None
    label_smoothing: Fraction
    flip: Literal["none", "random", "alternating"]
    shift: Annotated[int, Field(ge=0, le=16)]
    cutout: Annotated[int, Field(ge=0, le=32)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Fraction
    mixup: NotNegative
    cutmix: NotNegative
    examples: Count | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weight_decay and self.optimizer == "adam":
            raise ValueError("optimizer adam has no weight_decay (adamw has)")
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix exclude each other, so one of them should be 0")
        if self.optimizer.startswith("adam") and (
            self.bias_learning_rate != 1 or self.lookahead or self.whitening_epochs or self.decoupled
        ):
            raise ValueError(
                "bias_learning_rate, lookahead, whitening_epochs and decoupled are for sgd and muon, not "
                f"{self.optimizer}"
            )
        if self.lookahead and self.accumulate > 1:
            raise ValueError("lookahead counts steps, so it does not go with accumulate")
        if self.train_on == "all" and (self.schedule == "plateau" or self.early_stopping):
            raise ValueError("train_on all leaves nothing for validation: no early_stopping, and no schedule plateau")
        return self

    def knobs(self) -> dict[str, Any]:
        """What the builder of the network is given."""
        return self.model_dump(include=set(self.KNOBS))

    def augments(self) -> bool:
        """Whether a picture looks different from one epoch to the next."""
        return self.flip != "none" or any((self.shift, self.cutout, self.rotation, self.zoom))


class TransferRecipe(Recipe):
    """The same for a backbone with weights from ImageNet, which is trained twice: its head, then its last layers."""

    KNOBS = frozenset({"weights", "image_size", "head_units", "head_l2", "head_dropout"})

    weights: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32, le=512)]
    head_units: Count
    head_l2: NotNegative
    head_dropout: Fraction
    head_epochs: Count
    head_learning_rate: Positive
    feature_copies: Count
    unfreeze: Annotated[int, Field(ge=0)]


class MobileNetTransferRecipe(TransferRecipe):
    """The same for the backbone that comes in several widths."""

    KNOBS = TransferRecipe.KNOBS | {"alpha"}

    alpha: Positive

    @model_validator(mode="after")
    def _published(self) -> Self:
        widths = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
        if self.weights == "imagenet" and self.alpha not in widths:
            raise ValueError(f"with weights imagenet, alpha should be one of {widths}, but it is {self.alpha}")
        return self


RECIPES: dict[str, type[Recipe]] = {
    name: TransferRecipe if module == "imagenet" else Recipe for name, module in ARCHITECTURES.items()
} | {"mobilenetv2_imagenet": MobileNetTransferRecipe}
