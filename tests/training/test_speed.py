"""What the engine is worth beside the script that many begin with."""

import time

import keras
import numpy as np
import pytest
import yaml

from cifar10.architectures import build
from cifar10.pipelines.benchmark.throughput import measuring
from cifar10.training.recipe import RECIPES
from tests.conftest import PROJECT


def plain_script(network, images, labels, batch_size):
    """Seconds of an epoch in float32, with an `ImageDataGenerator` that flips and shifts; its first batches untimed."""
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
def test_faster_than_a_plain_keras_script(statistics, capsys):
    """`batchnorm_cnn` at batch 64, both sides in turn, five times."""
    name, batch_size, pictures = "batchnorm_cnn", 64, 3200
    images = np.random.default_rng(0).integers(0, 256, (pictures, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(pictures) % 10
    blocks = yaml.safe_load((PROJECT / "conf/base/parameters_architectures.yml").read_text())
    recipe = RECIPES[name](**{**blocks[name], "shift": 2})
    network = build(name, 10, statistics)
    ours, theirs = [], []
    with measuring(name, recipe, "auto") as ask:
        for _ in range(5):
            ours.append(ask("train", batch_size, 3.0)[0])
            theirs.append(pictures / plain_script(network, images, labels, batch_size))
        precision = ask("describe").precision
    ratios = np.divide(ours, theirs)
    with capsys.disabled():
        print(f"\n{name}, batch {batch_size}, pictures a second: {np.median(ours):,.0f} ({precision}); a plain script: "
              f"{np.median(theirs):,.0f}; {np.median(ratios):.1f} times as fast "
              f"({ratios.min():.1f} to {ratios.max():.1f})")  # fmt: skip
    assert np.median(ratios) > (2 if precision == "bfloat16" else 1.2)
