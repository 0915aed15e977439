"""Published models in a folder that git tracks: one folder per model, `NAME/VERSION/`, and the labels once."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from kedro.io import DatasetError

from cifar10.atomic import atomic, atomic_folder
from cifar10.contracts import (
    PROJECT,
    Corrupted,
    Evaluation,
    Labels,
    Predictions,
    Publication,
    PublishedModel,
    TrainedModel,
)
from cifar10.datasets.arrays import PredictionsDataset, PredictionStore
from cifar10.datasets.artifact import VERSION, LocalDataset
from cifar10.datasets.model import Models, ModelsDataset
from cifar10.errors import InputError, SchemaError, entries, readable
from cifar10.scoring import evaluate_published

LABELS, MODEL, PROBABILITIES = "labels.npz", "model.json", "probabilities.npz"
ADVICE = PublishedModel.REMEDY.format(command=PublishedModel.MADE_BY)


class PublishedDataset(LocalDataset):
    """A `Publication`. Saving adds its models to those in the folder, and replaces those of the same version."""

    def read(self, path: Path) -> Any:
        """Read the labels and every model.

        Raises:
            InputError: there is no model, a file is missing or damaged, or a model is of other data than the labels.
        """
        return _read(path)

    def labels(self) -> Labels | None:
        """Read the labels alone; None where nothing is published."""
        path = self.path / LABELS
        return _read_labels(path) if path.exists() else None

    def check(self, command: str) -> None:
        """Read everything; `command` does not create it, so the messages name the one that does."""
        self._readable(ADVICE)

    def write(self, path: Path, data: Publication) -> None:
        """Write the labels, then one model after the other, each completely or not at all.

        A model that is published already keeps its remark, and its robustness to each suite of corruptions, where the
        new publication has none.

        Raises:
            InputError: the folder has models of other data, another model under the same name and version, or one that
                another version of the project has written. Then nothing is written.
        """
        _check_labels(path / LABELS, data.labels)
        places = {
            (place := _place(path, model)): (_completed(place / MODEL, model), predictions)
            for model, predictions in data.models
        }
        _write_labels(path / LABELS, data.labels)
        for place, (model, predictions) in places.items():
            with nullcontext(place) if place.exists() else atomic_folder(place) as unfinished:
                _write(unfinished, model, predictions)

    def _exists(self) -> bool:
        return True  # `load` says what is missing


class _ResultsDataset(PublishedDataset):
    """What was measured of all published models. It is only read."""

    read_only = True

    def save(self, data: Any) -> NoReturn:
        """Refuse, because published models have been evaluated elsewhere."""
        raise DatasetError(
            "Published models are evaluated from their probabilities. Without --env=published, train and "
            "evaluate, then publish: kedro run --pipelines=publish"
        )


class PublishedEvaluationsDataset(_ResultsDataset):
    """The `Evaluations` of all published models, computed anew and kept until the run releases them."""

    _evaluations: Any = None

    def read(self, path: Path) -> Any:
        """Evaluate the published probabilities."""
        if self._evaluations is None:
            self._evaluations = evaluate_published(_read(path))
        return self._evaluations

    def _release(self) -> None:
        super()._release()
        self._evaluations = None


class PublishedRobustnessDataset(_ResultsDataset):
    """The robustness of all published models, as `robustness.csv` has it; None if none of them has been evaluated."""

    def read(self, path: Path) -> pd.DataFrame | None:
        """Return one line per model, corruption and severity."""
        lines = [
            {"name": model.record.architecture, **row, "identity": model.identity}
            for model, _ in _read(path).models
            for row in model.robustness
        ]
        return pd.DataFrame(lines) if lines else None


class AllPublishedEvaluationsDataset(PublishedEvaluationsDataset):
    """The same as the only version of `evaluations`."""

    def read(self, path: Path) -> list[Any]:
        """Evaluate the published probabilities."""
        return [super().read(path)]


@dataclass(frozen=True)
class _Published(TrainedModel):
    identity: str = ""  # as published, because it cannot be computed without the file of the network


class PublishedModels(Models):
    """All published versions of all models: their records, without their networks."""

    def names(self) -> list[str]:
        """Return the architectures of which models are published."""
        return [path.name for path in entries(self.folder) if path.is_dir() and self.versions(path.name)]

    def versions(self, name: str) -> list[str]:
        """Return the versions of an architecture, the oldest first."""
        return [path.name for path in entries(self.folder / name) if VERSION.fullmatch(path.name)]

    def _load(self, name: str, version: str) -> TrainedModel:
        place = self.folder / name / version
        model = PublishedModel.read(place / MODEL)

        def load_network() -> NoReturn:
            raise InputError(
                f"{place} has the predictions of a model, but not its network. Train it, or leave out --env=published."
            )

        return _Published(model.record, load_network, version, model.megabytes, place, identity=model.identity)


class PublishedModelsDataset(ModelsDataset):
    """`PublishedModels`."""

    FETCHED = "*"

    def read(self, path: Path) -> Models:
        """Return access to all models; nothing is loaded yet."""
        return PublishedModels(path)


class PublishedPredictions(PredictionStore):
    """The predictions of all published models, without those of the train images."""

    def find(self, model: TrainedModel | Evaluation) -> Predictions | None:
        """Load the predictions of a model; None if it is not published."""
        place = self.folder / model.record.architecture / model.version
        return _read_model(place, _read_labels(self.folder / LABELS))[1] if place.exists() else None


class PublishedPredictionsDataset(PredictionsDataset):
    """`PublishedPredictions`."""

    def read(self, path: Path) -> PredictionStore:
        """Return the store."""
        return PublishedPredictions(path)


def _place(folder: Path, model: PublishedModel) -> Path:
    return folder / model.record.architecture / model.version


def _read(folder: Path) -> Publication:
    """Read the labels and every model."""
    places = [path for path in sorted(folder.glob("*/*/")) if not path.name.startswith(".")]
    if not places:
        raise InputError(
            f"{folder} has no published models. Train and evaluate some, then publish them: "
            "kedro run --pipelines=publish (with the data_root of their training)"
        )
    labels = _read_labels(folder / LABELS)
    return Publication(labels, [_read_model(place, labels) for place in places])


def _read_labels(path: Path) -> Labels:
    with readable(path, ADVICE):
        with np.load(path, allow_pickle=False) as arrays:
            labels = Labels(str(arrays["data_version"]), arrays["class_names"].tolist(), arrays["val"], arrays["test"])
        for split in (labels.val, labels.test):
            if split.dtype != np.uint8 or split.ndim != 1 or not len(split) or split.max() >= len(labels.class_names):
                raise ValueError(f"its labels are {split.dtype} {split.shape} for {len(labels.class_names)} classes")
    return labels


def _read_model(place: Path, labels: Labels) -> tuple[PublishedModel, Predictions]:
    path = place / MODEL
    model = PublishedModel.read(path)
    if (model.record.architecture, model.version) != (place.parent.name, place.name):
        raise InputError(f"{path} is of {model.record.architecture}, version {model.version}. {ADVICE}")
    if model.record.data_version != labels.data_version or model.record.class_names != labels.class_names:
        raise InputError(
            f"{path} is of a model of other data than {LABELS}, so it cannot be compared with the others. Move the "
            "folder of this version away."
        )
    path = place / PROBABILITIES
    with readable(path, ADVICE):
        with np.load(path, allow_pickle=False) as arrays:
            values: dict[str, Any] = dict(arrays)
        empty = np.empty((0, len(labels.class_names)), np.float32)
        predictions = Predictions(
            **{**values, "train": empty, "identity": str(values["identity"]), "views": str(values["views"])}
        )
        if predictions.identity != model.identity:
            raise ValueError(f"it is of another model than {MODEL} beside it")
        for name, split in (("val", labels.val), ("test", labels.test)):
            for array in (values[name], values.get(f"{name}_averaged", values[name])):
                if (array.dtype, array.shape) != (np.float32, (len(split), len(labels.class_names))):
                    raise ValueError(
                        f"its {name} probabilities are {array.dtype} {array.shape} for {len(split):,} images of "
                        f"{len(labels.class_names)} classes"
                    )
    return model, predictions


def _check_labels(path: Path, labels: Labels) -> None:
    """Check that the labels in the folder, if there are any, are these."""
    try:
        known = _read_labels(path)
    except InputError:  # there are none, or they are damaged and will be replaced
        return
    if (known.data_version, known.class_names) != (labels.data_version, labels.class_names):
        raise InputError(
            f"{path.parent} has models of other data than those of the latest evaluation (data version "
            f"{known.data_version[:12]}, not {labels.data_version[:12]}), and models of different data cannot be "
            "compared. Publish these in another folder: --params=published_root=FOLDER"
        )


def _completed(path: Path, model: PublishedModel) -> PublishedModel:
    """Return the model with the remark and robustness of its earlier publication in that file that it lacks.

    Raises:
        InputError: what is published under this name and version is another model, or cannot be read by this version of
            the project.
    """
    try:
        known = PublishedModel.read(path)
    except SchemaError as error:
        raise InputError(
            f"{path} was written by another version of this project. Publish the model with that version, or move "
            f"{path.parent} away."
        ) from error
    except InputError:  # there is none, or it is damaged and will be replaced
        return model
    if known.identity != model.identity:
        raise InputError(
            f"{path.parent} has another model of the same name and version. Move that folder away, or evaluate the "
            "model that was trained there: kedro run --pipelines=evaluation,publish"
        )
    robustness = _merged(model.robustness, known.robustness)
    return model.model_copy(update={"remark": model.remark or known.remark, "robustness": robustness})


def _merged(lines: list[Corrupted], known: list[Corrupted]) -> list[Corrupted]:
    """Return the lines, and those known of suites that they lack, because not every machine has CIFAR-10-C."""
    suites = {line.get("suite", PROJECT) for line in lines}
    return [*lines, *(line for line in known if line.get("suite", PROJECT) not in suites)]


def _write_labels(path: Path, labels: Labels) -> None:
    with atomic(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **{**labels._asdict(), "class_names": np.array(labels.class_names)})


def _write(place: Path, model: PublishedModel, predictions: Predictions) -> None:
    """Write both files; either belongs to the other one's earlier version, too, because the model is the same."""
    values = {name: value for name, value in predictions._asdict().items() if name != "train" and value is not None}
    with atomic(place / PROBABILITIES) as path, path.open("wb") as file:
        np.savez(file, **values)
    with atomic(place / MODEL) as path:
        path.write_text(model.to_json(), encoding="utf-8")
