"""Every space that cannot be searched is refused in one sentence, before anything is trained."""

import re
import subprocess
import sys

import pytest
import yaml

from cifar10 import parameters
from cifar10.architectures import ARCHITECTURES
from cifar10.architectures.facts import FACTS
from cifar10.errors import InputError
from cifar10.training.recipe import unused
from cifar10.tuning.options import Tuning, at_fidelity, check_tuning, epochs_of
from cifar10.tuning.space import Values, check_space, propose, recipe_of
from tests.helpers import PROJECT

LEARNING_RATE = {"low": 0.0001, "high": 0.1, "log": True}


@pytest.fixture(scope="module")
def every_parameter(blocks, tuning):
    shared = yaml.safe_load((PROJECT / "conf/base/parameters.yml").read_text())
    return lambda **changes: {**shared, **blocks, "tuning": tuning(**changes)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "tuning.trials: input should be greater than or equal to 1, but it is 0"),
        ({"minutes": 0}, "tuning.minutes: input should be greater than 0, but it is 0"),
        ({"trials": None, "minutes": None}, "tuning: give trials or minutes, without which a search never ends"),
        ({"trial": 3}, "tuning.trial: no such parameter; did you mean trials?"),
        ({"sampler": "tpee"}, "tuning.sampler: input should be 'tpe' or 'random', but it is 'tpee'"),
        ({"fidelity": {"epochs": 0, "examples": None}}, "tuning.fidelity.epochs: input should be greater than or"),
        (
            {"fidelity": {"epochs": 2, "examples": None, "epoch": 3}},
            "tuning.fidelity.epoch: no such parameter; did you mean epochs?",
        ),
        ({"space": {}}, "tuning.space: it is empty; name at least one option"),
        ({"space": {"learning_rate": {}}}, "tuning.space.learning_rate: give low and high, as in {low: 0.01"),
        (
            {"space": {"learning_rate": {"lo": 0.1, "high": 1.0}}},
            "learning_rate.lo: no such parameter; did you mean low",
        ),
        ({"space": {"learning_rate": {"low": 0.1}}}, "tuning.space.learning_rate: give low and high"),
        ({"space": {"learning_rate": {"low": 1.0, "high": 0.1}}}, "low must be below high, but they are 1.0 and 0.1"),
        ({"space": {"learning_rate": {"low": 0.1, "high": 0.1}}}, "low must be below high"),
        (
            {"space": {"learning_rate": {"low": "a", "high": 1}}},
            "learning_rate.low: it must be a number, but it is 'a'",
        ),
        ({"space": {"learning_rate": {**LEARNING_RATE, "low": 0}}}, "low must be above 0 on a logarithmic scale"),
        (
            {"space": {"learning_rate": {**LEARNING_RATE, "of": [1, 2]}}},
            "give either low and high, or of, but not both",
        ),
        ({"space": {"batch_size": {"of": [64]}}}, "of needs at least two different values, but it is [64]"),
        (
            {"spaces": {"vgg61": {"shift": {"low": 0, "high": 2}}}},
            "there is no architecture vgg61; did you mean vgg16?",
        ),
    ],
)
def test_parameters_that_are_not_valid_are_refused_before_every_run(every_parameter, changes, message):
    parameters.check(every_parameter())
    with pytest.raises(InputError) as error:
        parameters.check(every_parameter(**changes))
    _, *problems = str(error.value).splitlines()
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learning_rat": LEARNING_RATE}, "has learning_rat, which is no option of its recipe; did you mean learning"),
        ({"seed": {"low": 0, "high": 9}}, "has seed, but the best of several seeds is no better recipe"),
        ({"train_on": {"of": ["train", "all"]}}, "has train_on, but trials are compared on the validation images"),
        ({"learning_rate": {"low": 0.0, "high": 1.0}}, "has learning_rate 0.0, with which its recipe is not valid"),
        ({"batch_size": {"of": [64, 0]}}, "has batch_size 0, with which its recipe is not valid"),
        ({"batch_size": {"low": 16.0, "high": 64.0}}, "batch_size 16.0, with which its recipe is not valid"),
        ({"flip": {"low": 0, "high": 1}}, "has flip, which is not a number: give its values as in {of: [...]}"),
        ({"flip": {"of": ["random", "upside"]}}, "has flip upside, with which its recipe is not valid"),
        ({"weight_decay": {"low": 0.0, "high": 0.1}}, "not valid: adam and cosine do not use it"),
        ({"optimizer": {"of": ["adam", "muons"]}}, "there is no optimizer muons; did you mean muon."),
        ({"learning_rate": {"low": 0.1, "high": 1.0}}, "learning_rate 0.1 to 1.0, without 0.001, which its recipe has"),
        ({"batch_size": {"of": [32, 128]}}, "batch_size 32, 128, without 64, which its recipe has"),
        ({"gradient_clip": {"low": 0.1, "high": 1.0}}, "without null, which its recipe has"),
    ],
)
def test_space_that_the_recipe_refuses_is_refused(blocks, tuning, space, message):
    pytest.importorskip("optuna")
    with pytest.raises(InputError) as error:
        check_tuning("simple_cnn", {**blocks["_recipe"], "schedule": "cosine"}, tuning(space=space))
    assert re.fullmatch(r"[^\n]+[.?]", str(error.value))
    assert message in str(error.value)


def test_space_that_would_destroy_pretrained_weights_is_refused(blocks, tuning):
    pytest.importorskip("optuna")
    block = {**blocks["vgg16_imagenet"], "unfreeze": 4}
    with pytest.raises(InputError, match=r"has optimizer muon, .* muon sets the norm of every kernel"):
        check_tuning("vgg16_imagenet", block, tuning(space={"optimizer": {"of": ["adam", "muon"]}}))


@pytest.mark.parametrize(
    ("changes", "recipe", "message"),
    [
        (
            {"fidelity": {"epochs": 31, "examples": None}},
            {},
            "tuning.fidelity.epochs is 31, but the recipe of simple_cnn",
        ),
        (
            {"fidelity": {"epochs": 3, "examples": None}, "space": {"epochs": {"low": 3, "high": 30}}},
            {},
            "has epochs, which tuning.fidelity sets for all trials. Remove one of them.",
        ),
        ({}, {"train_on": "all", "early_stopping": None}, "simple_cnn cannot be tuned with train_on=all"),
        ({"spaces": {}}, {}, "tuning.spaces has no simple_cnn: add a space for it, or set tuning.space."),
    ],
)
def test_fidelity_or_recipe_that_cannot_be_tuned_is_refused(blocks, tuning, changes, recipe, message):
    pytest.importorskip("optuna")
    with pytest.raises(InputError, match=re.escape(message)):
        check_tuning("simple_cnn", {**blocks["simple_cnn"], **recipe}, tuning(**changes))


def test_recipe_that_the_fidelity_makes_inconsistent_is_refused(blocks, tuning):
    pytest.importorskip("optuna")
    changed = tuning(fidelity={"epochs": 2, "examples": None})
    with pytest.raises(InputError, match=r"airbench94 is not valid with tuning\.fidelity: whitening_epochs is 3, but"):
        check_tuning("airbench94", {**blocks["airbench94"], "whitening_epochs": 3}, changed)


def test_missing_optuna_is_reported_with_the_extra(monkeypatch, blocks, tuning):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"^Tuning needs optuna, which is not installed: pip install .*\[tune\]'$"):
        check_tuning("simple_cnn", blocks["simple_cnn"], tuning())


def test_pipelines_are_registered_without_optuna_and_keras():
    code = (
        "import sys; from cifar10.pipeline_registry import register_pipelines; register_pipelines()\n"
        "sys.exit(str({'optuna', 'keras', 'tensorflow'} & sys.modules.keys() or ''))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


@pytest.mark.parametrize("env", ["base", "demo", "long", "notebook"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_space_of_an_architecture_fits_its_recipe(blocks, tuning, name, env):
    changed = yaml.safe_load((PROJECT / f"conf/{env}/parameters.yml").read_text()).get(name, {})
    options = Tuning.model_validate(tuning())
    if name not in options.spaces and name not in FACTS:
        pytest.skip("it was added without")
    recipe = at_fidelity(name, {**blocks[name], **changed}, options.fidelity)
    check_space(name, recipe, options.space_of(name, recipe))


def test_the_space_of_an_architecture_has_what_the_recipe_or_a_trial_uses(blocks, tuning):
    sgd = {**blocks["deep_cnn"], "optimizer": "sgd"}
    options = Tuning.model_validate(tuning())
    assert options.space_of("deep_cnn", sgd).keys() == options.spaces["deep_cnn"].keys() - {"muon_learning_rate"}
    given = {**tuning()["spaces"]["deep_cnn"], "optimizer": {"of": ["sgd", "muon"]}}
    options = Tuning.model_validate(tuning(spaces={"deep_cnn": given}))
    assert options.space_of("deep_cnn", sgd).keys() == given.keys()


class Choosing:
    """Proposes the same place of each range, or the last of the values, as Optuna's trials do."""

    def suggest_categorical(self, name, choices):
        return choices[-1]

    def suggest_int(self, name, low, high, log):
        assert isinstance(low, int)
        return high

    def suggest_float(self, name, low, high, log):
        return high


def test_trial_has_no_options_that_its_optimizer_and_schedule_do_not_use(blocks):
    space = {
        "weight_decay": {"low": 0.0, "high": 0.1},
        "momentum": {"low": 0.5, "high": 0.9},
        "optimizer": {"of": ["adam", "muon", "adamw"]},
        "shift": {"low": 0, "high": 4},
        "warmup": {"low": 0.0, "high": 0.1},
    }
    space = {name: Values.model_validate(values) for name, values in space.items()}
    shipped = {**blocks["deep_cnn"], "schedule": "plateau", "warmup": 0.0}
    options = propose(Choosing(), "deep_cnn", shipped, space)
    assert options == {"optimizer": "adamw", "weight_decay": 0.1, "shift": 4}
    assert {"momentum", "muon_learning_rate", "warmup"} <= unused({**shipped, **options})
    recipe = recipe_of("deep_cnn", {**shipped, "muon_learning_rate": 0.05}, options)
    assert (recipe.optimizer, recipe.muon_learning_rate) == ("adamw", 0.24)


@pytest.mark.parametrize(
    ("proposed", "low", "high", "value"),
    [
        (0.0334638779, 0.0, 1.0, 0.03346),
        (0.000123456, 0.00001, 1.0, 0.0001235),
        (0.12341, 0.12341, 1.0, 0.12341),
        (0.9999999, 0.0, 0.9999999, 0.9999999),
    ],
)
def test_proposed_numbers_are_rounded_within_their_range(proposed, low, high, value):
    class Proposing(Choosing):
        def suggest_float(self, name, low, high, log):
            return proposed

    space = {"label_smoothing": Values(low=low, high=high)}
    assert propose(Proposing(), "deep_cnn", {"optimizer": "adam", "schedule": "constant"}, space) == {
        "label_smoothing": value
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog", "dog"], "class_names: dog is there more than once; give each class a name of its own"),
        (
            ["cat", "label"],
            "class_names: no class can be called label, which is a column of the predictions; rename it",
        ),
    ],
)
def test_class_names_that_tables_could_not_tell_apart_are_refused(every_parameter, names, message):
    values = {**every_parameter(), "class_names": names}
    with pytest.raises(InputError, match=re.escape(message)):
        parameters.check(values)


@pytest.mark.parametrize(("unfreeze", "space", "epochs"), [(20, {}, 25), (0, {}, 15), (0, {"unfreeze": [0, 20]}, 25)])
def test_a_trial_has_the_epochs_of_both_phases_where_there_is_a_second(blocks, unfreeze, space, epochs):
    shipped = {**blocks["vgg16_imagenet"], "unfreeze": unfreeze}
    ranges = {name: Values(of=values) for name, values in space.items()}
    assert epochs_of("vgg16_imagenet", shipped, ranges) == epochs
