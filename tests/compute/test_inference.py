"""Grad-CAM and latency. That Grad-CAM works for every architecture is part of the contract of architectures."""

import numpy as np

from cifar10.architectures import build
from cifar10.compute.inference import grad_cam, seconds_per_call


def test_grad_cam_highlights_what_decides():
    """A network whose classes are red and blue: the map of each is bright where that colour is."""
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
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 4:12, 4:12, 0] = 200
    image[0, 20:28, 20:28, 2] = 200
    red, blue = (grad_cam(network, image, np.array([label]))[0] for label in (0, 1))
    assert red[5:11, 5:11].mean() > 0.7
    assert red[20:, 20:].max() < 0.05
    assert blue[21:27, 21:27].mean() > 0.7
    assert blue[:12, :12].max() < 0.05


def test_latency_is_plausible(statistics):
    network = build("simple_cnn", 10, statistics)
    images = np.zeros((64, 32, 32, 3), np.uint8)
    assert 0 < seconds_per_call(network, images[:1], 0.1) < 1
