"""What a trained network answers, how fast, and what it looks at: plain Keras, on every backend."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from cifar10.compute.batches import batches, inference_batch_size
from cifar10.compute.device import jit_compile
from cifar10.metrics import LEAST

# The views of test-time augmentation: pixels that a picture is moved by, down and to the right, and the weight of that.
# Each is shown mirrored too. The second has those of airbench94 (Jordan 2024, arXiv 2404.00498).
VIEWS = {"flip": ((0, 1.0),), "flip_and_shift": ((0, 0.5), (-1, 0.25), (1, 0.25))}
SMALLEST_MAP = 4  # side of a feature map that still says where, if there is one
WARM_UP = 2  # calls before the clock starts


def probabilities(network: keras.Model, images: np.ndarray, image_size: int) -> np.ndarray:
    """What the network answers to pictures, uint8 (n, 32, 32, 3): float32 (n, classes).

    `image_size` is the side that it computes on inside, by which the batches are cut.
    """
    _compile(network)
    given = batches(images, batch_size=inference_batch_size(image_size))
    return network.predict(given, verbose=0)


def averaged(network: keras.Model, images: np.ndarray, plain: np.ndarray, views: str, image_size: int) -> np.ndarray:
    """Probabilities from the mean logits of the views of a picture, with a mirrored border; `plain` is the first."""
    total = np.zeros_like(plain)
    for shift, weight in VIEWS[views]:
        margin = abs(shift)
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
        start = slice(margin - shift, margin - shift + images.shape[1])
        view = padded[:, start, start]
        straight = probabilities(network, view, image_size) if shift else plain
        mirrored = probabilities(network, view[:, :, ::-1], image_size)
        total += weight / 2 * (np.log(np.maximum(straight, LEAST)) + np.log(np.maximum(mirrored, LEAST)))
    powers = np.exp(total)
    return powers / powers.sum(axis=1, keepdims=True)


def seconds_a_call(network: keras.Model, images: np.ndarray, seconds: float = 0.5) -> float:
    """Median time that the network takes for these pictures in one batch, of as many calls as fit; at least three."""
    _compile(network)
    return median_seconds(lambda: network.predict_on_batch(images), seconds)


def median_seconds(call: Callable[[], Any], seconds: float = 0.5) -> float:
    """Median time of a call, of as many as fit, but at least three; the first ones do not count."""
    for _ in range(WARM_UP):
        call()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < seconds:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def grad_cam(network: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Where the network looks for a class (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391).

    The last feature map of at least 4x4 is used, or a smaller one where the network has none, weighted by the mean
    gradients of the logit.

    Args:
        network: that ends in logits and a softmax.
        images: uint8 (n, 32, 32, 3).
        classes: (n,), whose logits are explained.

    Returns:
        float32 (n, 32, 32), 0 to 1, bilinearly enlarged; all 0 where nothing speaks for the class.
    """
    lower, upper = _cut(network)
    maps = ops.convert_to_tensor(lower(images, training=False))
    chosen = ops.one_hot(classes.astype("int32"), network.output.shape[-1])

    def total(maps: Any) -> Any:
        return ops.sum(upper(maps, training=False) * chosen)

    weights = ops.mean(_gradient(total, maps), axis=(1, 2), keepdims=True)
    heat = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))
    heat = ops.convert_to_numpy(ops.image.resize(heat, images.shape[1:3]))[..., 0]
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), LEAST)


def _compile(network: keras.Model) -> None:
    if not network.compiled:
        network.compile(jit_compile=jit_compile())


def _cut(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The network up to its last feature map, and from there to its logits."""
    logits = network.get_layer("logits").output
    # What goes into a layer, for what comes out of a backbone is, asked of that, not a part of the network around it.
    given = (layer.input for layer in network.layers if not isinstance(layer, keras.Model))
    maps = [each for each in given if not isinstance(each, list) and len(each.shape) == 4]
    maps = [each for each in maps if each.shape[-1] > network.input_shape[-1]]
    maps.sort(key=lambda each: min(each.shape[1], SMALLEST_MAP))  # the last and largest enough at the end
    for tensor in reversed(maps):
        try:
            return keras.Model(network.input, tensor), keras.Model(tensor, logits)
        except ValueError:  # something passes by this one
            continue
    raise ValueError(f"{network.name} has no feature map that all goes through")


def _gradient(function: Any, maps: Any) -> Any:
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(maps)

    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = function(maps)
    return tape.gradient(value, maps)
