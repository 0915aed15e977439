"""What passes from node to node and from run to run: typed, and independent of Kedro and Keras.

Whatever is stored as JSON derives from `Artifact`, which reads and writes it in one place and checks its schema number.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypedDict  # pydantic cannot use the standard library's before Python 3.12

from cifar10.errors import InputError

if TYPE_CHECKING:
    import keras

CHANNELS = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images.

    Attributes:
        images: uint8 (n, 32, 32, 3), RGB, 0-255. They stay uint8 until they are on the device.
        labels: uint8 (n,), indices into `class_names`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.labels)

    def take(self, index: np.ndarray | slice) -> "Examples":
        """Return the examples at these places, in this order."""
        return Examples(self.images[index], self.labels[index])

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over dtype, shape and bytes of images and labels, hexadecimal; computed once."""
        sha = hashlib.sha256()
        for array in (self.images, self.labels):
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


class Artifact(BaseModel):
    """Base class of what is stored as JSON.

    `SCHEMA` is the number that is stored with it. Raise it whenever a field is added, and give the field a default, so
    that older artifacts can still be read; fields are never removed or renamed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    SCHEMA: ClassVar[int] = 1
    MADE_BY: ClassVar[str]  # the command that writes it, for error messages

    def to_json(self) -> str:
        """Return the artifact as JSON, with its schema number first."""
        return json.dumps({"schema": self.SCHEMA, **self.model_dump()}, indent=2)

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: the JSON.
            source: the file, for error messages.

        Raises:
            InputError: it is damaged, or was written with another schema.
        """
        advice = f"Create it again with {cls.MADE_BY}, or move it away."
        try:
            values = json.loads(text)
            schema = values.pop("schema", None)
        except (ValueError, TypeError, AttributeError) as error:  # the latter two if it is not an object
            raise InputError(f"{source} is not valid JSON ({error}). {advice}") from error
        if not isinstance(schema, int) or not 1 <= schema <= cls.SCHEMA:
            known = "1" if cls.SCHEMA == 1 else f"1 to {cls.SCHEMA}"
            raise InputError(
                f"{source} was written by another version of this project (schema {schema}, but this version reads "
                f"{known}). {advice}"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InputError(f"{source} is not valid: {place}: {first['msg']}. {advice}") from error


class Statistics(Artifact):
    """What preprocessing measured, so that nothing after it needs the images to know it.

    Attributes:
        mean: per channel, of the train split, in units of 0-255.
        std: per channel, of the train split, in units of 0-255.
        patch_covariance: (12, 12), covariance of the 2x2 patches of the train split in units of 0-255 squared; its axes
            run over rows, columns and channels of a patch.
        digests: `Examples.digest` of the splits `train`, `val` and `test`.
        data_version: SHA-256 over the three digests, which identifies the data.
    """

    MADE_BY = "kedro run --pipelines=preprocessing (with the same --env and --params)"

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch_covariance: tuple[tuple[float, ...], ...]
    digests: dict[str, str]
    data_version: str


class Epoch(TypedDict):
    """One epoch of a training: one row of its history.

    `accuracy` and `loss` are means over the augmented images while the weights still change; `val_*` are None without a
    val split; `seconds` includes validation; `joules` is None where the machine does not report energy.
    """

    phase: str
    epoch: int
    accuracy: float
    loss: float
    val_accuracy: float | None
    val_loss: float | None
    learning_rate: float
    seconds: float
    joules: float | None


class Phase(TypedDict):
    """Summary of one phase of a training."""

    epochs: int
    val_accuracy: float | None
    seconds: float


class Record(Artifact):
    """How a model was trained. Stored beside the network.

    Attributes:
        architecture: its name.
        recipe: every option of the recipe.
        recipe_hash: `Recipe.hash`, equal for recipes that differ in nothing but the seed.
        image_size: side in pixels at which the network computes.
        training_examples: the number of images it was trained on.
        data_version: that of `Statistics`.
        digests: that of `Statistics`.
        parameters: the number of weights.
        epochs: the number that were run.
        best_epoch: the one whose weights were kept, from 1.
        val_accuracy: of that epoch; None if the val split was trained on.
        training_seconds: over all epochs.
        training_joules: over all epochs; None where the machine does not report energy.
        phases: name -> summary.
        initial_weights: `random`, `imagenet`, or a weights file by name and SHA-256.
        compute_dtype: `float32` or `bfloat16`, in which the network was trained.
        versions: of code and libraries; `commit` is None outside a git checkout.
        hardware: what it was trained on.
        onednn: whether TensorFlow computed with oneDNN.
        xla: whether computations were compiled with XLA.
        history: one row per epoch.
    """

    MADE_BY = "kedro run --pipelines=train_NAME"

    architecture: str
    recipe: dict[str, Any]
    recipe_hash: str
    image_size: int
    training_examples: int
    data_version: str
    digests: dict[str, str]
    parameters: int
    epochs: int
    best_epoch: int
    val_accuracy: float | None
    training_seconds: float
    training_joules: float | None
    phases: dict[str, Phase]
    initial_weights: str
    compute_dtype: str
    versions: dict[str, str | None]
    hardware: str
    onednn: bool
    xla: bool
    history: list[Epoch]

    @property
    def seed(self) -> int:
        """The seed of the recipe."""
        return self.recipe["seed"]

    @property
    def trained_on_val(self) -> bool:
        """Whether the val split was trained on, so that it says nothing about the model."""
        return self.recipe["train_on"] == "all"


@dataclass(frozen=True)
class TrainedModel:
    """A network and its record.

    Attributes:
        record: how it was trained.
        load_network: returns the network: standard Keras layers in float32, uncompiled; raw RGB images of 0-255
            (n, 32, 32, 3) in, probabilities out. A function, because most users of a model need only its record.
        version: the version under which the catalog saved it; empty before.
        megabytes: size of its file; 0 before it is saved.
    """

    record: Record
    load_network: Callable[[], "keras.Model"]
    version: str = ""
    megabytes: float = 0.0


class Predictions(NamedTuple):
    """Probabilities of one model on all splits.

    Attributes:
        train: float32 (n, classes), probabilities on the train split without augmentation.
        val: as `train`, on the val split.
        test: as `train`, on the test split.
        views: name of the test-time augmentation behind the following, or `none`.
        val_averaged: as `val`, averaged over the views of each image; None without test-time augmentation.
        test_averaged: as `test`, averaged likewise.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    views: str = "none"
    val_averaged: np.ndarray | None = None
    test_averaged: np.ndarray | None = None


class ClassMetrics(TypedDict):
    """Test metrics of one class; `support` is its number of images, `roc_auc` is None where it is undefined."""

    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None


class Bin(TypedDict):
    """The images whose confidence falls into one bin: their number, mean confidence and accuracy."""

    images: int
    confidence: float
    accuracy: float


class Metrics(BaseModel):
    """How good a model is. Test metrics unless the name says otherwise; all shares are fractions.

    Metrics with test-time augmentation (`averaged_*`) are reported beside the plain ones and decide nothing. Metrics of
    the val split, and the temperature that is fitted on it, are None for a model that was trained on that split.

    Attributes:
        accuracy: with the ends of its 95% interval (Wilson 1927) in `accuracy_low` and `accuracy_high`.
        top2_accuracy: share of the images whose class is among the two most probable.
        loss: cross-entropy in nats per image.
        brier_score: mean squared error of the probabilities, 0 to 2 (Brier 1950).
        calibration_error: expected calibration error (Guo et al. 2017).
        temperature: fitted on the val split; `calibrated_*` are with it.
        roc_auc: one class against the rest, averaged over the classes; None where it is undefined.
        precision: averaged over the classes, as are `recall` and `f1`; `weighted_*` weight classes by their images.
        views: name of the test-time augmentation, or `none`.
        test_examples: the number of test images.
        classes: metrics per class name.
        confusion: counts, true classes in rows.
        reliability: bins of the reliability diagram.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    top2_accuracy: float
    loss: float
    brier_score: float
    calibration_error: float
    temperature: float | None
    calibrated_error: float | None
    calibrated_loss: float | None
    roc_auc: float | None
    precision: float
    recall: float
    f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    train_accuracy: float
    train_loss: float
    val_accuracy: float | None
    val_loss: float | None
    views: str
    averaged_accuracy: float | None
    averaged_loss: float | None
    averaged_val_accuracy: float | None
    test_examples: int
    classes: dict[str, ClassMetrics]
    confusion: list[list[int]]
    reliability: list[Bin]
    calibrated_reliability: list[Bin] | None


class Costs(BaseModel):
    """What a prediction costs.

    Attributes:
        flops: of one image.
        latency_ms: of a batch of one image, in milliseconds.
        throughput: in batches, in images per second.
        measured_on: the hardware.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flops: int
    latency_ms: float
    throughput: float
    measured_on: str


class Evaluation(BaseModel):
    """What is known of one version of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    megabytes: float
    record: Record
    metrics: Metrics
    costs: Costs

    @property
    def architecture(self) -> str:
        """The name of its architecture."""
        return self.record.architecture


class Pair(BaseModel):
    """Two models compared on the same test images; the fields are those of `metrics.Comparison`, and Holm's p-value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: str
    second: str
    first_only: int
    second_only: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float
    significant: bool


class Evaluations(Artifact):
    """All models that one evaluation compared.

    Attributes:
        data_version: of the data on which all of them were trained and evaluated.
        class_names: in the order of the labels.
        models: one per architecture, the best validation accuracy first; those without one last.
        other_seeds: further versions of these models that differ in the seed alone.
        pairs: each of `models` compared with each other one.
    """

    MADE_BY = "kedro run --pipelines=evaluation (with the same --env and --params)"

    data_version: str
    class_names: list[str]
    models: list[Evaluation]
    other_seeds: list[Evaluation]
    pairs: list[Pair]


class Export(NamedTuple):
    """A model for users of neither Kedro nor Keras.

    Attributes:
        name: of the architecture.
        files: path inside the folder of its version -> content.
        config: the configuration that Triton needs for all its versions.
    """

    name: str
    files: dict[str, bytes]
    config: str


def verify(digests: dict[str, str], **splits: Examples) -> None:
    """Check that splits are those whose digests were taken: each is a file that can be replaced by itself.

    Raises:
        InputError: a split has changed.
    """
    for name, split in splits.items():
        if split.digest != digests[name]:
            raise InputError(
                f"The {name} images have changed since preprocessing was last completed. Run it again, then train on "
                "its output: kedro run --pipelines=preprocessing (with the same --env and --params)"
            )
