import keras
import numpy as np
import pytest

from cifar10.training.augmentation import Augmentation
from cifar10.training.model import AugmentedTraining


@pytest.fixture
def pictures():
    """Sixteen pictures, each of one shade of its own."""
    return np.repeat(np.arange(16, dtype=np.uint8), 32 * 32 * 3).reshape(16, 32, 32, 3)


@pytest.fixture
def seen():
    """A network whose logits are the pixels that it saw."""
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])


def train(seen, pictures, recipe):
    """What the network saw, and the loss of targets that are 1 for the first eight pictures and 0 for the others."""
    model = AugmentedTraining(seen, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe)
    model.compile(loss=lambda target, _: keras.ops.mean(target * keras.ops.arange(16.0)[:, None]))
    outputs = model(pictures, training=True)
    targets = keras.ops.convert_to_tensor((np.arange(16) < 8).astype("float32")[:, None])
    loss = float(model.compute_loss(pictures, targets, outputs, training=True))
    return keras.ops.convert_to_numpy(outputs).reshape(pictures.shape), loss, model


def loss_of(share):
    """Every picture's target is a share of its own and the rest of its counterpart's."""
    own, other = np.arange(16) < 8, np.arange(16) >= 8
    return ((share * own + (1 - share) * other) * np.arange(16)).mean()


def test_only_training_augments(seen, recipe):
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    model = AugmentedTraining(seen, Augmentation(recipe(shift=4), (0.0, 0.0, 0.0)), recipe(shift=4, mixup=1.0))
    plain = keras.ops.convert_to_numpy(seen(pictures.astype("float32")))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(pictures)), plain)
    assert (keras.ops.convert_to_numpy(model(pictures, training=True)) != plain).any()


def test_without_mixing_targets_stay(seen, pictures, recipe):
    images, loss, _ = train(seen, pictures, recipe())
    np.testing.assert_array_equal(images, pictures)
    assert loss == pytest.approx(loss_of(1.0))


@pytest.mark.parametrize("seed", range(4))
def test_mixup_blends_pictures_and_targets_alike(seen, pictures, recipe, seed):
    images, loss, model = train(seen, pictures, recipe(mixup=1.0, seed=seed))
    share = float(model.share)
    assert 0 < share < 1
    np.testing.assert_allclose(images, share * pictures + (1 - share) * pictures[::-1].astype("float32"), atol=1e-4)
    assert loss == pytest.approx(loss_of(share), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_cutmix_pastes_one_rectangle_and_mixes_targets_by_its_area(seen, pictures, recipe, seed):
    images, loss, model = train(seen, pictures, recipe(cutmix=1.0, seed=seed))
    pasted = (images == pictures[::-1]).all(axis=-1)
    np.testing.assert_array_equal(images[~pasted], pictures[~pasted])
    assert (pasted == pasted[0]).all()
    rows, columns = pasted[0].any(axis=1).sum(), pasted[0].any(axis=0).sum()
    assert pasted[0].sum() == rows * columns
    assert float(model.share) == pytest.approx(1 - rows * columns / 1024)
    assert loss == pytest.approx(loss_of(1 - rows * columns / 1024), rel=1e-4)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_each_step_of_fit_mixes_anew(pictures, recipe, mixing):
    class Shares(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            shares.append(float(self.model.share))

    shares = []
    recipe = recipe(**{mixing: 1.0})
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    )
    model = AugmentedTraining(network, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=True)  # as on a GPU
    model.fit(pictures, np.eye(10, dtype="float32")[np.arange(16) % 10], batch_size=4, verbose=0, callbacks=[Shares()])
    assert len(set(shares)) == 4
