"""From trials to a recipe that validation confirms."""

import re
from functools import partial

import numpy as np
import pytest
import yaml
from kedro.framework.project import configure_project

from cifar10 import figures
from cifar10.architectures import ARCHITECTURES
from cifar10.contracts import Confirmed, ConfirmedRecipe
from cifar10.errors import InputError
from cifar10.pipeline_registry import register_pipelines
from cifar10.pipelines.tuning import nodes
from cifar10.training.recipe import RECIPES
from cifar10.tuning.study import Study
from cifar10.tuning.worker import work
from tests.helpers import CLASS_NAMES, make_trial, make_trials

LOOKS_AT_FIGURES = True

SHIPPED = {"learning_rate": 0.001, "schedule": "cosine"}
BETTER = {"learning_rate": 0.00123456789, "schedule": "triangular", "warmup": 0.125, "resolutions": "16 32"}


@pytest.fixture
def recipe(blocks):
    return {**blocks["_recipe"], "schedule": "cosine", "epochs": 3}


@pytest.fixture
def trials(recipe):
    """The recipe, two better ones, the best of which was tried twice, a worse one, and others without a result."""
    tried = [
        (0.80, SHIPPED, "complete"), (0.82, {**SHIPPED, "shift": 3}, "complete"), (0.84, BETTER, "complete"),
        (0.84, BETTER, "complete"), (0.70, {**SHIPPED, "shift": 0}, "complete"),
        (0.90, {**SHIPPED, "shift": 4}, "pruned"), (None, {**SHIPPED, "shift": 1}, "failed"),
    ]  # fmt: skip
    described = RECIPES["simple_cnn"].model_validate(recipe).described()
    return make_trials(
        *(make_trial(number, state, value, options) for number, (value, options, state) in enumerate(tried)),
        recipe=described,
        fidelity={"examples": 1000},
    )


def in_this_process(monkeypatch):
    """Train in this process, in which the training is replaced."""

    def run(plan, data):
        study = Study(plan)
        work(study, data, lambda *message: None, 1000)
        return study

    monkeypatch.setattr(nodes, "run", run)


@pytest.fixture
def confirm(monkeypatch, fake_fit, fast_disk, data, recipe, tuning, trials, tmp_path):
    """Confirm `trials`, with changed parameters."""
    pytest.importorskip("optuna")
    in_this_process(monkeypatch)
    statistics = data.statistics

    def make(trials=trials, recipe=recipe, **changes):
        trials = trials.model_copy(update={"data_version": statistics.data_version})
        node = nodes.confirmer("simple_cnn")
        return node(
            trials, data.train, data.val, statistics, recipe, tuning(**changes), CLASS_NAMES, tmp_path / "study"
        )

    return make


def test_no_tuning_reads_the_test_images():
    configure_project("cifar10")
    pipelines = register_pipelines()
    for name in ARCHITECTURES:
        pipeline = pipelines[f"tune_{name}"]
        assert pipeline.inputs() == {
            "train", "val", "statistics", "params:tuning", "params:class_names", f"params:{name}", f"{name}.study",
        }  # fmt: skip
        assert {node.namespace for node in pipeline.nodes} == {f"tuning.{name}"}
        outputs = {"trials", "confirmed", "tuned", "tuning_history", "tuning_importance", "tuning_slices"}
        assert pipeline.all_outputs() == {f"{name}.{output}" for output in outputs}


def test_search_states_what_was_tried_at_what_fidelity(
    monkeypatch, fake_fit, fast_disk, data, recipe, tuning, tmp_path
):  # fmt: skip
    pytest.importorskip("optuna")
    in_this_process(monkeypatch)
    search = nodes.searcher("simple_cnn")
    changes = {"trials": 3, "fidelity": {"epochs": 2, "examples": 200}, "space": {"shift": {"low": 0, "high": 4}}}
    inputs = [*data[:3], recipe, tuning(**changes), CLASS_NAMES, tmp_path / "study"]
    found = search(*inputs)
    assert {(each.epochs, each.examples) for each in fake_fit.recipes} == {(2, 200)}
    assert found.summary == "3 trials (3 complete), 2 of 3 epochs on 200 images"
    assert found.space == {"shift": {"low": 0, "high": 4}}
    various = found.model_copy(update={"space": {"epochs": {"of": [1, 2]}, "examples": {"of": [100, 200]}}})
    assert various.summary == "3 trials (3 complete), various epochs on various numbers of images"
    assert found.recipe == RECIPES["simple_cnn"].model_validate(recipe).described()

    changes["fidelity"]["examples"] = 100
    with pytest.raises(InputError, match=r"of another fidelity \(examples 200 -> 100\)"):
        search(*inputs[:4], tuning(**changes), *inputs[5:])
    changes["fidelity"]["examples"] = 200
    monkeypatch.setattr("cifar10.training.identity.ENGINE_VERSION", -1)
    with pytest.raises(InputError, match=r"of another engine version"):
        search(*inputs[:4], tuning(**changes), *inputs[5:])
    changes["fidelity"]["examples"] = 1000
    with pytest.raises(InputError, match=r"simple_cnn.examples is 1,000, but there are only 300 training images"):
        search(*inputs[:4], tuning(**changes), *inputs[5:])


def test_best_trials_and_the_recipe_are_trained_at_full_length_with_new_seeds(confirm, fake_fit):
    fake_fit.curve = lambda recipe, epoch: (
        0.85 + recipe.seed / 50 if recipe.schedule == "triangular" else 0.8 + recipe.seed / 100
    )
    confirmed = confirm(confirm_top=2)
    assert confirmed.seeds == [1, 2, 3]
    assert {(each.epochs, each.examples) for each in fake_fit.recipes} == {(3, None)}
    assert len(fake_fit.recipes) == 9
    best, second = confirmed.candidates
    assert (best.trial, second.trial) == (2, 1)
    assert best.options == BETTER
    np.testing.assert_allclose(best.val_accuracies, [0.87, 0.89, 0.91])
    np.testing.assert_allclose(confirmed.shipped.val_accuracies, [0.81, 0.82, 0.83])
    assert best.low < best.mean < best.high
    assert (best.difference, best.better) == (pytest.approx(0.07), True)
    assert (second.difference, second.better) == (pytest.approx(0.0), None)  # the same for all seeds

    confirm(confirm_top=1)  # needs no training that has not been run
    assert len(fake_fit.recipes) == 9


def test_only_enough_seeds_can_say_that_a_recipe_is_better(confirm, fake_fit):
    noise = {(schedule, seed): value for schedule, values in {
        "cosine": (0.80, 0.83, 0.81), "triangular": (0.81, 0.82, 0.84),
    }.items() for seed, value in enumerate(values, start=1)}  # fmt: skip
    fake_fit.curve = lambda recipe, epoch: noise[recipe.schedule, recipe.seed]
    assert confirm(confirm_seeds=2).candidates[0].better is None
    (candidate,) = confirm(confirm_seeds=3).candidates
    assert candidate.difference == pytest.approx(0.01)
    assert candidate.difference_low < 0 < candidate.difference_high
    assert candidate.better is False


def test_nothing_is_trained_if_no_trial_was_better(confirm, fake_fit, trials, recipe):
    only = make_trials(make_trial(0, options=SHIPPED), recipe=trials.recipe)
    confirmed = confirm(only)
    assert (confirmed.candidates, fake_fit.recipes) == ([], [])
    block = nodes.choose(only.model_copy(update={"data_version": confirmed.data_version}), confirmed, recipe)
    assert "No trial was better than the recipe that was tuned, so it stays as it is." in block
    assert yaml.safe_load(block) is None


def test_training_that_fails_confirms_nothing(confirm, fake_fit, trials, recipe):
    def curve(recipe, epoch):
        if (recipe.schedule, recipe.seed) == ("triangular", 2):
            raise MemoryError
        return 0.8

    fake_fit.curve = curve
    (candidate,) = (confirmed := confirm()).candidates
    assert (candidate.mean, candidate.better, candidate.message) == (None, None, "MemoryError")
    same = trials.model_copy(update={"data_version": confirmed.data_version})
    assert "Not confirmed, because a training failed: MemoryError." in nodes.choose(same, confirmed, recipe)


def test_candidates_are_sorted_by_their_means_where_the_recipe_itself_failed(confirm, fake_fit):
    def curve(recipe, epoch):
        if recipe.schedule != "triangular" and recipe.shift != 3:
            raise MemoryError
        return 0.7 if recipe.schedule == "triangular" else 0.8

    fake_fit.curve = curve
    confirmed = confirm(confirm_top=2)
    assert confirmed.shipped.mean is None
    assert [each.mean for each in confirmed.candidates] == pytest.approx([0.8, 0.7])


def test_trials_of_another_recipe_are_not_confirmed(confirm, recipe):
    with pytest.raises(InputError, match=r"simple_cnn.trials are of another recipe. Set simple_cnn to what it was"):
        confirm(recipe={**recipe, "epochs": 4})


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (
            {"difference_low": 0.01, "difference_high": 0.03, "better": True},
            r"\(95% CI \+1.00 to \+3.00\): significantly",
        ),
        (
            {"difference_low": -0.01, "difference_high": 0.05, "better": False},
            r"\(.*\): not confirmed to be better, so",
        ),
        ({"better": None}, r"points: these seeds cannot tell whether it is better\."),
    ],
)
def test_block_builds_the_confirmed_recipe_wherever_it_is_pasted(trials, recipe, blocks, values, verdict):
    made = partial(ConfirmedRecipe, low=None, high=None, seconds=1.0)
    confirmed = Confirmed(
        architecture="simple_cnn",
        data_version=trials.data_version,
        trials=trials.digest,
        seeds=[1, 2, 3],
        shipped=made(trial=None, options={}, val_accuracies=[0.8] * 3, mean=0.8),
        candidates=[made(trial=2, options=BETTER, val_accuracies=[0.82] * 3, mean=0.82, difference=0.02, **values)],
    )
    text = nodes.choose(trials, confirmed, recipe)
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert comment.startswith(
        "Tuned by 7 trials (5 complete, 1 pruned, 1 failed), up to all 3 epochs on 1,000 images: "
    )
    assert "validation 84.00% in trial 2, 80.00% with the recipe before." in comment
    assert "with seeds 1, 2, 3: validation 82.00%, 80.00% with the recipe before. Difference +2.00 points" in comment
    assert re.search(verdict, comment)

    (block,) = yaml.safe_load(text).values()
    expected = RECIPES["simple_cnn"].model_validate({**recipe, **BETTER})
    assert RECIPES["simple_cnn"].model_validate(block) == expected
    other = {**recipe, "label_smoothing": 0.3, "accumulate": 2, "resolutions": "16", "early_stopping": 7}
    assert RECIPES["simple_cnn"].model_validate({**other, **block}) == expected  # as an environment merges it with base
    with pytest.raises(InputError, match=r"simple_cnn.confirmed is of other trials"):
        nodes.choose(make_trials(*trials.trials, recipe=trials.recipe), confirmed, recipe)


@pytest.mark.parametrize("draw", [figures.tuning_history, figures.tuning_importance, figures.tuning_slices])
@pytest.mark.parametrize("few", [True, False])
def test_figures_state_the_fidelity(trials, draw, few):
    if few:
        trials = make_trials(make_trial(0, "failed", None), make_trial(1), importance={})
    figure = draw(trials)
    figure.draw_without_rendering()
    assert figure.get_suptitle() == f"simple_cnn: {trials.summary}"
    assert figures.to_svg(figure)
