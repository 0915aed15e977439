"""How long a recipe is said to take."""

import pytest

from cifar10.architectures import build
from cifar10.training.cost import recipe_seconds
from cifar10.training.recipe import RECIPES
from tests.helpers import LARGE, slow

# Images per second in training on two cores, from docs/performance.md: EPYC of the fourth generation, Xeon with AMX.
MEASURED = {
    "batchnorm_cnn": (1688, 3286),
    "airbench94": (422, 1170),
    "vgg16": (170, 333),
    "mobilenetv2": (141, 139),
    "googlenet": (35, 74),
    "densenet121": (42, 61),
    "resnet50": (33, 55),
}


@pytest.mark.parametrize("name", slow(LARGE, MEASURED))
def test_time_is_estimated_within_a_factor_of_two(name, statistics, blocks):
    recipe = RECIPES[name].model_validate({**blocks[name], "epochs": 1, "resolutions": None})
    seconds = recipe_seconds(build(name, 10, statistics), recipe, 1000, recipe.cpu_compute_dtype, cores=2)
    measured = [1000 / speed for speed in MEASURED[name]]
    assert min(measured) / 2 < seconds < max(measured) * 2
