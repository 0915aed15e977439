"""Explanations and timings. That every architecture can be explained is part of its contract."""

import numpy as np

from cifar10.architectures import build
from cifar10.compute.inference import grad_cam, seconds_a_call


def test_explanation_points_to_what_decides():
    """A network that looks for red: the map is bright where red is."""
    import keras

    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="maps")(inputs)
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.AveragePooling2D(4)(maps))
    logits = keras.layers.Dense(2, name="logits", use_bias=False)(features)
    network = keras.Model(inputs, keras.layers.Softmax()(logits))
    kernel, bias = network.get_layer("maps").get_weights()
    kernel[:] = 0
    kernel[1, 1, 0, 0], kernel[1, 1, 2, 1] = 1, 1  # red into the first map, blue into the second
    network.get_layer("maps").set_weights([kernel, bias])
    network.get_layer("logits").set_weights([np.array([[1.0, 0], [0, 1], [0, 0], [0, 0]])])
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    picture[0, 4:12, 4:12, 0] = 200
    picture[0, 20:28, 20:28, 2] = 200
    red, blue = (grad_cam(network, picture, np.array([label]))[0] for label in (0, 1))
    assert red[5:11, 5:11].mean() > 0.7
    assert red[20:, 20:].max() < 0.05
    assert blue[21:27, 21:27].mean() > 0.7
    assert blue[:12, :12].max() < 0.05


def test_time_of_a_call_is_that_of_a_call(statistics):
    network = build("simple_cnn", 10, statistics)
    images = np.zeros((64, 32, 32, 3), np.uint8)
    assert 0 < seconds_a_call(network, images[:1], 0.1) < 1
