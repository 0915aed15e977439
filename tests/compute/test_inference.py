"""Grad-CAM and latency. That Grad-CAM works for every architecture is part of the contract of architectures."""

import keras
import numpy as np
import pytest

from cifar10.architectures import build
from cifar10.compute.inference import VIEWS, _cut, averaged, grad_cam, infer, seconds_of_calls, seconds_per_call


def test_grad_cam_highlights_what_decides():
    """A network whose classes are red and blue: the map of each is bright where that colour is."""
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


def test_grad_cam_is_zero_where_no_part_speaks_for_the_class():
    """Green speaks against the first class: its map would be bright, but its gradient is negative."""
    inputs = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(4, 1, kernel_initializer="ones", activation="relu")(inputs)
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.AveragePooling2D(4)(maps))
    logits = keras.layers.Dense(2, name="logits", use_bias=False)(features)
    network = keras.Model(inputs, keras.layers.Softmax()(logits))
    network.get_layer("logits").set_weights([np.array([[-1.0, 1]] * 4)])
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    against, speaks_for = (grad_cam(network, image, np.array([label]))[0] for label in (0, 1))
    assert against.max() == 0
    assert speaks_for.max() == 1


@pytest.mark.parametrize(("name", "size"), [("vgg16", 4), ("deep_cnn", 4), ("densenet121", 4), ("airbench94", 7)])
def test_grad_cam_uses_the_last_map_that_is_large_enough(statistics, name, size):
    """And not the single pixel at the end of VGG, or the 3x3 pixels of airbench94."""
    lower, upper = _cut(build(name, 10, statistics))
    assert lower.output_shape[1:3] == upper.input_shape[1:3] == (size, size)


VIEWED = {  # what each view of test-time augmentation shows, and its weight
    "flip": [(0, False, 0.5), (0, True, 0.5)],
    "flip_and_shift": [(shift, flip, weight / 2) for shift, weight in ((0, 0.5), (-1, 0.25), (1, 0.25))
                       for flip in (False, True)],
}  # fmt: skip


@pytest.mark.parametrize("views", VIEWS)
def test_views_are_averaged_in_logits(views):
    """A view that is shifted by a pixel down and to the right reflects the border, as those of airbench94 do."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
         keras.layers.Dense(5), keras.layers.Softmax()]
    )  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    logits = 0
    for shift, flip, weight in VIEWED[views]:
        places = np.abs(np.arange(32) - shift)  # of row -1, row 1
        places = np.where(places > 31, 62 - places, places)
        seen = images[:, places][:, :, places]
        logits += weight * np.log(network.predict(seen[:, :, ::-1] if flip else seen, verbose=0))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    plain = infer(network, images, 32)
    np.testing.assert_allclose(averaged(network, images, plain, views, 32), expected, rtol=1e-4)


@pytest.mark.parametrize(("seconds", "timed"), [(0.0, [1, 9, 2]), (15.0, [1, 9, 2, 5])])
def test_three_calls_and_enough_seconds_are_timed_after_a_warm_up(monkeypatch, seconds, timed):
    now = [0.0]
    durations = iter([100.0, 100.0, 1.0, 9.0, 2.0, 5.0])

    def call():
        now[0] += next(durations)

    monkeypatch.setattr("cifar10.compute.inference.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("cifar10.compute.inference.TIMED_SECONDS", seconds)
    assert seconds_of_calls(call).tolist() == timed


def test_latency_is_plausible(statistics):
    network = build("simple_cnn", 10, statistics)
    images = np.zeros((64, 32, 32, 3), np.uint8)
    assert 0 < np.median(seconds_per_call(network, images[:1])) < 1
