"""Trained models side by side: what differs between them, and what each gets right that another gets wrong.

Needs records and saved probabilities, and neither networks nor Keras; images only to show them.
"""

import string
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np
from kedro.io import DataCatalog

from cifar10 import metrics
from cifar10.architectures import ARCHITECTURES
from cifar10.colours import FEW
from cifar10.contracts import Costs, Evaluation, Evaluations, Pair, Predictions, Record, Row, TrainedModel, machine_name
from cifar10.datasets.model import Models
from cifar10.errors import InputError, did_you_mean
from cifar10.scoring import compare_pairs
from cifar10.training.recipe import as_text, unused, with_defaults

Key = TypeVar("Key", bound=Hashable)

MOST = len(FEW)  # models: as many as there are colours that can be told apart
SAME_DATA = "(with the same --env and data_root)"
SAME_IMAGES = "(with the --env, data_root, raw files and split of their training)"
SPLITS = {"val": "validation", "test": "test"}  # as they are called


def _options(record: Record) -> dict[str, str]:
    """Return the recipe as text, without the seed; an option that it lacks is at its default."""
    options = with_defaults(record.architecture, record.recipe)
    return {name: as_text(value) for name, value in options.items() if name != "seed"}


def _unused(record: Record) -> set[str]:
    """Return the options that its optimizer and its schedule do not use."""
    return unused(with_defaults(record.architecture, record.recipe))


def differing_options(records: Mapping[Key, Record]) -> dict[Key, str]:
    """Return for each of these trainings of one architecture the options in which they differ, as text."""
    values = {
        key: {
            **_options(record),
            "network": record.fingerprint[:8],
            "engine": str(record.engine_version),
            "computed in": record.compute_dtype,
        }
        for key, record in records.items()
    }
    differing = _differing(list(values.values()))
    return {
        key: ", ".join(f"{name} {each[name]}" for name in differing if name in each and name not in _unused(record))
        for (key, each), record in zip(values.items(), records.values(), strict=True)
    }


def compare_recipes(rows: list[Row]) -> dict[str, str]:
    """Return the name of each row -> the options in which it differs from other rows of its architecture."""
    texts: dict[str, str] = {}
    for architecture in dict.fromkeys(row.architecture for row in rows):
        texts |= differing_options({row.name: row.first.record for row in rows if row.architecture == architecture})
    return texts


def _differing(facts: list[dict[str, str]]) -> list[str]:
    names = dict.fromkeys(name for each in facts for name in each)
    return [name for name in names if len({each.get(name) for each in facts}) > 1]


def latest_evaluations(all_evaluations: list[Evaluations]) -> dict[tuple[str, str], Evaluation]:
    """Return the latest evaluation of each version, by its architecture and version.

    Args:
        all_evaluations: every version of `evaluations`, the oldest first.
    """
    return {
        (each.record.architecture, each.version): each
        for past in all_evaluations
        for row in past.rows
        for each in (*row.seeds, *row.older)
    }


class Accuracy(NamedTuple):
    """An accuracy and its 95% interval (Wilson 1927), which is None where the number of images is not known."""

    value: float
    interval: metrics.Interval | None


class Side(NamedTuple):
    """One of the models that are compared.

    Attributes:
        letter: by which tables and figures name it.
        model: with its record; its network is not loaded.
        val: accuracy on the val split; None if the model was trained on it.
        test: accuracy on the test split; None if it has not been evaluated.
        costs: of its latest evaluation; None if there is none.
    """

    letter: str
    model: TrainedModel
    val: Accuracy | None
    test: Accuracy | None
    costs: Costs | None

    @property
    def record(self) -> Record:
        """How it was trained."""
        return self.model.record

    @property
    def title(self) -> str:
        """Its architecture and version."""
        return f"{self.record.architecture} {self.model.version}"


class ClassChange(NamedTuple):
    """How two models differ on the images of one class.

    Attributes:
        name: of the class.
        images: their number.
        first: accuracy of the first model on them; `second` likewise.
        gained: the number that only the second classifies correctly.
        lost: the number that only the first classifies correctly.
    """

    name: str
    images: int
    first: float
    second: float
    gained: int
    lost: int


class Disagreement(NamedTuple):
    """The images that exactly one of two models classifies correctly.

    Attributes:
        first: letter of the model that is compared with; `second` that of the other one.
        classes: one per class, in the order of the labels.
        gained: places in the split of the images that only the second classifies correctly, the clearest first: by the
            difference of the probabilities of the true class.
        lost: likewise, of those that only the first classifies correctly.
        predicted: labels that first and second predict, integers (2, n), for the whole split.
        confidence: their probabilities, floats (2, n).
    """

    first: str
    second: str
    classes: list[ClassChange]
    gained: np.ndarray
    lost: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray


class Truth(NamedTuple):
    """The true classes of the images on which models are compared.

    Attributes:
        labels: of the splits `val` and `test`, integers (n,).
        images: of the same splits, uint8 (n, 32, 32, 3); empty where they are not at hand.
    """

    labels: dict[str, np.ndarray]
    images: dict[str, np.ndarray]


class Comparison(NamedTuple):
    """Models side by side, of which the first is the one that the others are compared with.

    Attributes:
        sides: the models.
        differences: part (`recipe`, `network`, `data`, `code`, `machine`) -> name -> the value of each side, for all
            values that differ; a part in which nothing differs is empty.
        pairs: split (`val`, `test`) -> the first model compared with each other one, with letters for names; without
            a split on which a model was trained, or for which predictions or labels are missing.
        split: the one that `disagreements` is about: `val`, unless a model was trained on it.
        disagreements: one per other model; none without predictions or labels.
        truth: labels and images of both splits, as far as they are at hand.
        notes: what a reader must know, in sentences.
    """

    sides: list[Side]
    differences: dict[str, dict[str, list[str]]]
    pairs: dict[str, list[Pair]]
    split: str
    disagreements: list[Disagreement]
    truth: Truth
    notes: list[str]


def compare_versions(catalog: DataCatalog, names: list[str]) -> Comparison:
    """Compare trained models, which need not have been evaluated.

    Args:
        catalog: whose models, predictions and images are used.
        names: of models, as NAME:VERSION, as NAME for its newest version, or as a row of the leaderboard.

    Raises:
        InputError: there is no such model, there are too few or too many, or they are of different data.
    """
    models, every = catalog.load("models"), catalog.load("all_evaluations")
    chosen = _choose(models, names, every[-1].rows if every else [])
    _check_data(chosen)
    store, truth = catalog.load("predictions"), _find_truth(catalog, chosen[0].record)
    letters = string.ascii_uppercase[: len(chosen)]
    found = {letter: store.find(model) for letter, model in zip(letters, chosen, strict=True)}
    known = {letter: predictions for letter, predictions in found.items() if predictions is not None}
    complete = bool(truth.labels) and len(known) == len(chosen)
    evaluated = latest_evaluations(every)
    sides = [
        _side(letter, model, evaluated.get((model.record.architecture, model.version)), known.get(letter), truth)
        for letter, model in zip(letters, chosen, strict=True)
    ]
    on_val = not any(side.record.trained_on_val for side in sides)
    split = "val" if on_val else "test"
    splits = [*(["val"] if on_val else []), "test"] if complete else []
    return Comparison(
        sides=sides,
        differences=_differences([side.record for side in sides]),
        pairs={name: _pairs(known, name, truth.labels[name]) for name in splits},
        split=split,
        disagreements=[
            _disagreement(sides[0], side, known, split, truth.labels[split]) for side in sides[1:] if complete
        ],
        truth=truth,
        notes=[*_better_versions(models, names, chosen), *_caveats(sides), *_remarks(sides, known, truth)],
    )


def _choose(models: Models, names: list[str], rows: list[Row]) -> list[TrainedModel]:
    """Load the models of these names, which may be those of rows."""
    if (separate := " ".join(names).replace(",", " ").split()) != names:
        raise InputError(f"Separate models by spaces: kedro compare {' '.join(separate)}")
    if names and len(names) < 2:
        name = names[0].partition(":")[0]
        known = models.versions(name)
        others = [f"{name}:{version}" for version in known[-2:]] if len(known) > 1 else [name, "OTHER_NAME"]
        raise InputError(f"There is only one model to compare. Name two or more: kedro compare {' '.join(others)}")
    if not names:
        raise InputError("There is no model to compare. Name two or more: kedro compare NAME:VERSION NAME:VERSION")
    if len(names) > MOST:
        raise InputError(
            f"{len(names)} models are too many to compare side by side: name up to {MOST}. The report compares all of "
            f"them: kedro run --pipelines=evaluation,reporting {SAME_DATA}"
        )
    chosen = [_find(models, name, rows) for name in names]
    counts = Counter((model.record.architecture, model.version) for model in chosen)
    (name, version), count = counts.most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{name}, version {version}, is given twice, so there is nothing to compare. It has the versions: "
            f"{', '.join(models.versions(name))}."
        )
    return chosen


def _find(models: Models, name: str, rows: list[Row]) -> TrainedModel:
    """Load the model of this name; of a row, that of the lowest seed, which represents it on the leaderboard."""
    architecture, _, version = name.partition(":")
    if "-" in architecture and not version:
        known = {row.name: row for row in rows}
        if name not in known:
            advice = did_you_mean(name, known) if known else f"make one: kedro run --pipelines=evaluation {SAME_DATA}"
            raise InputError(f"There is no row {name} in the latest evaluation; {advice}")
        return models.load(known[name].architecture, known[name].first.version)
    check_architecture(architecture, models)
    return models.load(architecture, version or None)


def _better_versions(models: Models, names: list[str], chosen: list[TrainedModel]) -> list[str]:
    """Say of each model that was named without its version whether another one is better on validation images."""
    notes = []
    for name, model in zip(names, chosen, strict=True):
        if name != model.record.architecture or model.record.val_accuracy is None:
            continue
        others = [models.load(name, version) for version in models.versions(name) if version != model.version]
        comparable = [each for each in others if each.record.data_version == model.record.data_version]
        best = max(comparable, key=lambda each: each.record.val_accuracy or 0.0, default=model)
        if (best.record.val_accuracy or 0.0) > model.record.val_accuracy:
            notes.append(
                f"{name} is its newest version here. Better by validation accuracy ({best.record.val_accuracy:.2%}): "
                f"{name}:{best.version}"
            )
    return notes


def check_architecture(name: str, models: Models) -> None:
    """Refuse the name of an architecture that neither exists nor has been trained."""
    known = {*ARCHITECTURES, *models.names()}
    if name not in known:
        raise InputError(f"There is no architecture {name}; {did_you_mean(name, known)}")


def _check_data(models: list[TrainedModel]) -> None:
    """Refuse models that were trained on different data, or with other class names."""
    first = models[0]
    for other in models[1:]:
        one, two = (f"{each.record.architecture} {each.version}" for each in (first, other))
        if first.record.data_version != other.record.data_version:
            raise InputError(
                f"{one} and {two} cannot be compared, because they are of different data (data versions "
                f"{first.record.data_version[:12]} and {other.record.data_version[:12]}). Train both on the same data."
            )
        if first.record.class_names != other.record.class_names:
            raise InputError(
                f"{one} and {two} cannot be compared, because their class names differ. Train both with the same ones."
            )


def _find_truth(catalog: DataCatalog, record: Record) -> Truth:
    """Find the images of a model, or at least their labels among what is published; empty where neither is there."""
    names = {"val": "val", "test": "test_examples"}
    if all(catalog.exists(name) for name in names.values()):
        splits = {split: catalog.load(name) for split, name in names.items()}
        if all(each.digest == record.digests.get(split) for split, each in splits.items()):
            return Truth(
                {split: each.labels for split, each in splits.items()},
                {split: each.images for split, each in splits.items()},
            )
    published: Any = catalog.get("published")
    labels = published.labels()
    if labels and (labels.data_version, labels.class_names) == (record.data_version, record.class_names):
        return Truth({"val": labels.val, "test": labels.test}, {})
    return Truth({}, {})


def _side(
    letter: str, model: TrainedModel, evaluation: Evaluation | None, predictions: Predictions | None, truth: Truth
) -> Side:
    """Return one side, with accuracies from its predictions; without them, those of its record and evaluation."""
    record = model.record
    if evaluation and evaluation.record != record:
        evaluation = None
    costs = evaluation.costs if evaluation else None
    if predictions and truth.labels:
        val, test = (_accuracy(truth.labels[split], getattr(predictions, split)) for split in ("val", "test"))
        return Side(letter, model, None if record.trained_on_val else val, test, costs)
    recorded = None if record.val_accuracy is None else Accuracy(record.val_accuracy, None)
    if not evaluation:
        return Side(letter, model, recorded, None, costs)
    scores = evaluation.metrics
    interval = metrics.Interval(scores.accuracy_low, scores.accuracy_high)
    return Side(letter, model, recorded, Accuracy(scores.accuracy, interval), costs)


def _accuracy(labels: np.ndarray, probabilities: np.ndarray) -> Accuracy:
    value = metrics.accuracy(labels, probabilities)
    return Accuracy(value, metrics.wilson_interval(value, len(labels)))


def _differences(records: list[Record]) -> dict[str, dict[str, list[str]]]:
    """Return what differs between trainings, part by part, without the values of options that one does not use."""
    parts = [_facts(record) for record in records]
    skipped = [_unused(record) for record in records]
    found: dict[str, dict[str, list[str]]] = {}
    for part in parts[0]:
        facts = [each[part] for each in parts]
        found[part] = {
            name: ["-" if name in skip else each.get(name, "-") for each, skip in zip(facts, skipped, strict=True)]
            for name in _differing(facts)
        }
    return found


def _facts(record: Record) -> dict[str, dict[str, str]]:
    """Return what is known of a training, apart from its result, as text."""
    return {
        "recipe": {**_options(record), "seed": str(record.seed)},
        "network": {
            "architecture": record.architecture,
            "fingerprint": record.fingerprint,
            "parameters": f"{record.parameters:,}",
            "computes at": f"{record.image_size} pixels",
            "initial weights": record.initial_weights,
        },
        "data": {
            "training images": f"{record.training_examples:,}",
            "their digest": record.training_digest[:12],
        },
        "code": {
            **{name: version or "unknown" for name, version in record.versions.items()},
            "sources": record.sources[:12],
            "engine": str(record.engine_version),
        },
        "machine": {
            "hardware": record.hardware,
            "devices": str(record.devices),
            "computed in": record.compute_dtype,
            "oneDNN": "on" if record.onednn else "off",
            "XLA": "on" if record.xla else "off",
        },
    }


def _pairs(predictions: dict[str, Predictions], split: str, labels: np.ndarray) -> list[Pair]:
    correct = {letter: getattr(each, split).argmax(axis=1) == labels for letter, each in predictions.items()}
    first, *others = correct
    return compare_pairs(correct, [(first, other) for other in others])


def _disagreement(
    first: Side, second: Side, predictions: dict[str, Predictions], split: str, labels: np.ndarray
) -> Disagreement:
    both = np.stack([getattr(predictions[side.letter], split) for side in (first, second)])
    predicted, confidence = both.argmax(axis=2), both.max(axis=2)
    correct = predicted == labels
    of_truth = both[:, np.arange(len(labels)), labels]
    clearest = np.argsort(-abs(of_truth[1] - of_truth[0]), kind="stable")
    gained, lost = correct[1] & ~correct[0], correct[0] & ~correct[1]
    classes = []
    for label, name in enumerate(first.record.class_names):
        here = labels == label
        first_share, second_share = (float(each[here].mean()) if here.any() else 0.0 for each in correct)
        only = int(gained[here].sum()), int(lost[here].sum())
        classes.append(ClassChange(name, int(here.sum()), first_share, second_share, *only))
    return Disagreement(
        first.letter,
        second.letter,
        classes,
        clearest[gained[clearest]],
        clearest[lost[clearest]],
        predicted,
        confidence,
    )


def _caveats(sides: list[Side]) -> list[str]:
    """Say what a difference between these trainings shows, and what it does not."""
    trainings = Counter(side.record.group for side in sides).values()
    if len(trainings) == 1:
        return [
            "All are trainings of one recipe and network: what differs in their results is what the seed, code and "
            "machine change."
        ]
    notes = []
    if min(trainings) == 1:
        which = "Each recipe is" if max(trainings) == 1 else "Some recipes are"
        notes.append(f"{which} represented by one training.")
    notes.append(
        "A difference, even if significant, is one between these trainings; whether it is one between recipes takes "
        "several seeds (--params=NAME.seed=1), which the report averages."
    )
    return [" ".join(notes)]


def _remarks(sides: list[Side], known: Mapping[str, Predictions], truth: Truth) -> list[str]:
    """Say how costs were measured, what could not be compared, and what to run."""
    notes = []
    if machines := dict.fromkeys(side.costs.measured_on for side in sides if side.costs):
        names = "; ".join(map(machine_name, machines))
        notes.append(
            f"Latency: the median of repeated predictions of one image with Keras, on {names}. It also depends on what "
            "else the machine did during the evaluation."
        )
    if trained := [side.letter for side in sides if side.record.trained_on_val]:
        notes.append(
            f"Trained on the validation images, too: {', '.join(trained)}. Only the test images can compare "
            f"{'it' if len(trained) == 1 else 'them'}."
        )
    if missing := [side for side in sides if side.letter not in known]:
        letters = ", ".join(side.letter for side in missing)
        note = f"The predictions of {letters} are not saved, so there is no comparison image by image."
        if any(side.record.architecture in ARCHITECTURES for side in missing):  # evaluation leaves others out
            note += (
                f" To make them: kedro run --pipelines=evaluation {SAME_DATA}; for older versions of the same recipe "
                "and seed, add --params=evaluate_versions=all"
            )
        notes.append(note)
    if not truth.labels:
        notes.append(
            "The images of these models are not at hand, so there is no comparison image by image. To make them: "
            f"kedro run --pipelines=ingestion,preprocessing {SAME_IMAGES}"
        )
    elif not truth.images:
        notes.append(
            "The images are not at hand, so they are given by their place in the split alone. To see them: kedro run "
            f"--pipelines=ingestion,preprocessing {SAME_IMAGES}"
        )
    return notes


def verdicts(comparison: Comparison) -> list[str]:
    """Say in a sentence each which of two models is better on a split, and how certain that is."""
    return [
        f"{SPLITS[split].capitalize()}: {_verdict(pair, len(comparison.truth.labels[split]), len(pairs))}"
        for split, pairs in comparison.pairs.items()
        for pair in pairs
    ]


def _verdict(pair: Pair, images: int, pairs: int) -> str:
    low, high = sorted((-pair.low, -pair.high))
    order = f"{100 * abs(pair.difference):.2f} points {'ahead of' if pair.difference < 0 else 'behind'} {pair.first}"
    if not pair.difference:
        order = f"as accurate as {pair.first}"
    corrected = f", {_p(pair.p_holm)} with Holm's correction" if pairs > 1 else ""
    return (
        f"{pair.second} is {order} (95% CI of the difference {_points(low)} to {_points(high)}), which is "
        f"{'significant' if pair.significant else 'not significant'}: of {images:,} images, only {pair.second} is "
        f"right on {pair.second_only:,}, and only {pair.first} on {pair.first_only:,} (McNemar's exact test, "
        f"{_p(pair.p_value)}{corrected})."
    )


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"  # without a minus before zero


def _p(value: float) -> str:
    if value < 1e-99:  # which also stands for the 0 that is too small for a float
        return "p < 1e-99"
    return f"p = {value:.2g}" if value >= 1e-4 else f"p = {value:.0e}"
