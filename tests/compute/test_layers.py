import keras
import pytest

from cifar10.compute.layers import walk_layers


@pytest.fixture
def network():
    """A network with another one in it, as those with a backbone."""
    layers, inputs = keras.layers, keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs)))
    backbone = keras.Model(inputs, layers.Concatenate()([x, x]), name="backbone")
    images = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, layers.Dense(10)(layers.Dropout(0.1)(x)))


@pytest.mark.parametrize("nested", [False, True])
def test_every_layer_is_visited_once(network, nested):
    """Keras has such a function, too, but not a public one."""
    network = network if nested else network.get_layer("backbone")
    visited = list(map(id, walk_layers(network)))
    assert len(set(visited)) == len(visited)
    assert set(visited) == set(map(id, network._flatten_layers(include_self=False)))
    assert (len(visited) > len(network.layers)) == nested


def test_nested_model_comes_before_its_layers(network):
    """Setting `trainable` on a model changes its layers, so whoever copies it has to begin with the model."""
    backbone = network.get_layer("backbone")
    place = network.layers.index(backbone)
    layers = [*network.layers[: place + 1], *backbone.layers, *network.layers[place + 1 :]]
    assert list(walk_layers(network)) == layers
