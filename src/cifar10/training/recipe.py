"""How one network is trained, as written in `conf/base/parameters_architectures.yml`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """Every value a training depends on besides the data. The values live in the configuration, so none here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    optimizer: Literal["adam", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    schedule: Literal["constant", "plateau", "cosine"]
    warmup: Fraction
    plateau_patience: Annotated[int, Field(ge=1)]
    plateau_factor: Annotated[float, Field(gt=0, lt=1)]
    early_stopping: Annotated[int, Field(ge=1)] | None
    label_smoothing: Fraction
    flip: bool
    shift: Annotated[int, Field(ge=0, le=16)]
    cutout: Annotated[int, Field(ge=0, le=32)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Fraction
    seed: Annotated[int, Field(ge=0, lt=2**32)]
