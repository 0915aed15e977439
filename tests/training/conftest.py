import pytest
import yaml

from cifar10.training.checkpoint import Checkpoints
from cifar10.training.recipe import Recipe
from tests.helpers import PROJECT


@pytest.fixture(scope="session")
def blocks():
    """The recipes of `conf/base`, by name; those that others are made from begin with an underscore."""
    return yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())


@pytest.fixture(scope="session")
def blocks_of(blocks):
    """Return the recipes that an environment changes, as Kedro merges them."""

    def load(env):
        changed = yaml.safe_load((PROJECT / f"conf/{env}/parameters.yml").read_text())
        return {name: {**blocks[name], **block} for name, block in changed.items() if not name.startswith("_")}

    return load


@pytest.fixture(scope="session")
def recipe(blocks):
    """Make a recipe without augmentation from the common one and what differs."""

    def make(**changes):
        return Recipe(**{**blocks["_recipe"], "flip": "none", "shift": 0, **changes})

    return make


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoint")
