"""What the network gets to see in training and validation, and the loss it is trained with."""

import keras
import numpy as np
import pytest

from cifar10.training.augmentation import Augmentation, make_mixing
from cifar10.training.model import TrainingModel

BLACK = (0.0, 0.0, 0.0)


@pytest.fixture
def images():
    """Sixteen images, each of one shade."""
    return np.repeat(np.arange(16, dtype=np.uint8), 32 * 32 * 3).reshape(16, 32, 32, 3)


@pytest.fixture
def identity():
    """A network whose logits are the pixels of its input."""
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])


def make_model(network, images, recipe):
    return TrainingModel(network, images, images, Augmentation(recipe, BLACK), make_mixing(recipe))


def train(identity, images, recipe):
    """Return the network's inputs, the loss for targets 1 (first eight images) and 0 (others), and the model."""
    model = make_model(identity, images, recipe)
    model.compile(loss=lambda target, _: keras.ops.mean(target * keras.ops.arange(16.0)[:, None]))
    index = np.arange(16)
    outputs = model(index, training=True)
    targets = keras.ops.convert_to_tensor((np.arange(16) < 8).astype("float32")[:, None])
    loss = float(model.compute_loss(index, targets, outputs, training=True))
    return keras.ops.convert_to_numpy(outputs).reshape(images.shape), loss, model


def expected_loss(weight):
    """Return the loss if the target of each image has that weight, and that of its counterpart the rest."""
    own, other = np.arange(16) < 8, np.arange(16) >= 8
    return ((weight * own + (1 - weight) * other) * np.arange(16)).mean()


def test_train_images_are_augmented_and_val_images_unchanged(identity, recipe):
    train_images, val_images = np.random.default_rng(0).integers(0, 256, (2, 8, 32, 32, 3), dtype=np.uint8)
    recipe = recipe(shift=4, mixup=1.0)
    model = TrainingModel(identity, train_images, val_images, Augmentation(recipe, BLACK), make_mixing(recipe))
    index = np.array([5, 2, 2])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(index)), val_images[index].reshape(3, -1))
    assert (keras.ops.convert_to_numpy(model(index, training=True)) != train_images[index].reshape(3, -1)).any()


def test_features_are_neither_augmented_nor_mixed():
    features = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    network = keras.Sequential([keras.Input((5,)), keras.layers.Identity()])
    model = TrainingModel(network, features, features[::-1])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(np.arange(8), training=True)), features)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(np.arange(8))), features[::-1])


def test_state_is_everything_but_the_examples(identity, images, recipe):
    model = make_model(identity, images, recipe(shift=2, mixup=1.0))
    before = [np.array(variable) for variable in model.state()]
    assert sum(each.size for each in before) < 100
    first = model(np.arange(16), training=True)
    second = model(np.arange(16), training=True)
    for variable, value in zip(model.state(), before, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(model(np.arange(16), training=True), first)
    assert (np.array(first) != np.array(second)).any()


def test_without_mixing_images_and_targets_are_unchanged(identity, images, recipe):
    inputs, loss, model = train(identity, images, recipe())
    np.testing.assert_array_equal(inputs, images)
    assert loss == pytest.approx(expected_loss(1.0))
    assert model.mixing is None


@pytest.mark.parametrize("seed", range(4))
def test_mixup_blends_images_and_targets_by_the_same_weight(identity, images, recipe, seed):
    inputs, loss, model = train(identity, images, recipe(mixup=1.0, seed=seed))
    weight = float(model.mixing.weight)
    assert 0 < weight < 1
    np.testing.assert_allclose(inputs, weight * images + (1 - weight) * images[::-1].astype("float32"), atol=1e-4)
    assert loss == pytest.approx(expected_loss(weight), rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_cutmix_pastes_one_rectangle_and_mixes_targets_by_its_area(identity, images, recipe, seed):
    inputs, loss, model = train(identity, images, recipe(cutmix=1.0, seed=seed))
    pasted = (inputs == images[::-1]).all(axis=-1)
    np.testing.assert_array_equal(inputs[~pasted], images[~pasted])
    assert (pasted == pasted[0]).all()
    rows, columns = pasted[0].any(axis=1).sum(), pasted[0].any(axis=0).sum()
    assert pasted[0].sum() == rows * columns
    assert float(model.mixing.weight) == pytest.approx(1 - rows * columns / 1024)
    assert loss == pytest.approx(expected_loss(1 - rows * columns / 1024), rel=1e-4)


@pytest.mark.parametrize("options", [{"mixup": 0.2}, {"cutmix": 0.2}, {"cutmix": 1.0}])
def test_weights_are_drawn_from_the_beta_distribution_of_the_recipe(recipe, options):
    weights = make_mixing(recipe(**options)).weights_drawn
    (alpha,) = options.values()
    assert weights.mean() == pytest.approx(0.5, abs=0.03)
    assert weights.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_square_of_cutmix_has_the_share_of_the_other_image(images, recipe):
    """With a weight of 3/4, a quarter of the pixels: 16 by 16, less at the border."""
    mixing = make_mixing(recipe(cutmix=1.0))
    mixing.weights_drawn = np.full(1, 0.75, "float32")
    pasted = [np.array(mixing(images.astype("float32")))[0, ..., 0] != 0 for _ in range(20)]
    assert max(each.any(axis=1).sum() for each in pasted) == max(each.any(axis=0).sum() for each in pasted) == 16


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_each_step_of_fit_draws_a_new_weight(images, recipe, mixing):
    class Weights(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(float(self.model.mixing.weight))

    weights = []
    recipe = recipe(**{mixing: 1.0})
    network = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)]
    )
    model = make_model(network, images, recipe)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True), jit_compile=True)  # as on a GPU
    index, targets = np.arange(16), np.eye(10, dtype="float32")[np.arange(16) % 10]
    model.fit(index, targets, batch_size=4, verbose=0, callbacks=[Weights()])
    assert len(set(weights)) == 4
