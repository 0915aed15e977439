import keras
import pytest

from cifar10.architectures import build
from cifar10.compute.layers import walk_layers


@pytest.mark.parametrize(("name", "nested"), [("vgg16", False), ("mobilenetv2_imagenet", True)])
def test_every_layer_is_visited_once(name, nested, statistics, builder_options):
    """Keras has such a function, too, but not a public one."""
    network = build(name, 10, statistics, **builder_options(name))
    visited = list(map(id, walk_layers(network)))
    assert len(set(visited)) == len(visited)
    assert set(visited) == set(map(id, network._flatten_layers(include_self=False)))
    assert (len(visited) > len(network.layers)) == nested


def test_nested_model_comes_before_its_layers(statistics, builder_options):
    """Setting `trainable` on a model changes its layers, so whoever copies it has to begin with the model."""
    network = build("mobilenetv2_imagenet", 10, statistics, **builder_options("mobilenetv2_imagenet"))
    backbone = network.get_layer("backbone")
    place = network.layers.index(backbone)
    layers = [*network.layers[: place + 1], *backbone.layers, *network.layers[place + 1 :]]
    assert isinstance(backbone, keras.Model)
    assert list(walk_layers(network)) == layers
