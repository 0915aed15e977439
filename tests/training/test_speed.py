"""Training speed compared with a plain Keras script."""

import time

import keras
import numpy as np
import pytest

from cifar10.architectures import build
from cifar10.pipelines.benchmark.throughput import measuring
from cifar10.training.recipe import RECIPES


def plain_script(network, images, labels, batch_size):
    """Return the seconds of an epoch in float32 with an `ImageDataGenerator` that flips and shifts, after a warm-up."""
    tf = pytest.importorskip("tensorflow")
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rescale=1 / 255, horizontal_flip=True, width_shift_range=2 / 32, height_shift_range=2 / 32
    )
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    network.fit(generator.flow(images[: 4 * batch_size], labels[: 4 * batch_size], batch_size), verbose=0)
    started = time.perf_counter()
    network.fit(generator.flow(images, labels, batch_size), verbose=0)
    return time.perf_counter() - started


@pytest.mark.slow
def test_faster_than_a_plain_keras_script(blocks, statistics, capsys):
    """`batchnorm_cnn` at batch size 64, both measured five times in turn."""
    name, batch_size, count = "batchnorm_cnn", 64, 3200
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 10
    recipe = RECIPES[name](**{**blocks[name], "shift": 2})
    network = build(name, 10, statistics)
    ours, theirs = [], []
    with measuring(name, recipe, "auto") as ask:
        for _ in range(5):
            ours.append(ask("train", batch_size, 3.0)[0])
            theirs.append(count / plain_script(network, images, labels, batch_size))
        compute_dtype = ask("describe").compute_dtype
    ratios = np.divide(ours, theirs)
    with capsys.disabled():
        print(f"\n{name}, batch size {batch_size}, images/s: {np.median(ours):,.0f} ({compute_dtype}); plain script: "
              f"{np.median(theirs):,.0f}; {np.median(ratios):.1f} times faster "
              f"({ratios.min():.1f} to {ratios.max():.1f})")  # fmt: skip
    assert np.median(ratios) > (2 if compute_dtype == "bfloat16" else 1.2)
