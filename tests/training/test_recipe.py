import pytest
import yaml
from pydantic import ValidationError

from cifar10.architectures import ARCHITECTURES
from cifar10.pipeline_registry import register_pipelines
from cifar10.training.recipe import RECIPES, Recipe
from tests.conftest import PROJECT


def test_table_blocks_and_pipelines_agree():
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    recipes = [name for name in blocks if not name.startswith("_")]
    trainings = [name.removeprefix("train_") for name in register_pipelines() if name.startswith("train_")]
    assert recipes == list(ARCHITECTURES) == trainings


def test_the_demo_is_short_whatever_it_trains():
    demo = yaml.safe_load((PROJECT / "conf/demo/parameters.yml").read_text())
    for name in ARCHITECTURES:
        assert demo[name]["epochs"] <= 5, name


def test_every_block_is_a_recipe():
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    for name in ARCHITECTURES:
        RECIPES[name].model_validate(blocks[name])


def test_batchnorm_cnn_is_trained_as_agreed():
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    recipe = Recipe.model_validate(blocks["batchnorm_cnn"])
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size, recipe.epochs) == ("adam", 0.001, 64, 30)
    assert (recipe.schedule, recipe.plateau_patience, recipe.plateau_factor) == ("plateau", 3, 0.5)
    assert recipe.early_stopping


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, "adam has no weight_decay"),
        ({"mixup": 0.2, "cutmix": 1.0}, "exclude each other"),
        ({"mixup": -1.0}, "greater than or equal to 0"),
        ({"optimizer": "adamw", "lookahead": 5}, "are for sgd and muon, not adamw"),
        ({"optimizer": "adam", "bias_learning_rate": 2.0}, "are for sgd and muon, not adam"),
        ({"train_on": "all", "early_stopping": 3}, "leaves nothing for validation"),
        ({"train_on": "all", "early_stopping": None, "schedule": "plateau"}, "leaves nothing for validation"),
        ({"precision": "float16"}, "'auto', 'float32' or 'bfloat16'"),
        ({"examples": 0}, "greater than or equal to 1"),
        ({"unfreeze": 3}, "Extra inputs are not permitted"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(recipe, changes, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**changes)
