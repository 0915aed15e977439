"""Which model `predict` and `export` take."""

import logging
import re
from dataclasses import replace

import pytest

from cifar10.contracts import TrainedModel
from cifar10.errors import InputError
from cifar10.pipelines.reporting.nodes import rank
from cifar10.pipelines.selection import choose, current_rows
from tests.helpers import CLASS_NAMES, make_evaluation, make_evaluations, make_record, make_row


class Models:
    """Those of the catalog, in memory."""

    def __init__(self, *models):
        self.models = list(models)

    def names(self):
        return sorted({each.record.architecture for each in self.models})

    def versions(self, name):
        return sorted(each.version for each in self.models if each.record.architecture == name)

    def load(self, name, version=None):
        newest = self.versions(name)[-1]
        return next(each for each in self.models if each.version == (version or newest))


def trained(architecture, version, seed=0, **changes):
    record = make_record(architecture=architecture, recipe={"seed": seed}, **changes)
    return TrainedModel(record, lambda: None, version)


def evaluated(*models, name=None, **metrics):
    """Return the row of these models."""
    evaluations = [
        make_evaluation(version=model.version, record=model.record, **metrics).model_copy(
            update={"identity": model.identity}
        )
        for model in models
    ]
    return make_row(*evaluations, name=name)


VGG16 = [trained("vgg16", "2026-01-02", seed=0), trained("vgg16", "2026-01-01", seed=1)]
SHORT = trained("vgg16", "2026-01-05", recipe_hash="9876")
EVERYTHING = trained("simple_cnn", "2026-01-03")
VGG19 = trained("vgg19", "2026-01-04")
EVALUATIONS = make_evaluations(
    evaluated(VGG19), evaluated(*VGG16, name="vgg16-0123"), evaluated(SHORT, name="vgg16-9876"),
    evaluated(EVERYTHING, val_accuracy=None, temperature=None),
)  # fmt: skip
LEADERBOARD = rank(EVALUATIONS, CLASS_NAMES)
ALL = [VGG19, *VGG16, SHORT, EVERYTHING]


def chosen(architecture, leaderboard=LEADERBOARD, statistics=None, class_names=CLASS_NAMES, models=ALL):
    return choose(Models(*models), leaderboard, statistics, class_names, architecture, "export.architecture")


@pytest.mark.parametrize(
    ("architecture", "version"),
    [
        ("winner", "2026-01-04"),
        ("vgg19", "2026-01-04"),
        ("vgg16", "2026-01-02"),
        ("simple_cnn", "2026-01-03"),
        ("vgg16:2026-01-01", "2026-01-01"),
        ("vgg16:2026-01-05", "2026-01-05"),
        ("vgg16-0123", "2026-01-02"),
        ("vgg16-9876", "2026-01-05"),
    ],
)
def test_the_lowest_seed_of_the_best_row_is_chosen_or_the_version_that_is_named(statistics, architecture, version):
    """Not the newest version, which may be of a short training; that one is taken where there is no rank."""
    for current in (None, statistics):
        model = chosen(architecture, statistics=current)
        assert model.version == version
        assert re.split("[:-]", architecture)[0] in ("winner", model.record.architecture)


def test_a_row_of_other_data_is_not_chosen(statistics, caplog):
    other = statistics.model_copy(update={"data_version": "another"})
    with pytest.raises(InputError, match=r"^The row vgg16-0123 is of other data than the current ones."):
        chosen("vgg16-0123", statistics=other)
    with caplog.at_level(logging.INFO):
        chosen("vgg16-0123", models=[*ALL, trained("vgg16", "2026-01-06", seed=3)])
    assert caplog.messages == ["Using vgg16, version 2026-01-02: as the leaderboard has it"]


@pytest.mark.parametrize(
    ("leaderboard", "message"),
    [
        (LEADERBOARD, "There is no row vgg16-01 in the leaderboard; did you mean vgg16-0123?"),
        (
            None,
            "There is no leaderboard yet, and so no row vgg16-01. Create one: kedro run --pipelines=eval",
        ),
    ],
)
def test_a_row_that_is_not_there_is_not_chosen(leaderboard, message):
    with pytest.raises(InputError) as caught:
        chosen("vgg16-01", leaderboard=leaderboard)
    assert str(caught.value).startswith(message)


def test_an_architecture_without_a_rank_on_the_current_data_is_taken_in_its_newest_version(statistics, caplog):
    other = statistics.model_copy(update={"data_version": "another"})
    with caplog.at_level(logging.INFO):
        assert chosen("vgg16", statistics=other) == chosen("vgg16", leaderboard=None) == SHORT
        assert chosen("vgg16") == VGG16[0]
    assert caplog.messages == [
        *["Using vgg16, version 2026-01-05: the newest version, because none has a rank"] * 2,
        "Using vgg16, version 2026-01-02: rank 2 of the leaderboard",
    ]


def test_what_was_trained_after_the_leaderboard_is_named(caplog):
    """Not the model that was trained on all images: it is on the leaderboard, without a rank."""
    new = trained("simple_cnn", "2026-01-06", seed=3)
    caplog.set_level("INFO")
    assert chosen("winner") is VGG19
    assert "Not on the leaderboard" not in caplog.text
    assert chosen("winner", models=[*ALL, new]) is VGG19
    assert "Not on the leaderboard yet: simple_cnn:2026-01-06 (kedro run" in caplog.text
    caplog.clear()
    chosen("vgg19", models=[*ALL, new])
    chosen("vgg16:2026-01-01", models=[*ALL, new])
    assert "Not on the leaderboard" not in caplog.text


@pytest.mark.parametrize("changes", [{"data_version": "another"}, {"class_names": ["cat", *CLASS_NAMES[1:]]}])
def test_what_evaluation_would_leave_out_is_not_named(statistics, caplog, changes):
    """A later training on another split, or with other class names, whether it is the newest one or not."""
    caplog.set_level("INFO")
    later = [*ALL, trained("simple_cnn", "2026-01-07", **changes)]
    for current in (statistics, None):
        chosen("winner", statistics=current, models=later)
    assert "Not on the leaderboard" not in caplog.text
    chosen("winner", models=[*later, trained("simple_cnn", "2026-01-06")])
    assert "Not on the leaderboard yet: simple_cnn:2026-01-06 (kedro run" in caplog.text


def test_a_training_that_ended_after_the_evaluation_is_named_although_it_began_before_others(caplog):
    """As on many machines: a version is the time when its run began."""
    caplog.set_level("INFO")
    chosen("winner", models=[*ALL, trained("simple_cnn", "2025-12-30", seed=4), trained("vgg19", "2025-12-31")])
    assert "Not on the leaderboard yet: simple_cnn:2025-12-30 (kedro run" in caplog.text


def test_any_model_is_newer_than_an_empty_leaderboard(caplog):
    caplog.set_level("INFO")
    assert chosen("vgg19", leaderboard=LEADERBOARD.head(0)) is VGG19
    assert "Not on the leaderboard yet: vgg19:2026-01-04 (kedro run" in caplog.text


def test_without_a_current_leaderboard_there_is_no_winner(statistics):
    other = statistics.model_copy(update={"data_version": "another"})
    advice = r"no winner. Create one \(kedro run --pipelines=evaluation,reporting.*--params=export.architecture=NAME"
    with pytest.raises(InputError, match=f"^The leaderboard is of other data than the current ones, .*{advice}"):
        chosen("winner", statistics=other)
    unranked = rank(make_evaluations(evaluated(EVERYTHING, val_accuracy=None)), CLASS_NAMES)
    for nothing, problem in ((None, "There is no leaderboard yet"), (unranked, "The leaderboard ranks no model")):
        with pytest.raises(InputError, match=f"^{problem}, .*{advice}"):
            chosen("winner", leaderboard=nothing)


@pytest.mark.parametrize("architecture", ["winner", "vgg19"])
def test_a_model_that_is_not_there_does_not_win(tmp_path, architecture):
    """Whether its network has been deleted, or is another one now."""
    with pytest.raises(InputError, match=r"has vgg19 in version 2026-01-04, which has been deleted. .*reporting"):
        chosen(architecture, models=[*VGG16, trained("vgg19", "2026-01-01")])
    (tmp_path / "vgg19.keras").write_bytes(b"others")
    other = replace(VGG19, path=tmp_path / "vgg19.keras")
    with pytest.raises(
        InputError, match=r"has vgg19 in version 2026-01-04, which has been replaced or damaged. .*reporting"
    ):
        chosen(architecture, models=[other])


@pytest.mark.parametrize("architecture", ["winner", "vgg16", "simple_cnn"])
def test_a_model_with_other_class_names_is_refused(architecture):
    with pytest.raises(
        InputError, match=r"version .*, has other class names than class_names: class 0 is disc, not cat"
    ):
        chosen(architecture, class_names=["cat", *CLASS_NAMES[1:]])
    with pytest.raises(InputError, match=r"version .*, has 10 classes, but class_names has 1"):
        chosen(architecture, class_names=["cat"])


def test_models_that_a_run_does_not_train_are_taken_from_their_folder(statistics):
    """As `kedro run` alone, which trains two networks and ranks all."""
    current = statistics.model_copy(update={"data_version": VGG19.record.data_version})
    rows = current_rows([VGG19], ["vgg19"], Models(*ALL), current, CLASS_NAMES, "evaluation")
    assert {(row.name, len(row.seeds)) for row in rows} >= {("vgg19", 1), ("simple_cnn", 1)}
    assert sum(len(row.seeds) for row in rows) == len(ALL)
