"""The blocks of `conf/base`, and the networks that they train."""

import re

import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.architectures.facts import FACTS
from cifar10.compute.flops import flops
from cifar10.compute.layers import matrices, walk_layers
from cifar10.training.cost import recipe_flops
from cifar10.training.frozen import split
from cifar10.training.identity import fingerprint
from cifar10.training.optimizers import make_optimizer
from cifar10.training.options import SIZE
from cifar10.training.recipe import RECIPES, TransferRecipe
from tests.helpers import LARGE, PROJECT, slow

CANNOT_BE_CUT = {
    "nasnetmobile_imagenet",  # its cells take the outputs of two cells before them
    "mobilenetv2_imagenet",  # it is trained as a whole
}
TRAIN_IMAGES = 45_000  # of CIFAR-10 with the default split
# Checkpoints are found, and models compared, by these. One changes with its network, and is then updated here; never
# with the version of Keras, or with the function that makes them. A network that is added gets one with the first of
# its models that is to be kept.
FINGERPRINTS = {
    "simple_cnn": "7df5a179f129",
    "batchnorm_cnn": "92497f8be8ee",
    "deep_cnn": "115e13d03947",
    "airbench94": "3afd5734c22b",
    "vgg16": "dfb1f958207c",
    "vgg19": "5639a90c1e14",
    "resnet50": "d0e3a4b3cf4a",
    "resnet101": "da364d5eb3cc",
    "googlenet": "da625c32a46c",
    "densenet121": "1049cbf8d319",
    "efficientnetb0": "dade77168190",
    "nasnetmobile": "eb9cf7edc11f",
    "mobilenetv2": "68039355ad6b",
    "vgg16_imagenet": "cb5f80238701",
    "vgg19_imagenet": "529dd3b6eed4",
    "resnet50_imagenet": "40e714fb849d",
    "resnet101_imagenet": "03be4d87809c",
    "densenet121_imagenet": "cc9f4d0fd91b",
    "efficientnetb0_imagenet": "6b41d9bb5c67",
    "nasnetmobile_imagenet": "94538d4e80c2",
    "mobilenetv2_imagenet": "d10d1a0f1ac5",
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def block(request, blocks, statistics):
    """An architecture, its recipe, and its network with random weights, at its full size."""
    name = request.param
    recipe = RECIPES[name](**blocks[name])
    options = recipe.builder_options()
    if isinstance(recipe, TransferRecipe):
        options["weights"] = None
    return name, recipe, build(name, 10, statistics, **options)


@pytest.mark.parametrize("block", slow(LARGE, ARCHITECTURES), indirect=True)
@pytest.mark.parametrize("env", ["base", "long"])
def test_comment_states_the_cost_of_the_recipe(block, blocks_of, env):
    name, recipe, network = block
    text = (PROJECT / "conf/base/parameters_architectures.yml").read_text()
    if env == "long":
        if name not in blocks_of(env):
            pytest.skip("it has no long recipe")
        recipe = RECIPES[name](**blocks_of(env)[name])
        text = (PROJECT / "conf/long/parameters.yml").read_text()
    comment = re.split(rf"\n{name}:", text)[0].rsplit("\n\n", 1)[-1].replace("\n# ", " ")
    found = re.findall(r"([\d.]+) PFLOP", comment)
    if name not in FINGERPRINTS and not found:
        pytest.skip("it was added without")
    (stated,) = found
    digits = len(stated.replace(".", "").lstrip("0"))
    assert float(f"{recipe_flops(network, recipe, TRAIN_IMAGES) / 1e15:.{digits}g}") == float(stated)


def test_facts_are_those_of_the_network(block):
    name, recipe, network = block
    if name not in FACTS:
        pytest.skip("it has none")
    facts = FACTS[name]
    size = recipe.image_size if isinstance(recipe, TransferRecipe) else SIZE
    assert (facts.parameters, facts.flops, facts.image_size) == (network.count_params(), flops(network), size)


def test_cache_is_possible_where_a_single_tensor_enters_the_trained_layers(block):
    name, recipe, network = block
    if not isinstance(recipe, TransferRecipe):
        pytest.skip("it has no frozen layers")
    assert (split(network, recipe.unfreeze) is not None) == (name not in CANNOT_BE_CUT)


def test_fingerprint_is_that_of_saved_models(block):
    name, _, network = block
    if name not in FINGERPRINTS:
        pytest.skip(f"it was added without: {fingerprint(network)}")
    assert fingerprint(network) == FINGERPRINTS[name]


def test_recipe_knows_whether_the_network_whitens(block):
    name, _, network = block
    whitens = any(layer.name == "whitening" for layer in network.layers)
    assert whitens == RECIPES[name].WHITENS


def test_every_kernel_is_a_matrix_except_depthwise_ones_and_the_logits(block):
    _, _, network = block
    found = matrices(network)
    layers = {each.path: layer for layer in walk_layers(network) for each in layer.weights if "kernel" in each.name}
    assert set(found.values()) == {1}
    for path, layer in layers.items():
        depthwise = path.endswith("depthwise_kernel") or isinstance(layer, keras.layers.DepthwiseConv2D)
        assert (path in found) == (not depthwise and layer.name != "logits"), path
    assert found.keys() <= layers.keys()


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX compiles each operation of an eager step by itself")
@pytest.mark.parametrize(
    "block",
    [
        "mobilenetv2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnetb0", "nasnetmobile")),
    ],
    indirect=True,
)
def test_muon_trains_networks_of_depthwise_and_separable_convolutions(block):
    """One eager step."""
    _, recipe, network = block
    options = {"optimizer": "muon", "schedule": "constant", "warmup": 0.0, "learning_rate": 1e-3}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = make_optimizer(recipe.model_copy(update=options), 2, "float32", matrices(network))
    network.compile(optimizer, loss, run_eagerly=True, jit_compile=False)
    weights = network.trainable_weights
    before = [np.array(each) for each in weights]
    assert np.isfinite(network.train_on_batch(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)), np.arange(2)))
    assert all(np.isfinite(np.array(each)).all() for each in weights)
    moved = {each.path for each, old in zip(weights, before, strict=True) if (np.array(each) != old).any()}
    trained = {each.path for each in weights if each.path in matrices(network)}
    assert len(trained) > 5
    assert trained < moved
