"""What a recipe sets, and the command that trains it again."""

import shlex

import pytest
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.utils import _split_params

from cifar10.contracts import PublishedModel
from cifar10.pipelines.reporting.recipes import chosen_options, training_command
from cifar10.training.recipe import RECIPES, with_defaults
from tests.helpers import PROJECT, make_record

MODELS = [PublishedModel.read(path) for path in sorted((PROJECT / "data/published").glob("*/*/model.json"))]
CONFIGURED = OmegaConfigLoader(str(PROJECT / "conf"), base_env="base", default_run_env="local")["parameters"]


def obeyed(command, name):
    """Return the recipe and the other parameters with which this command trains."""
    program, action, *options = shlex.split(command)
    assert (program, action) == ("kedro", "run")
    given = dict(option.removeprefix("--").split("=", 1) for option in options)
    assert given["pipelines"] == f"train_{name}"
    parameters = _split_params(None, None, given.get("params", ""))
    return RECIPES[name].model_validate({**CONFIGURED[name], **parameters.pop(name, {})}), {**given, **parameters}


@pytest.mark.parametrize("model", MODELS, ids=[f"{each.record.architecture} {each.version}" for each in MODELS])
def test_the_command_trains_a_published_recipe_again(model):
    record = model.record
    command = training_command(record.architecture, record.recipe, CONFIGURED[record.architecture], None, None)
    recipe, _ = obeyed(command, record.architecture)
    options = recipe.model_dump()
    if "weights" in options:
        options["weights"] = record.recipe["weights"]
        assert recipe.weights == record.recipe["weights"].split()[0]
    assert options == with_defaults(record.architecture, record.recipe)


def test_the_command_of_a_recipe_of_the_configuration_is_short():
    by_conf = RECIPES["airbench94"].model_validate(CONFIGURED["airbench94"])
    command = training_command("airbench94", by_conf.model_dump(), CONFIGURED["airbench94"], None, None)
    assert command == "kedro run --pipelines=train_airbench94"


def test_the_command_gives_every_option_where_the_configuration_alone_is_no_recipe():
    """Such as one that changes the optimizer, and leaves it to the command line to reset the options of the former."""
    recipe = RECIPES["simple_cnn"].model_validate(
        {**CONFIGURED["simple_cnn"], "optimizer": "adam", "muon_learning_rate": 0.24, "weight_decay": 0.0}
    )
    configured = {**CONFIGURED["simple_cnn"], "optimizer": "adam", "gradient_clip": 1.0}
    command = training_command("simple_cnn", recipe.model_dump(), configured, None, None)
    assert obeyed(command, "simple_cnn")[0] == recipe
    assert "simple_cnn.gradient_clip=null" in command


def test_the_command_names_what_differs_and_where_the_data_are():
    """An option that an older record does not have is at its default, even if the configuration sets it."""
    changed = {
        "learning_rate": 1e-5,
        "early_stopping": None,
        "resolutions": [16, 24, 32],
        "decay_biases": True,
        "seed": 7,
    }
    changed |= {"optimizer": "sgd"}
    full = RECIPES["vgg16"].model_validate({**CONFIGURED["vgg16"], **changed, "muon_learning_rate": 0.24}).model_dump()
    recorded = {name: value for name, value in full.items() if name != "muon_learning_rate"}
    command = training_command("vgg16", recorded, CONFIGURED["vgg16"], "demo", "/mnt/my data")
    recipe, others = obeyed(command, "vgg16")
    assert recipe.model_dump() == full
    assert (others["env"], others["data_root"]) == ("demo", "/mnt/my data")
    assert "batch_size" not in command
    assert training_command("alexnet", {}, {}, None, None) == ""


def test_the_command_names_a_file_of_weights_unless_the_configuration_has_it(tmp_path):
    file = tmp_path / "mobilenet (1).weights.h5"  # as browsers name what they download again
    file.write_bytes(b"weights")
    name = "mobilenetv2_imagenet"
    configured = {**CONFIGURED[name], "weights": str(file)}
    recorded = RECIPES[name].model_validate(configured).described()
    assert training_command(name, recorded, configured, None, None) == f"kedro run --pipelines=train_{name}"
    elsewhere = training_command(name, recorded, CONFIGURED[name], None, None)
    assert obeyed(elsewhere, name)[0].weights == file.name
    file.unlink()
    assert obeyed(training_command(name, recorded, configured, None, None), name)[0].weights == file.name


def test_only_options_that_are_not_at_their_default_are_shown():
    (record,) = (each.record for each in MODELS if each.record.architecture == "batchnorm_cnn")
    assert chosen_options(record) == {
        "flip": "random", "epochs": "30", "batch_size": "64", "optimizer": "adam", "learning_rate": "0.001",
        "schedule": "plateau", "early_stopping": "10",
    }  # fmt: skip
    unknown = make_record(architecture="alexnet", recipe={"resolutions": [16, 32], "decay_biases": True})
    assert chosen_options(unknown) == {"epochs": "3", "resolutions": "16 32", "decay_biases": "true"}
