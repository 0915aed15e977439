"""Training on images of lower resolution in the first epochs."""

import keras
import numpy as np
import pytest

from cifar10.architectures import ARCHITECTURES, build
from cifar10.compute.layers import at_resolution
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.cost import recipe_flops
from cifar10.training.fit import fit
from cifar10.training.model import TrainingModel
from cifar10.training.recipe import Recipe
from tests.helpers import CLASS_NAMES, LARGE, slow
from tests.training.interruptions import check_same, interrupt

FIXED = {  # network -> sides in pixels at which its layers do not fit, of 16, 24 and 25
    "simple_cnn": {16, 24, 25},  # a dense layer on all pixels
    "batchnorm_cnn": {16, 24, 25},
    "airbench94": {16, 24},  # its last pooling sees 3x3 pixels
    **{name: {16, 24, 25} for name, module in ARCHITECTURES.items() if module == "vgg"},  # five times halved
}


def small_network(*_, **__):
    """Return a network that is fast to train and does not flatten, under the name of one that does."""
    layers = keras.layers
    stack = [
        *(layers.Conv2D(8, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU()),
        *(layers.MaxPooling2D(), layers.Conv2D(16, 3, padding="same"), layers.GlobalAveragePooling2D(name="features")),
        layers.Dense(10, name="logits"),
    ]
    return keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 255), *stack], name="simple_cnn")


@pytest.fixture
def train_small(drawn, recipe, tmp_path_factory, monkeypatch):
    """Train that network on 300 images, except for what the arguments change."""
    monkeypatch.setattr("cifar10.training.fit.build", small_network)
    splits = drawn[0].take(slice(300)), drawn[0].take(slice(300, None))
    statistics = measure(*splits, drawn[1])
    base = {"epochs": 6, "batch_size": 32, "optimizer": "sgd", "schedule": "triangular", "learning_rate": 0.1,
            "early_stopping": None, "shift": 2}  # fmt: skip

    def make(checkpoints=None, **changes):
        checkpoints = checkpoints or Checkpoints(tmp_path_factory.mktemp("checkpoints"))
        return fit("simple_cnn", *splits, statistics, CLASS_NAMES, recipe(**{**base, **changes}), checkpoints)

    return make


# Networks that sides which cannot be halved twice may treat otherwise: they crop, pool what is left, or flatten.
ODD = {*FIXED, "densenet121", "nasnetmobile"}


@pytest.mark.parametrize("name", slow(LARGE, [name for name, module in ARCHITECTURES.items() if module != "imagenet"]))
def test_networks_that_fit_share_their_weights_and_others_are_refused(name, statistics):
    network = build(name, 10, statistics)
    for size in (16, 24, 25) if name in ODD else (16, 24):
        if size in FIXED.get(name, ()):
            with pytest.raises(
                InputError, match=rf"^{name}: it cannot be trained on images of {size} pixels.*Remove {size}"
            ):
                at_resolution(network, size)
            continue
        smaller = at_resolution(network, size)
        assert smaller.input_shape == (None, size, size, 3)
        assert [id(each) for each in smaller.variables] == [id(each) for each in network.variables]
        assert network.get_layer("logits").output.shape == (None, 10)  # the network is as it was


class Side(keras.layers.Layer):
    """Returns the side of the images that it gets."""

    def call(self, images):
        return keras.ops.ones_like(images[:, 0, 0, :1]) * images.shape[1]


def test_each_epoch_trains_at_its_resolution_and_predicts_at_32():
    network = keras.Sequential([keras.Input((32, 32, 3)), Side(name="logits")], name="side")
    images, index = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    model = TrainingModel(network, images, images, sides=[16, 24, 16])
    for epoch, side in enumerate([16, 24, 16, 32, 32]):
        model.start_epoch(epoch)
        assert np.unique(model(index, training=True)) == [side]
        assert np.unique(model(index)) == [32]


def test_resolutions_are_logged_and_change_no_learning_rate(train_small, caplog):
    caplog.set_level("INFO", "cifar10")
    _, reduced = train_small(epochs=2, resolutions=[16, 32])
    lines = [record.message for record in caplog.records if "val_accuracy" in record.message]
    for epoch, side in enumerate((16, 32), start=1):
        assert f"epoch {epoch} of 2 at {side} pixels: " in lines[epoch - 1]
    _, plain = train_small(epochs=2)
    assert list(plain.learning_rate) == list(reduced.learning_rate)
    assert (plain.loss != reduced.loss).all()


@pytest.mark.parametrize(
    ("epochs", "resolutions", "expected"),
    [
        (3, None, [32, 32, 32]),
        (6, [16, 24, 32], [16, 16, 24, 24, 32, 32]),
        (5, [16, 24, 32], [16, 24, 24, 32, 32]),
        (2, [16, 24, 32], [24, 32]),
        (1, [16, 24, 32], [32]),
        (4, [16, 16, 16, 32], [16, 16, 16, 32]),
    ],
)
def test_resolutions_divide_the_epochs_evenly_and_the_last_is_at_32(recipe, epochs, resolutions, expected):
    assert recipe(epochs=epochs, resolutions=resolutions).sides == expected


def test_interrupted_training_ends_like_an_uninterrupted_one(train_small, checkpoints, monkeypatch):
    """Whether it stops between two epochs of one resolution or of two."""
    changes = {"epochs": 4, "resolutions": [16, 16, 32, 32]}
    uninterrupted = train_small(**changes)
    interrupt(monkeypatch, lambda: train_small(checkpoints, **changes), epochs=(1, 2))
    check_same(train_small(checkpoints, **changes), uninterrupted)


def test_bad_resolution_is_refused_before_anything_is_saved(train_small, monkeypatch, tmp_path, statistics):
    monkeypatch.setattr("cifar10.training.fit.build", build)
    with pytest.raises(InputError, match=r"^simple_cnn: .* images of 16 pixels.*simple_cnn\.resolutions=null\.$"):
        train_small(Checkpoints(tmp_path / "checkpoints"), resolutions=[16, 32])
    assert not list(tmp_path.rglob("epoch_*"))


def test_cost_counts_each_epoch_at_its_resolution(statistics):
    """Of a network whose cost is in proportion to the pixels, but for its few operations after them."""
    network = small_network()
    values = {"epochs": 4, "batch_size": 8, "optimizer": "sgd", "learning_rate": 0.1, "schedule": "cosine", "seed": 0}
    plain, reduced = (Recipe(**values, resolutions=each) for each in (None, [16, 24, 32, 32]))
    costs = [recipe_flops(network, each, 1000) for each in (plain, reduced)]
    assert costs[1] / costs[0] == pytest.approx((0.25 + 0.5625 + 2) / 4, rel=1e-3)
