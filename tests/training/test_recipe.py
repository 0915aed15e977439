"""Recipes: which are valid, and when two of them are the same."""

import hashlib

import pytest
import yaml
from pydantic import ValidationError

from cifar10.architectures import ARCHITECTURES
from cifar10.errors import RecipeError
from cifar10.training.identity import identify
from cifar10.training.optimizers import OPTIMIZERS
from cifar10.training.recipe import RECIPES, MobileNetTransferRecipe, Recipe, check_optimizer
from cifar10.training.schedules import SCHEDULES
from tests.helpers import PROJECT

TABLES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
ROWS = [(kind, name) for kind, table in TABLES.items() for name in table]
# A recipe whose fields may each be changed by itself, except for those in `CHANGES_TOGETHER`.
REQUIRED = {"epochs": 3, "batch_size": 8, "optimizer": "muon", "learning_rate": 0.1, "schedule": "cosine", "seed": 0}
TRANSFER = {
    **REQUIRED, "weights": "imagenet", "image_size": 96, "head_units": 8, "head_epochs": 2, "head_learning_rate": 0.01,
}  # fmt: skip
# field -> a valid value that differs from the one above, or from the default
CHANGES = {
    "epochs": 4,
    "batch_size": 16,
    "accumulate": 2,
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "momentum": 0.8,
    "muon_learning_rate": 0.1,
    "bias_learning_rate": 2.0,
    "weight_decay": 0.1,
    "decay_biases": True,
    "decoupled": True,
    "lookahead": 5,
    "whitening_epochs": 1,
    "gradient_clip": 1.0,
    "schedule": "triangular",
    "warmup": 0.1,
    "schedule_start": 0.1,
    "schedule_end": 0.1,
    "plateau_patience": 2,
    "plateau_factor": 0.1,
    "early_stopping": 2,
    "label_smoothing": 0.1,
    "resolutions": [16, 32],
    "examples": 100,
    "seed": 1,
    "train_on": "all",
    "compute_dtype": "float32",
    "cpu_compute_dtype": "float32",
    "deterministic": True,
    "flip": "random",
    "shift": 2,
    "cutout": 8,
    "rotation": 10.0,
    "zoom": 0.1,
    "mixup": 0.5,
    "cutmix": 0.5,
    "weights": "other.weights.h5",
    "image_size": 64,
    "alpha": 0.35,
    "head_units": 16,
    "head_l2": 0.1,
    "head_dropout": 0.1,
    "head_epochs": 3,
    "head_learning_rate": 0.02,
    "feature_copies": 2,
    "unfreeze": 1,
    "cache_gb": 1.5,
}
CHANGES_TOGETHER = {"plateau_patience": {"schedule": "plateau"}, "plateau_factor": {"schedule": "plateau"}}
HASHES = {
    "simple_cnn": "6f640694c9a4",
    "batchnorm_cnn": "7deb923758f0",
    "deep_cnn": "ad7c7442d547",
    "airbench94": "5afaa5b5328d",
    "vgg16": "ad7c7442d547",
    "vgg19": "34339c86ee35",
    "resnet50": "de218879e03d",
    "resnet101": "38b8d2238f4c",
    "googlenet": "de218879e03d",
    "densenet121": "de218879e03d",
    "efficientnetb0": "7796914be659",
    "nasnetmobile": "14d741dc5303",
    "mobilenetv2": "f1e7322f07cd",
    "vgg16_imagenet": "e536d743f9b9",
    "vgg19_imagenet": "241b41ae8cf2",
    "resnet50_imagenet": "e625e8566bce",
    "resnet101_imagenet": "e625e8566bce",
    "densenet121_imagenet": "5e1d0188e8a6",
    "efficientnetb0_imagenet": "4aba9c9a32ea",
    "nasnetmobile_imagenet": "000a6d9e88c3",
    "mobilenetv2_imagenet": "30ffea3262ff",
}
LONG_HASHES = {
    "vgg16": "c073142d87f9",
    "vgg19": "c073142d87f9",
    "resnet50": "0e30659a5c34",
    "resnet101": "0e30659a5c34",
    "googlenet": "0e30659a5c34",
    "densenet121": "0e30659a5c34",
    "efficientnetb0": "b23bd7993c15",
    "nasnetmobile": "b0b15fb67d47",
    "mobilenetv2": "6f3370f7617b",
}
NOTEBOOK_HASHES = {"mobilenetv2_imagenet": "152683219115"}


class EveryOption(MobileNetTransferRecipe):
    """A recipe that accepts all options."""

    WHITENS = True
    REDUCES = True


def using(kind, name):
    """Return a recipe's required fields, with this optimizer or schedule, and others that use no options."""
    return {**REQUIRED, "optimizer": "adam", "schedule": "constant", kind: name}


def test_demo_is_short_for_every_architecture():
    demo = yaml.safe_load((PROJECT / "conf/demo/parameters.yml").read_text())
    for name in ARCHITECTURES:
        assert demo[name]["epochs"] * demo[name]["examples"] <= 8000, name


def test_every_block_is_a_recipe(blocks):
    for name in ARCHITECTURES:
        RECIPES[name].model_validate(blocks[name])


def test_batchnorm_cnn_is_trained_as_agreed(blocks):
    recipe = Recipe.model_validate(blocks["batchnorm_cnn"])
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("adam", 0.001, 64, 30)
    assert (recipe.schedule, recipe.plateau_patience, recipe.plateau_factor) == ("plateau", 3, 0.5)
    assert recipe.early_stopping


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, "optimizer adam does not use weight_decay"),
        ({"mixup": 0.2, "cutmix": 1.0}, "cannot be combined"),
        ({"optimizer": "sgd", "lookahead": 5, "accumulate": 2}, "lookahead cannot be combined with accumulate"),
        ({"mixup": -1.0}, "greater than or equal to 0"),
        ({"optimizer": "adamw", "lookahead": 5}, r"adamw does not use lookahead \(only sgd, muon\)"),
        ({"optimizer": "adam", "bias_learning_rate": 2.0}, r"does not use bias_learning_rate \(only sgd, muon\)"),
        ({"optimizer": "adan"}, "there is no optimizer adan; did you mean adam?"),
        ({"schedule": "cosinus"}, "there is no schedule cosinus; did you mean cosine?"),
        ({"train_on": "all", "early_stopping": 3}, "leaves no images for validation"),
        ({"train_on": "all", "early_stopping": None, "schedule": "plateau"}, "leaves no images for validation"),
        ({"compute_dtype": "float16"}, "'auto', 'float32' or 'bfloat16'"),
        ({"examples": 0}, "greater than or equal to 1"),
        ({"unfreeze": 3}, "Extra inputs are not permitted"),
        ({"optimizer": "sgd", "whitening_epochs": 1}, "no whitening layer; set whitening_epochs=null"),
        ({"schedule": "constant", "warmup": 0.1}, "schedule constant does not use warmup"),
        ({"seed": True}, "valid integer"),
        ({"resolutions": [16, 24]}, "resolutions must end with 32, at which the network predicts"),
        ({"resolutions": "16 2x4"}, "2x4 is not a number of pixels; separate several by spaces, as in 16 24 32"),
        ({"resolutions": 7}, "greater than or equal to 8"),
        ({"resolutions": []}, "at least 1 item"),
    ],
)
def test_inconsistent_recipes_are_refused(recipe, changes, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)


@pytest.mark.parametrize("given", ["16 24 32", [16, 24, 32]])
def test_resolutions_are_numbers_separated_by_spaces(recipe, given):
    assert recipe(resolutions=given).hash == recipe(resolutions=[16, 24, 32]).hash
    assert recipe(resolutions=given).resolutions == [16, 24, 32]


def test_what_needs_images_as_they_are_is_refused_with_imagenet_weights():
    with pytest.raises(ValidationError, match="resolutions are for networks trained from scratch"):
        MobileNetTransferRecipe(**{**TRANSFER, "resolutions": [16, 32]})
    for option in ("mixup", "cutmix"):
        with pytest.raises(ValidationError, match="cache_gb leaves none to mix; set one of them"):
            MobileNetTransferRecipe(**{**TRANSFER, option: 0.2, "cache_gb": 1})


def test_whitening_ends_with_the_training(blocks):
    options = {**blocks["airbench94"], "epochs": 2}
    assert RECIPES["airbench94"](**{**options, "whitening_epochs": 2}).whitening_epochs == 2
    with pytest.raises(ValidationError, match="whitening_epochs is 3, but epochs is only 2; set whitening_epochs=2"):
        RECIPES["airbench94"](**{**options, "whitening_epochs": 3})


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_options_in_the_tables_are_fields_with_a_default(kind, name):
    for option in TABLES[kind][name].options:
        assert not Recipe.model_fields[option].is_required(), option


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_options_that_are_not_used_must_have_their_default(kind, name):
    """Of all options in the table, exactly those that the row does not use are refused."""
    table = TABLES[kind]
    for option in set().union(*(row.options for row in table.values())):
        values = using(kind, name)
        recipe = RECIPES["airbench94"]
        recipe(**{**values, option: Recipe.model_fields[option].default})
        if option in table[name].options:
            assert getattr(recipe(**{**values, option: CHANGES[option]}), option) == CHANGES[option]
            continue
        with pytest.raises(ValidationError) as error:
            recipe(**{**values, option: CHANGES[option]})
        users = ", ".join(user for user, row in table.items() if option in row.options)
        expected = f"{kind} {name} does not use {option} (only {users}), which this recipe sets: add NAME.{option}="
        assert expected in str(error.value)


def test_table_of_changes_has_every_field():
    assert CHANGES.keys() == MobileNetTransferRecipe.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_change_of_a_field_changes_identity_and_hash_except_for_the_seed(field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / CHANGES["weights"]).touch()  # because its content is part of the identity
    values = {**TRANSFER, **CHANGES_TOGETHER.get(field, {})}
    before, after = (EveryOption(**each) for each in (values, {**values, field: CHANGES[field]}))
    assert getattr(before, field) != getattr(after, field)
    assert (before.hash == after.hash) == (field == "seed")
    assert identity(before) != identity(after)


@pytest.mark.parametrize("make", [MobileNetTransferRecipe, EveryOption])
def test_weights_count_by_name_and_content_wherever_they_lie(make, tmp_path):
    """Never by their path."""
    recipes = {}
    for folder, name, content in (("a", "x.h5", "1"), ("b", "x.h5", "1"), ("c", "x.h5", "2"), ("d", "y.h5", "1")):
        path = tmp_path / folder / name
        path.parent.mkdir()
        path.write_text(content)
        recipes[folder] = make(**{**TRANSFER, "weights": str(path)})
    (path,) = (tmp_path / "b").iterdir()
    recipe = recipes["b"]
    assert (recipes["a"].hash, identity(recipes["a"])) == (recipe.hash, identity(recipe))
    assert len({each.hash for each in recipes.values()}) == len({str(identity(each)) for each in recipes.values()}) == 3
    assert recipe.initial_weights == f"x.h5 ({hashlib.sha256(b'1').hexdigest()})"
    assert recipe.described()["weights"] == recipe.initial_weights
    assert recipe.builder_options()["weights"] == str(path)
    assert str(tmp_path) not in str((recipe.described(), identity(recipe)))
    path.unlink()  # the origin was taken before the training
    assert recipe.model_copy(update={"epochs": 9}).described()["weights"] == recipe.initial_weights


def identity(recipe):
    return identify("mobilenetv2_imagenet", recipe, "data", ["cat", "dog"], "network")


@pytest.mark.parametrize(
    "field", [name for name, field in MobileNetTransferRecipe.model_fields.items() if not field.is_required()]
)
def test_default_that_is_written_out_changes_neither_identity_nor_hash(field):
    default = MobileNetTransferRecipe.model_fields[field].default
    short, long = (MobileNetTransferRecipe(**each) for each in (TRANSFER, {**TRANSFER, field: default}))
    assert short.hash == long.hash
    assert identity(short) == identity(long)


def test_whole_numbers_may_be_written_without_a_point():
    assert Recipe(**{**REQUIRED, "weight_decay": 1}).hash == Recipe(**{**REQUIRED, "weight_decay": 1.0}).hash


def test_hashes_are_those_of_saved_models(blocks):
    """Models of one recipe are compared across versions of the code by this hash.

    It changes with a value in `conf/base`, and is then updated here; never with a new option or its default.
    """
    assert {name: RECIPES[name].model_validate(blocks[name]).hash for name in HASHES} == HASHES


def test_hashes_of_other_environments_are_those_of_saved_models(blocks_of):
    """The long recipes were those of `conf/base` before."""
    for env, hashes in (("long", LONG_HASHES), ("notebook", NOTEBOOK_HASHES)):
        assert {name: RECIPES[name].model_validate(block).hash for name, block in blocks_of(env).items()} == hashes


@pytest.mark.parametrize(("name", "augments"), [("flip", True), ("shift", True), ("cutout", True), ("rotation", True),
                                                ("zoom", True), ("mixup", False), ("cutmix", False)])  # fmt: skip
def test_augments_is_about_single_images(name, augments):
    assert not Recipe(**REQUIRED).augments
    assert Recipe(**{**REQUIRED, name: CHANGES[name]}).augments == augments


def test_builder_options_are_those_of_the_backbone():
    assert Recipe(**REQUIRED).builder_options() == {}
    options = MobileNetTransferRecipe(**TRANSFER).builder_options()
    assert options == {
        "weights": "imagenet", "image_size": 96, "alpha": 1.0, "head_units": 8, "head_l2": 0.0, "head_dropout": 0.0,
    }  # fmt: skip


def test_muon_is_for_kernels_that_are_not_pretrained():
    check_optimizer("vgg16", Recipe(**REQUIRED))
    check_optimizer("mobilenetv2_imagenet", MobileNetTransferRecipe(**{**TRANSFER, "unfreeze": 0}))
    with pytest.raises(RecipeError, match=r"would destroy the pretrained ones.* set mobilenetv2_imagenet\.unfreeze=0"):
        check_optimizer("mobilenetv2_imagenet", MobileNetTransferRecipe(**{**TRANSFER, "unfreeze": 5}))
