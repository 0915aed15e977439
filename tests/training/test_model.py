import keras
import numpy as np
import pytest

from cifar10.training.augmentation import Augmentation
from cifar10.training.model import Training


@pytest.fixture
def pictures():
    """Sixteen pictures, each of one shade of its own."""
    return np.repeat(np.arange(16, dtype=np.uint8), 32 * 32 * 3).reshape(16, 32, 32, 3)


@pytest.fixture
def seen():
    """A network whose logits are the pixels that it saw."""
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])


def training(network, pictures, recipe):
    return Training(network, pictures, pictures, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe)


def train(seen, pictures, recipe):
    """What the network saw, and the loss of targets that are 1 for the first eight pictures and 0 for the others."""
    model = training(seen, pictures, recipe)
    model.compile(loss=lambda target, _: keras.ops.mean(target * keras.ops.arange(16.0)[:, None]))
    index = np.arange(16)
    outputs = model(index, training=True)
    targets = keras.ops.convert_to_tensor((np.arange(16) < 8).astype("float32")[:, None])
    loss = float(model.compute_loss(index, targets, outputs, training=True))
    return keras.ops.convert_to_numpy(outputs).reshape(pictures.shape), loss, model


def loss_of(share):
    """Every picture's target is a share of its own and the rest of its counterpart's."""
    own, other = np.arange(16) < 8, np.arange(16) >= 8
    return ((share * own + (1 - share) * other) * np.arange(16)).mean()


def test_training_sees_its_own_pictures_augmented_and_judging_others_as_they_are(seen, recipe):
    shown, judged = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), dtype=np.uint8)
    recipe = recipe(shift=4, mixup=1.0)
    model = Training(seen, shown, judged, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe)
    index = np.array([5, 2, 2])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(index)), judged[index].reshape(3, -1))
    assert (keras.ops.convert_to_numpy(model(index, training=True)) != shown[index].reshape(3, -1)).any()


def test_features_are_neither_augmented_nor_mixed(recipe):
    features = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    network = keras.Sequential([keras.Input((5,)), keras.layers.Identity()])
    model = Training(network, features, features[::-1], None, recipe(shift=4, mixup=1.0))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(np.arange(8), training=True)), features)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(np.arange(8))), features[::-1])


def test_state_is_all_but_the_examples(seen, pictures, recipe):
    model = training(seen, pictures, recipe(shift=2, mixup=1.0))
    before = [np.array(variable) for variable in model.state()]
    assert sum(each.size for each in before) < 100
    first = model(np.arange(16), training=True)
    second = model(np.arange(16), training=True)
    for variable, value in zip(model.state(), before, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(model(np.arange(16), training=True), first)
    assert (np.array(first) != np.array(second)).any()


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
    model = training(network, pictures, recipe)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=True)  # as on a GPU
    index, targets = np.arange(16), np.eye(10, dtype="float32")[np.arange(16) % 10]
    model.fit(index, targets, batch_size=4, verbose=0, callbacks=[Shares()])
    assert len(set(shares)) == 4
