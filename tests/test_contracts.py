"""What is stored as JSON is read back as it was, and anything else is refused with one sentence."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from cifar10.contracts import (
    Artifact,
    Confirmed,
    ConfirmedRecipe,
    Evaluations,
    Examples,
    PublishedModel,
    Record,
    Statistics,
    Trials,
    verify,
)
from cifar10.errors import InputError
from tests.helpers import (
    COSTS,
    make_evaluation,
    make_evaluations,
    make_pair,
    make_record,
    make_row,
    make_trial,
    make_trials,
)

EPOCH = {
    "phase": "training", "epoch": 1, "accuracy": 0.1, "loss": 2.0, "val_accuracy": None, "val_loss": None,
    "learning_rate": 1e-3, "seconds": 1.5, "joules": None,
}  # fmt: skip
STATISTICS = Statistics(
    mean=(1.1, 2.0, 3.0),
    std=(4.0, 5.0, 6.0),
    patch_covariance=((7.0, 8.0), (8.0, 9.0)),
    digests={"train": "abc"},
    data_version="def",
)
ARTIFACTS = {
    "Record": make_record(val_accuracy=0.123456789012345, history=[EPOCH, {**EPOCH, "val_accuracy": 0.5}]),
    "Record without validation": make_record(val_accuracy=None, recipe={"train_on": "all", "alpha": 1.0}),
    "Statistics": STATISTICS,
    "Trials": make_trials(make_trial(), make_trial(1, "failed", None, message="not finite", options={"flip": None})),
    "Confirmed": Confirmed(
        architecture="vgg16",
        data_version="a data version",
        trials="abc",
        seeds=[1, 2],
        shipped=ConfirmedRecipe(
            trial=None, options={}, val_accuracies=[0.9, None], mean=None, low=None, high=None, seconds=1.5
        ),
        candidates=[],
    ),
    "Evaluations": make_evaluations(
        make_row(make_evaluation("vgg16"), older=(make_evaluation("vgg16", version="2026-01-02"),)),
        make_evaluation("vgg19", temperature=None, calibrated_reliability=None, roc_auc=None),
        pairs=[make_pair("vgg16", "vgg19")],
    ),
    "PublishedModel": PublishedModel(
        version="2026-01-01",
        identity="an identity",
        megabytes=2.5,
        record=make_record(history=[EPOCH]),
        costs=COSTS,
        train_accuracy=0.95,
        train_loss=0.123456789012345,
        remark="a remark",
        robustness=[{"corruption": "contrast", "severity": 1, "accuracy": 0.5, "clean_accuracy": 0.9, "images": 40}],
    ),
}
by_artifact = pytest.mark.parametrize("artifact", ARTIFACTS.values(), ids=ARTIFACTS)
COMMANDS = {
    Record: "kedro run --pipelines=train_NAME",
    Statistics: "kedro run --pipelines=preprocessing",
    Evaluations: "kedro run --pipelines=evaluation",
    PublishedModel: "kedro run --pipelines=publish",
    Trials: "kedro run --pipelines=tune_NAME",
    Confirmed: "kedro run --pipelines=tune_NAME",
}


def test_table_has_every_artifact():
    declared = {cls for cls in Artifact.__subclasses__() if cls.__module__ == "cifar10.contracts"}
    assert set(COMMANDS) == declared == {type(artifact) for artifact in ARTIFACTS.values()}


@by_artifact
def test_artifacts_are_read_as_they_were_written(artifact):
    text = artifact.to_json()
    assert type(artifact).from_json(text, "a file") == artifact
    assert next(iter(json.loads(text).items())) == ("schema", artifact.SCHEMA)
    assert type(artifact).from_json(text, "a file").to_json() == text


def edited(**changes):
    """Return a function that changes fields of an artifact in JSON; `...` removes one."""

    def edit(text):
        values = {**json.loads(text), **changes}
        return json.dumps({name: value for name, value in values.items() if value is not ...})

    return edit


def field(text):
    """Return the name of a field of text that the artifact has."""
    return next(name for name in ("data_version", "identity") if name in json.loads(text))


DAMAGES = {
    "schema 0": (edited(schema=0), r"was written by another version of this project \(schema 0, .* reads [\d to]+\)"),
    "schema 99": (
        edited(schema=99),
        r"was written by another version of this project \(schema 99, .* reads [\d to]+\)",
    ),
    "schema missing": (edited(schema=...), r"was written by another version of this project \(schema None"),
    "schema as text": (edited(schema="2"), r"was written by another version of this project \(schema 2"),
    "truncated": (lambda text: text[:-10], "is not valid JSON"),
    "empty": (lambda text: "", "is not valid JSON"),
    "a number": (lambda text: "1", "is not valid JSON"),
    "field missing": (lambda text: edited(**{field(text): ...})(text), r"is not valid: \w+: Field required"),
    "extra field": (edited(answers=1), "is not valid: answers: Extra inputs are not permitted"),
    "wrong type": (
        lambda text: edited(**{field(text): [1]})(text),
        r"is not valid: \w+: Input should be a valid string",
    ),
}


@by_artifact
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_anything_else_is_refused_with_file_and_command(artifact, damage, message):
    with pytest.raises(InputError, match=rf"^folder/file\.json {message}") as error:
        type(artifact).from_json(damage(artifact.to_json()), "folder/file.json")
    text = str(error.value)
    assert "\n" not in text
    assert COMMANDS[type(artifact)] in text


@pytest.mark.parametrize(
    ("place", "values", "problem"),
    [
        ("recipe", {"train_on": "train", "examples": None}, "seed is missing"),
        ("recipe", {"seed": "0", "train_on": "train", "examples": None}, "seed is '0'"),
        ("recipe", {"seed": 0, "examples": None}, "train_on is missing"),
        ("recipe", {"seed": 0, "train_on": "train"}, "examples is missing"),
        ("versions", {"keras": "3"}, "commit is missing"),
    ],
)
def test_a_record_without_what_is_read_of_its_dictionaries_is_refused(place, values, problem):
    record = make_record()
    with pytest.raises(InputError, match=rf"^record\.json is not valid: {place}: {problem}\. Move the folder"):
        Record.from_json(edited(**{place: values})(record.to_json()), "record.json")
    evaluations = json.loads(make_evaluations(make_evaluation(record=record)).to_json())
    evaluations["rows"][0]["seeds"][0]["record"][place] = values
    with pytest.raises(InputError, match=rf"is not valid: rows\.0\.seeds\.0\.record\.{place}: {problem}\. Create it"):
        Evaluations.from_json(json.dumps(evaluations), "evaluations.json")


def test_list_is_refused_like_other_damage():
    test_anything_else_is_refused_with_file_and_command(STATISTICS, lambda text: "[]", "is not valid JSON")


def test_older_schemas_are_read_with_defaults():
    class Newer(Artifact):
        SCHEMA = 2
        MADE_BY = "kedro run"
        old: int
        new: int = 7

    assert Newer.from_json('{"schema": 1, "old": 3}', "a file") == Newer(old=3)
    with pytest.raises(InputError, match=r"\(schema 3, but this version reads 1 to 2\)"):
        Newer.from_json('{"schema": 3, "old": 3}', "a file")


@by_artifact
def test_artifacts_cannot_be_changed(artifact):
    with pytest.raises(ValidationError, match="Instance is frozen"):
        artifact.data_version = "another"


def test_split_that_has_changed_is_refused_by_name():
    train, val = (Examples(np.full((2, 32, 32, 3), value, np.uint8), np.zeros(2, np.uint8)) for value in (1, 2))
    digests = {"train": train.digest, "val": val.digest}
    verify(digests, train=train, val=val)
    with pytest.raises(InputError, match=r"The test images have changed .*kedro run --pipelines=preprocessing"):
        verify(digests, test=train)
    with pytest.raises(InputError, match=r"The val images have changed .*kedro run --pipelines=preprocessing"):
        verify(digests, train=train, val=train)
