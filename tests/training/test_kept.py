"""What version 1 of the engine wrote is read, found and resumed by every later version of the code.

The files in `tests/data` were written once, by `python -m tests.training.test_kept`: a model with its record, and
the checkpoint of the same training after the first of its two epochs. They are never written again, except if
`identity.ENGINE_VERSION` is raised: if a test here fails, later code cannot use the models and checkpoints of users.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import pytest

from cifar10.contracts import Examples, Statistics
from cifar10.datasets.model import ModelDataset, Models
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.fit import fit
from cifar10.training.identity import identity_of
from cifar10.training.progress import Progress
from cifar10.training.recipe import Recipe

KEPT = Path(__file__).parents[1] / "data"
MODELS, CHECKPOINTS = KEPT / "06_models", KEPT / "06_models/simple_cnn_checkpoint"
CLASS_NAMES = ["dark", "bright", "striped"]
RECIPE = Recipe(
    epochs=2, batch_size=8, optimizer="muon", learning_rate=0.05, weight_decay=0.01, gradient_clip=5.0,
    schedule="triangular", warmup=0.2, label_smoothing=0.1, flip="alternating", shift=2, cutout=4, rotation=5.0,
    mixup=0.2, examples=48, seed=3, compute_dtype="float32",
)  # fmt: skip


def split(count: int) -> Examples:
    """Return images of three kinds, without random numbers."""
    labels = (np.arange(count) % 3).astype(np.uint8)
    places = np.arange(count * 3072).reshape(count, 32, 32, 3)
    images = 40 + 80 * labels[:, None, None, None] + places * 7919 % 50
    images[labels == 2, ::4] = 0
    return Examples(images.astype(np.uint8), labels)


TRAIN, VAL = split(60), split(30)
STATISTICS = Statistics(
    mean=(120.0, 121.0, 122.0), std=(60.0, 61.0, 62.0), patch_covariance=((1.0,),),
    digests={"train": TRAIN.digest, "val": VAL.digest}, data_version=f"{TRAIN.digest}{VAL.digest}",
)  # fmt: skip


def build(name: str, num_classes: int, statistics: Statistics) -> keras.Model:
    """Build a tiny network in place of the architecture."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.Rescaling([1 / std for std in statistics.std], name="standardise")(inputs)
    x = layers.Conv2D(4, 3, 2, activation="relu", name="conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Dropout(0.1, name="dropout")(layers.GlobalAveragePooling2D(name="features")(x))
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name=name)


def train(folder: Path, recipe: Recipe = RECIPE, **options):
    """Train it, and return the model and its history."""
    with mock.patch("cifar10.training.fit.build", build):
        return fit("simple_cnn", TRAIN, VAL, STATISTICS, CLASS_NAMES, recipe, Checkpoints(folder), **options)


@pytest.fixture
def record():
    return Models(MODELS).load("simple_cnn").record


def test_record_is_read(record):
    assert (record.architecture, record.class_names, record.seed) == ("simple_cnn", CLASS_NAMES, 3)
    assert (record.epochs, len(record.history), len(record.layers)) == (2, 2, 9)
    assert record.recipe_hash == RECIPE.hash
    assert (record.training_examples, record.devices) == (48, 1)
    assert record.data_version == STATISTICS.data_version


def test_network_is_read(record):
    network = Models(MODELS).load("simple_cnn").load_network()
    accuracy = (network.predict(VAL.images, verbose=0).argmax(axis=1) == VAL.labels).mean()
    assert accuracy == pytest.approx(record.val_accuracy)


def test_identity_of_the_record_is_that_of_the_checkpoint(record):
    identity = {**identity_of(record), "backend": "tensorflow"}
    (folder,) = CHECKPOINTS.iterdir()
    assert Checkpoints(CHECKPOINTS)._folder_of(identity) == folder


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is a training on TensorFlow")
def test_checkpoint_is_resumed_with_the_same_result(record, tmp_path, caplog):
    """Up to rounding: otherwise, the arithmetic of training has changed."""
    caplog.set_level("INFO")
    folder = shutil.copytree(CHECKPOINTS, tmp_path / "checkpoint")
    trained, history = train(folder)
    assert "simple_cnn: resuming after epoch 1" in caplog.text
    assert trained.record.fingerprint == record.fingerprint
    check(history, record)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is a training on TensorFlow")
def test_training_from_scratch_has_the_same_result(record, tmp_path):
    check(train(tmp_path)[1], record)


def check(history, record):
    for name in ("learning_rate", "loss", "val_loss"):
        assert history[name].tolist() == pytest.approx([row[name] for row in record.history], rel=2e-3), name


def keep() -> None:
    """Write the files."""
    from kedro.io import Version

    shutil.rmtree(KEPT, ignore_errors=True)
    add = Progress.add

    def add_and_stop(progress, row, variables):
        add(progress, row, variables)
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt), mock.patch.object(Progress, "add", add_and_stop):
        train(CHECKPOINTS)
    for lock in CHECKPOINTS.glob("*/lock"):
        lock.unlink()
    model, _ = train(KEPT / "whole")
    shutil.rmtree(KEPT / "whole")
    path = MODELS / "simple_cnn.keras"
    ModelDataset(filepath=str(path), version=Version(None, "2026-01-01T00.00.00.000Z")).save(model)


if __name__ == "__main__":
    keep()
