"""What passes from node to node and from run to run: typed, and independent of Kedro and Keras.

Whatever is stored as JSON derives from `Artifact`, which reads and writes it in one place and checks its schema number.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, NotRequired, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict  # pydantic cannot use the standard library's before Python 3.12

from cifar10.errors import InputError, SchemaError, readable

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

    def image_digests(self) -> list[bytes]:
        """Return the SHA-256 of each image, without its label, by which equal images are found."""
        return [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in self.images]


class Artifact(BaseModel):
    """Base class of what is stored as JSON.

    `SCHEMA` is the number that is stored with it. Raise it whenever a field is added, and give the field a default, so
    that older artifacts can still be read; fields are never removed or renamed. `OLDEST` is the first that can be read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    SCHEMA: ClassVar[int] = 1
    OLDEST: ClassVar[int] = 1
    MADE_BY: ClassVar[str]  # the command that writes it, for error messages
    REMEDY: ClassVar[str] = "Create it again with {command}, or move it away."  # the advice in them

    def to_json(self) -> str:
        """Return the artifact as JSON, with its schema number first."""
        return json.dumps({"schema": self.SCHEMA, **self.model_dump()}, indent=2)

    @cached_property
    def digest(self) -> str:
        """The first 12 digits of its SHA-256, by which artifacts that are made from it can be recognised."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that has what `to_json` wrote.

        Raises:
            InputError: it is missing or damaged.
            SchemaError: it was written with another schema.
        """
        with readable(path, cls.REMEDY.format(command=cls.MADE_BY)):
            return cls.from_json(path.read_text(encoding="utf-8"), str(path))

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Read what `to_json` wrote.

        Args:
            text: the JSON.
            source: the file, for error messages.

        Raises:
            InputError: it is damaged.
            SchemaError: it was written with another schema.
        """
        advice = cls.REMEDY.format(command=cls.MADE_BY)
        try:
            values = json.loads(text)
            schema = values.pop("schema", None)
        except (ValueError, TypeError, AttributeError) as error:  # the latter two if it is not an object
            raise InputError(f"{source} is not valid JSON ({error}). {advice}") from error
        if not isinstance(schema, int) or not cls.OLDEST <= schema <= cls.SCHEMA:
            known = f"{cls.OLDEST}" if cls.SCHEMA == cls.OLDEST else f"{cls.OLDEST} to {cls.SCHEMA}"
            raise SchemaError(
                f"{source} was written by another version of this project (schema {schema}, but this version reads "
                f"{known}). {advice}"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            problem = first["msg"].removeprefix("Value error, ")
            raise InputError(f"{source} is not valid: {place}: {problem}. {advice}") from error


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
    val split; `learning_rate` is that of the middle one of its steps; `seconds` includes validation; `joules` is None
    where the machine does not report energy, and in the first epoch of a head, which begins with the features.
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


class LayerSummary(TypedDict):
    """One layer of a network: its name and type, its output shape without the batch, and its numbers of weights."""

    layer: str
    type: str
    output_shape: str
    parameters: int
    trained: int


def _having(**types: Any) -> AfterValidator:
    """Return the check that a dictionary, whatever else it has, has values of these types under these names."""

    def check(values: dict[str, Any]) -> dict[str, Any]:
        for name, kind in types.items():
            if name not in values:
                raise ValueError(f"{name} is missing")
            if not isinstance(values[name], kind):
                raise ValueError(f"{name} is {values[name]!r}")
        return values  # in the order in which they were written

    return AfterValidator(check)


class Record(Artifact):
    """How a model was trained. Stored beside the network.

    Attributes:
        architecture: its name.
        class_names: in the order of the probabilities.
        recipe: every option of the recipe; a file of weights is named as in `initial_weights`.
        recipe_hash: `Recipe.hash`, equal for recipes that differ in nothing but the seed.
        fingerprint: of the network as it was built (`identity.fingerprint`).
        engine_version: `identity.engine_version`, which is raised when the arithmetic of training changes.
        sources: hash of the package's source files; recorded, but never compared.
        image_size: side in pixels at which the network computes.
        training_examples: the number of images it was trained on.
        training_digest: `Examples.digest` of these images.
        data_version: that of `Statistics`.
        digests: that of `Statistics`.
        parameters: the number of weights.
        epochs: the number that were run.
        best_epoch: the one whose weights were kept, from 1.
        val_accuracy: of that epoch; None if the val split was trained on.
        training_seconds: over all epochs.
        training_joules: over all epochs; None where the machine does not report energy, and in transfer learning.
        phases: name -> summary.
        initial_weights: `random`, `imagenet`, or a weights file by name and SHA-256.
        compute_dtype: `float32` or `bfloat16`, in which the network was trained.
        versions: of code and libraries; `commit` is None outside a git checkout.
        oldest_keras: the oldest version of Keras that can load the network.
        hardware: what it was trained on.
        devices: the number that shared each batch.
        onednn: whether TensorFlow computed with oneDNN.
        xla: whether computations were compiled with XLA.
        layers: one row per layer.
        history: one row per epoch.
    """

    SCHEMA = 3
    OLDEST = 2
    MADE_BY = "kedro run --pipelines=train_NAME"
    REMEDY = "Move the folder of this version away; {command} trains another one, with the same --env and --params."

    architecture: str
    class_names: list[str]
    recipe: Annotated[dict[str, Any], _having(seed=int, train_on=str, examples=int | None)]
    recipe_hash: str
    fingerprint: str
    engine_version: int
    sources: str
    image_size: int
    training_examples: int
    training_digest: str
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
    versions: Annotated[dict[str, str | None], _having(commit=str | None)]
    oldest_keras: str
    hardware: str
    devices: int = 1
    onednn: bool
    xla: bool
    layers: list[LayerSummary] = Field(repr=False)
    history: list[Epoch] = Field(repr=False)

    @property
    def seed(self) -> int:
        """The seed of the recipe."""
        return self.recipe["seed"]

    @property
    def group(self) -> tuple[str, str, str, int, str]:
        """What models have in common that differ in nothing but their seed: they form one row of the leaderboard."""
        return self.architecture, self.recipe_hash, self.fingerprint, self.engine_version, self.compute_dtype

    @property
    def trained_on_val(self) -> bool:
        """Whether the val split was trained on, so that it says nothing about the model."""
        return self.recipe["train_on"] == "all"


def machine_name(hardware: str) -> str:
    """Return the name of a machine as prose has it; the recorded one of a single core says "1 cores"."""
    return re.sub(r"\b1 cores$", "1 core", hardware)


@dataclass(frozen=True)
class TrainedModel:
    """A network and its record.

    Attributes:
        record: how it was trained.
        load_network: returns the network: standard Keras layers in float32, uncompiled; raw RGB images of 0-255
            (n, 32, 32, 3) in, probabilities out. A function, because most users of a model need only its record.
        version: the version under which the catalog saved it; empty before.
        megabytes: size of its file; 0 before it is saved.
        path: its file; None before it is saved.
        pinned: whether this version was asked for with `--load-versions`.
    """

    record: Record
    load_network: Callable[[], "keras.Model"]
    version: str = ""
    megabytes: float = 0.0
    path: Path | None = None
    pinned: bool = False

    @cached_property
    def identity(self) -> str:
        """What its predictions depend on: the SHA-256 over its file and the digests of its images, hexadecimal."""
        sha = hashlib.sha256(json.dumps([self.record.training_digest, self.record.digests], sort_keys=True).encode())
        if self.path:
            with self.path.open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
        return sha.hexdigest()


class Predictions(NamedTuple):
    """Probabilities of one model.

    Attributes:
        identity: `TrainedModel.identity` of that model.
        train: float32 (n, classes), on the images that it was trained on, without augmentation, in the order of
            `training_images`. Empty in a `Publication`.
        val: as `train`, on the val split.
        test: as `train`, on the test split.
        views: name of the test-time augmentation behind the following, or `none`.
        val_averaged: as `val`, averaged over the views of each image; None without test-time augmentation.
        test_averaged: as `test`, averaged likewise.
    """

    identity: str
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


# Metrics that do not fit into one cell of a table.
NESTED_METRICS = {"classes", "confusion", "reliability", "calibrated_reliability"}


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
        train_accuracy: on the images that the model was trained on, without augmentation; `train_loss` likewise.
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
        latency_ms: of a batch of one image, in milliseconds: the median of repeated predictions.
        throughput: in batches, in images per second.
        measured_on: the hardware.
        latency_low_ms: 5th percentile of these predictions, `latency_high_ms` the 95th; None where only the median was
            recorded, by an earlier version of the project.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flops: int
    latency_ms: float
    throughput: float
    measured_on: str
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None


class Evaluation(BaseModel):
    """What is known of one version of a model.

    Attributes:
        version: under which the catalog saved it.
        identity: `TrainedModel.identity`.
        megabytes: size of its file.
        record: how it was trained.
        metrics: how good it is.
        costs: what a prediction costs.
        remark: what a reader must know beside every figure of it, in a sentence; empty for most models.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    identity: str
    megabytes: float
    record: Record
    metrics: Metrics
    costs: Costs
    remark: str = ""


class Row(BaseModel):
    """A row of the leaderboard: models that differ in nothing but their seed, as far as `Record.group` tells.

    Attributes:
        name: the architecture and, if there are several rows of it, what tells them apart. File names contain it.
        seeds: the newest version of each seed, the lowest seed first.
        older: earlier versions of these seeds, which no mean includes; empty unless `evaluate_versions` is `all`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    seeds: Annotated[list[Evaluation], Field(min_length=1)]
    older: list[Evaluation] = []

    @property
    def first(self) -> Evaluation:
        """The model of the lowest seed, which stands for the row wherever only one model can."""
        return self.seeds[0]

    @property
    def marked_name(self) -> str:
        """The name, with a dagger if a remark belongs beside its figures."""
        return f"{self.name}†" if self.first.remark else self.name

    @property
    def title(self) -> str:
        """The marked name of the row and, if it has several seeds, that of `first`."""
        return f"{self.marked_name} (seed {self.first.record.seed})" if len(self.seeds) > 1 else self.marked_name

    @property
    def architecture(self) -> str:
        """The name of its architecture."""
        return self.first.record.architecture

    @property
    def val_accuracy(self) -> float | None:
        """Mean validation accuracy over the seeds, which ranks; None if the val split was trained on."""
        values = [each.metrics.val_accuracy for each in self.seeds]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    @property
    def differences(self) -> dict[str, list[str]]:
        """What differs between the seeds besides the seed: name -> its values."""
        facts = [_facts(each.record) for each in self.seeds]
        values = {
            name: list(dict.fromkeys(each.get(name, "none") for each in facts)) for each in facts for name in each
        }
        return {name: different for name, different in values.items() if len(different) > 1}


def _facts(record: Record) -> dict[str, str]:
    """Return under which circumstances a model was trained, apart from its recipe."""
    return {
        **{name: version or "unknown" for name, version in record.versions.items()},
        "hardware": record.hardware,
        "devices": str(record.devices),
        "oneDNN": "on" if record.onednn else "off",
        "XLA": "on" if record.xla else "off",
        "initial weights": record.initial_weights,
        "parameters": f"{record.parameters:,}",
    }


class Pair(BaseModel):
    """Two rows compared by their models of the lowest seed, on the same test images.

    `first` and `second` are names of rows; the other fields are those of `metrics.Comparison`, and Holm's p-value.
    """

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
        class_names: of all of them, in the order of the labels.
        rows: the best validation accuracy first; those without one last.
        pairs: each row compared with each other one.
    """

    SCHEMA = 4
    OLDEST = 2
    MADE_BY = "kedro run --pipelines=evaluation (with the same --env and --params)"

    data_version: str
    class_names: list[str]
    rows: list[Row]
    pairs: list[Pair]

    def find(self, identity: str) -> Evaluation | None:
        """Return the evaluation of the model of that identity, of any seed or age; None if it has none."""
        models = (each for row in self.rows for each in (*row.seeds, *row.older))
        return next((each for each in models if each.identity == identity), None)


class Labels(NamedTuple):
    """The true classes of the val and test splits, by which published probabilities are evaluated without the images.

    Attributes:
        data_version: that of `Statistics`.
        class_names: in the order of the labels.
        val: uint8 (n,), indices into `class_names`.
        test: as `val`.
    """

    data_version: str
    class_names: list[str]
    val: np.ndarray
    test: np.ndarray


PROJECT, CIFAR10_C = "project", "CIFAR-10-C"  # suites of corruptions


class Corrupted(TypedDict):
    """Test accuracy under one corruption of one severity, and without it, on `images` images.

    `suite` is `CIFAR-10-C`, or `project` for the corruptions of this project, which older tables have alone.
    """

    suite: NotRequired[str]
    corruption: str
    severity: int
    accuracy: float
    clean_accuracy: float
    images: int


class PublishedModel(Artifact):
    """What is published of a model beside its probabilities: what cannot be computed from them.

    Attributes:
        version: that of `Evaluation`, as are `identity`, `megabytes`, `record`, `costs` and `remark`.
        train_accuracy: that of `Metrics`; `train_loss` likewise.
        robustness: one row per suite, corruption and severity; empty if it has not been evaluated.
    """

    SCHEMA = 2
    MADE_BY = "kedro run --pipelines=publish (with the data_root of its training)"
    REMEDY = "Restore it with git, or publish the model again: {command}"

    version: str
    identity: str
    megabytes: float
    record: Record
    costs: Costs
    train_accuracy: float
    train_loss: float
    remark: str = ""
    robustness: list[Corrupted] = []


class Publication(NamedTuple):
    """Published models with their probabilities, which lack those of the train images, and the labels of all."""

    labels: Labels
    models: list[tuple[PublishedModel, Predictions]]


class Trial(BaseModel):
    """A recipe that was tried, and what validation says of it.

    Attributes:
        number: of the trial in its study, from 0. The first is the recipe that is tuned.
        state: `complete`; `pruned`, because it was behind after an epoch; or `failed`, as `message` says.
        options: of the recipe, as the trial had them; the others are those of the recipe.
        val_accuracy: of its best epoch; None without an epoch.
        val_accuracies: after each epoch.
        seconds: of its epochs.
        message: why it failed; else empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    state: Literal["complete", "pruned", "failed"]
    options: dict[str, Any]
    val_accuracy: float | None
    val_accuracies: list[float]
    seconds: float
    message: str = ""


class Trials(Artifact):
    """The finished trials of a study.

    Attributes:
        architecture: its name.
        recipe: that is tuned, at full length, as in `Record`.
        data_version: that of `Statistics`.
        fidelity: options of the recipe of which the trials had less: `epochs`, `examples`.
        space: the values of each option that was tuned.
        trials: in the order in which they began.
        importance: option -> its share in what tells the best tenth of the complete trials from all; empty if unknown.
    """

    MADE_BY = "kedro run --pipelines=tune_NAME"

    architecture: str
    recipe: dict[str, Any]
    data_version: str
    fidelity: dict[str, int]
    space: dict[str, dict[str, Any]]
    trials: list[Trial]
    importance: dict[str, float]

    @property
    def best(self) -> list[Trial]:
        """The complete trials, the best validation accuracy first; of equal ones, the earlier first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: -(trial.val_accuracy or 0.0))

    @property
    def summary(self) -> str:
        """How many trials of what fidelity they are, as a caption says it."""
        states = [trial.state for trial in self.trials]
        parts = [f"{states.count(state)} {state}" for state in ("complete", "pruned", "failed") if state in states]
        epochs, all_epochs = self.fidelity.get("epochs"), self.recipe["epochs"]
        up_to = "up to " if "pruned" in states else ""
        length = f"{epochs} of {all_epochs} epochs" if epochs else f"all {all_epochs} epochs"
        length = f"{up_to}{length}" if all_epochs > 1 else "1 epoch"
        if "epochs" in self.space:
            length = "various epochs"
        examples = self.fidelity.get("examples") or self.recipe["examples"]
        images = f"{examples:,}" if examples else "all"
        if "examples" in self.space:
            images = "various numbers of"
        trials = f"{len(states)} trial{'s' * (len(states) > 1)}"
        return f"{trials} ({', '.join(parts)}), {length} on {images} images"


class ConfirmedRecipe(BaseModel):
    """A recipe at full length, with several seeds, beside the recipe that was tuned.

    Attributes:
        trial: number of the trial that had it; None: the recipe that was tuned.
        options: in which it differs from that.
        val_accuracies: with each seed; None where the training failed.
        mean: of these; None if a training failed.
        low: lower end of the 95% interval of the mean; None for fewer than three seeds, or if all accuracies are equal;
            `high` likewise.
        difference: mean minus that of the recipe that was tuned, over pairs of trainings of the same seed.
        difference_low: lower end of the 95% interval of the difference, None for fewer than three seeds, or if it is
            the same for all; `difference_high` likewise.
        p_value: of a paired t-test, corrected for the number of recipes compared (Holm 1979); None likewise.
        better: whether it is significantly better; None likewise.
        seconds: of all its trainings.
        message: why a training failed; else empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: int | None
    options: dict[str, Any]
    val_accuracies: list[float | None]
    mean: float | None
    low: float | None
    high: float | None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    better: bool | None = None
    seconds: float
    message: str = ""


class Confirmed(Artifact):
    """Trials whose recipes were trained at full length, beside the recipe that was tuned.

    Attributes:
        architecture: its name.
        data_version: that of `Statistics`.
        trials: `Trials.digest` of those among which they are the best.
        seeds: of the trainings, which no trial had.
        shipped: the recipe that was tuned.
        candidates: the best trials, the best mean first; empty if no trial was better than the first.
    """

    MADE_BY = "kedro run --pipelines=tune_NAME"

    architecture: str
    data_version: str
    trials: str
    seeds: list[int]
    shipped: ConfirmedRecipe
    candidates: list[ConfirmedRecipe]


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


def verify(
    digests: dict[str, str],
    *,
    since: str = "preprocessing was last completed",
    remedy: str = "Run it again, then train on its output: kedro run --pipelines=preprocessing",
    **splits: Examples,
) -> None:
    """Check that splits are those whose digests were taken: each is a file that can be replaced by itself.

    Args:
        digests: of the splits by their names.
        since: when they were taken, for the message.
        remedy: what to do where they have changed, which ends in a command.
        splits: train, val or test.

    Raises:
        InputError: a split has changed.
    """
    for name, split in splits.items():
        if split.digest != digests.get(name):
            raise InputError(
                f"The {name} images have changed since {since}. {remedy} (with the same --env and --params)"
            )


def check_labels(examples: Examples, kind: str, class_names: list[str]) -> None:
    """Check that each label has a name.

    Args:
        examples: of which there may be none.
        kind: which ones they are, for the message.
        class_names: in the order of the labels.

    Raises:
        InputError: there are fewer names.
    """
    if (highest := examples.labels.max(initial=0)) >= len(class_names):
        raise InputError(
            f"The {kind} images have labels up to {highest}, but class_names has only {len(class_names)} names. Use "
            "the --env and class_names with which they were ingested, or ingest them again."
        )


def check_class_names(owner: str, known: list[str], current: list[str]) -> None:
    """Check that the parameter `class_names` has the names with which a model was trained.

    Args:
        owner: whose names they are, for the message.
        known: the names of the owner.
        current: the parameter.

    Raises:
        InputError: they differ.
    """
    if known == current:
        return
    difference = f"{len(known)} classes, but class_names has {len(current)}"
    if len(known) == len(current):
        label = next(label for label, name in enumerate(known) if name != current[label])
        difference = f"other class names than class_names: class {label} is {known[label]}, not {current[label]}"
    raise InputError(
        f"{owner} has {difference}. Use the --env and the class_names of its training, or train and evaluate again."
    )
