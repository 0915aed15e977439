import pytest
import yaml

from cifar10.training.checkpoint import Checkpoint
from cifar10.training.recipe import Recipe
from tests.conftest import PROJECT


@pytest.fixture(scope="session")
def recipe():
    """Make a recipe without augmentation from the common one and what differs."""
    common = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())["_recipe"]

    def make(**changes):
        return Recipe(**{**common, "flip": "none", "shift": 0, **changes})

    return make


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path / "checkpoint")
