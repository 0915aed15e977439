"""Predictions of a trained network, their latency, and Grad-CAM: plain Keras, on every backend."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from cifar10.compute.batches import batches, inference_batch_size
from cifar10.compute.device import jit_compile
from cifar10.compute.live import PredictionProgress, live
from cifar10.metrics import TINY

# Views of test-time augmentation: a shift in pixels, down and to the right, and its weight. Each is also flipped.
# `flip_and_shift` has the views of airbench94 (Jordan 2024, arXiv 2404.00498).
VIEWS = {"flip": ((0, 1.0),), "flip_and_shift": ((0, 0.5), (-1, 0.25), (1, 0.25))}
MIN_MAP_SIZE = 4  # side of the smallest feature map that Grad-CAM prefers
WARM_UP = 2  # calls that are not timed
TIMED_SECONDS = 0.5


def infer(network: keras.Model, images: np.ndarray, image_size: int, progress: str | None = None) -> np.ndarray:
    """Return what a network computes from images, uint8 (n, 32, 32, 3).

    Args:
        network: a saved model, or a part of one.
        images: of any number.
        image_size: side in pixels at which the network computes, which determines the batch size.
        progress: what is predicted, to show progress under that name; None: show none.

    Returns:
        Its outputs, (n, ...): of a saved model, probabilities, float32 (n, classes).
    """
    _compile(network)
    batch_size = inference_batch_size(image_size)
    given = batches(images, batch_size=batch_size)
    if progress is None:
        return network.predict(given, verbose=0)
    with live(progress, math.ceil(len(images) / batch_size)) as show:
        return network.predict(given, verbose=0, callbacks=[PredictionProgress(show)])


def averaged(
    network: keras.Model,
    images: np.ndarray,
    plain: np.ndarray,
    views: str,
    image_size: int,
    progress: str | None = None,
) -> np.ndarray:
    """Average the logits over the views of each image, with a reflected border.

    Args:
        network: as `infer`.
        images: as `infer`.
        plain: probabilities of the images without a shift or flip.
        views: a key of `VIEWS`.
        image_size: as `infer`.
        progress: as `infer`.

    Returns:
        Probabilities, float32 (n, classes).
    """
    total = np.zeros_like(plain)
    for shift, weight in VIEWS[views]:
        margin = abs(shift)
        padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
        start = slice(margin - shift, margin - shift + images.shape[1])
        view = padded[:, start, start]
        unflipped = infer(network, view, image_size, progress) if shift else plain
        flipped = infer(network, view[:, :, ::-1], image_size, progress)
        total += weight / 2 * (np.log(np.maximum(unflipped, TINY)) + np.log(np.maximum(flipped, TINY)))
    powers = np.exp(total)
    return powers / powers.sum(axis=1, keepdims=True)


def seconds_per_call(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return how long each of several predictions of these images in one batch took, as `seconds_of_calls`."""
    _compile(network)
    return seconds_of_calls(lambda: network.predict_on_batch(images))


def median_seconds(call: Callable[[], Any]) -> float:
    """Return the median of `seconds_of_calls`."""
    return float(np.median(seconds_of_calls(call)))


def seconds_of_calls(call: Callable[[], Any]) -> np.ndarray:
    """Return how long each call took, of at least three that take `TIMED_SECONDS` in all, after a warm-up."""
    for _ in range(WARM_UP):
        call()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < TIMED_SECONDS:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return np.array(taken)


def grad_cam(network: keras.Model, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Show which parts of an image speak for a class (Grad-CAM, Selvaraju et al. 2017, arXiv 1610.02391).

    Uses the last feature map of at least 4x4, or a smaller one if the network has none, weighted by the mean gradients
    of the logit.

    Args:
        network: ends in logits and a softmax.
        images: uint8 (n, 32, 32, 3).
        classes: (n,), whose logits are explained.

    Returns:
        float32 (n, 32, 32), 0 to 1, bilinearly enlarged; all 0 where no part speaks for the class.
    """
    lower, upper = _cut(network)
    maps = ops.convert_to_tensor(lower(images, training=False))
    chosen = ops.one_hot(classes.astype("int32"), network.output.shape[-1])

    def total(maps: Any) -> Any:
        return ops.sum(upper(maps, training=False) * chosen)

    weights = ops.mean(_gradient(total, maps), axis=(1, 2), keepdims=True)
    heat = ops.relu(ops.sum(weights * maps, axis=-1, keepdims=True))
    heat = ops.convert_to_numpy(ops.image.resize(heat, images.shape[1:3]))[..., 0]
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), TINY)


def _compile(network: keras.Model) -> None:
    if not network.compiled:
        network.compile(jit_compile=jit_compile())


def _cut(network: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split the network at its last feature map: up to there, and from there to its logits."""
    logits = network.get_layer("logits").output
    # Inputs of layers, because the output of a nested backbone is not a tensor of the network around it.
    given = (layer.input for layer in network.layers if not isinstance(layer, keras.Model))
    maps = [each for each in given if not isinstance(each, list) and len(each.shape) == 4]
    maps = [each for each in maps if each.shape[-1] > network.input_shape[-1]]
    maps.sort(key=lambda each: min(each.shape[1], MIN_MAP_SIZE))  # stable: the last one that is large enough comes last
    for tensor in reversed(maps):
        try:
            return keras.Model(network.input, tensor), keras.Model(tensor, logits)
        except ValueError:  # a shortcut bypasses this one
            continue
    raise ValueError(f"{network.name} has no feature map without a bypass")


def _gradient(function: Any, maps: Any) -> Any:
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(maps)

    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(maps)
        value = function(maps)
    return tape.gradient(value, maps)
