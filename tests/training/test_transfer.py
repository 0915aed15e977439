"""Transfer learning: the head on features of the backbone, then fine-tuning."""

import logging
import os

import keras
import numpy as np
import pytest

from cifar10.architectures import build
from cifar10.contracts import Examples
from cifar10.datasets.drawn import DrawnBatchesDataset
from cifar10.errors import InputError
from cifar10.pipelines.ingestion.nodes import read_batches
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training.augmentation import Augmentation
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.fit import fit
from cifar10.training.frozen import create_mapped, head, make_cache, split
from cifar10.training.model import TrainingModel
from cifar10.training.phase import optimise
from cifar10.training.progress import Progress
from cifar10.training.recipe import RECIPES
from cifar10.training.transfer import fine_tune, train_backbone, train_head, unfreeze
from tests.helpers import CLASS_NAMES, eagerly
from tests.training.interruptions import check_same, interrupt

NAME = "mobilenetv2_imagenet"
LAST = 7  # layers of the small backbone: its block, with the shortcut around it
IDENTITY = {"architecture": NAME, "recipe": {}}
FACTS = {"compute_dtype": "float32"}

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def splits(drawn):
    return drawn[0].take(slice(96)), drawn[0].take(slice(300, None))


@pytest.fixture(scope="module")
def statistics(splits, drawn):
    return measure(*splits, drawn[1])


@pytest.fixture(scope="module")
def small_mobilenet(statistics, tmp_path_factory):
    """Return the network at about a third of its width, with random weights."""

    def make(recipe):
        options = {"include_top": False, "input_shape": (recipe.image_size, recipe.image_size, 3)}
        weights = tmp_path_factory.mktemp("weights") / "small.weights.h5"
        keras.applications.MobileNetV2(alpha=recipe.alpha, weights=None, **options).save_weights(weights)
        return build(NAME, 10, statistics, **{**recipe.builder_options(), "weights": str(weights)})

    return make


def small_network(*_, head_units, head_dropout, **__):
    """Return a network that is fast to build and to train, under the name of one with a backbone of ImageNet."""
    layers, start = keras.layers, {"kernel_initializer": "he_normal", "padding": "same", "use_bias": False}
    x = inputs = keras.Input((32, 32, 3))
    for filters in (8, 16):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, 2, **start)(x)))
    inner = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, **start)(x)))
    inner = layers.BatchNormalization()(layers.Conv2D(16, 3, **start)(inner))
    backbone = keras.Model(inputs, layers.ReLU()(layers.Add()([x, inner])), name="backbone")

    images = keras.Input((32, 32, 3))
    x = backbone(layers.Rescaling(1 / 127.5, -1)(images), training=False)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dense(head_units, activation="relu", name="head_dense")(x)
    x = layers.BatchNormalization(momentum=0.9, name="head_norm")(x)
    x = layers.Dropout(head_dropout, name="head_dropout")(x)
    return keras.Model(images, layers.Dense(10, name="logits")(x), name=NAME)


@pytest.fixture(scope="module")
def transfer_recipe(blocks, builder_options):
    quick = {"epochs": 1, "batch_size": 32, "head_epochs": 2, "unfreeze": LAST}

    def make(**changes):
        return RECIPES[NAME](**{**blocks[NAME], **builder_options(NAME), **quick, **changes})

    return make


@pytest.fixture
def network(builder_options):
    keras.utils.set_random_seed(0)
    return small_network(**builder_options(NAME))


@pytest.fixture
def train_small(splits, statistics, monkeypatch):
    """Train that network by a recipe."""
    monkeypatch.setattr("cifar10.training.fit.build", small_network)
    return lambda recipe, checkpoints: fit(NAME, *splits, statistics, CLASS_NAMES, recipe, checkpoints)


@pytest.fixture
def start(checkpoints):
    """Return the progress of a training that starts with that network."""
    return lambda network: Progress(network, checkpoints, IDENTITY, FACTS)


class NoAugmentation(keras.layers.Layer):
    """In place of the augmentation: leaves the images unchanged."""

    def __init__(self):
        super().__init__()
        self.epoch = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False)

    def call(self, images):
        return keras.ops.cast(images, "float32")


def values(variables):
    return {variable.path: keras.ops.convert_to_numpy(variable) for variable in variables}


def changed(before, variables):
    return {path for path, value in values(variables).items() if not np.array_equal(value, before[path])}


def test_head_is_trained_on_features_and_the_backbone_is_not(network, splits, transfer_recipe, start):
    before = values(network.weights)
    progress = start(network)
    train_head(*splits, NoAugmentation(), transfer_recipe(), progress)
    trained = {path.split("/")[0] for path in changed(before, network.weights)}
    assert trained == {"head_dense", "head_norm", "logits"}
    assert [row["phase"] for row in progress.history] == ["head", "head"]


def test_divergence_of_the_head_names_its_own_options(network, splits, transfer_recipe, start):
    message = rf"^{NAME}: the .* not finite.* lower its head_learning_rate \(now 1e\+30\)"
    with pytest.raises(InputError, match=message):
        train_head(*splits, NoAugmentation(), transfer_recipe(head_learning_rate=1e30), start(network))


def test_out_of_memory_in_the_head_names_its_own_options(network, splits, transfer_recipe, start, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("cifar10.training.model.TrainingModel.fit", fail)
    message = rf"^{NAME}: there is not enough memory .* Lower its batch_size, and the head_learning_rate with it"
    with pytest.raises(InputError, match=message):
        train_head(*splits, NoAugmentation(), transfer_recipe(), start(network))


def test_features_and_head_together_are_the_network(network, splits):
    images = splits[0].images[:4].astype("float32")
    features = keras.Model(network.input, network.get_layer("features").output)
    np.testing.assert_allclose(head(network)(features(images)), network(images), rtol=1e-3, atol=1e-3)


def head_inputs(network, splits, augmentation, recipe, monkeypatch):
    """Return the training inputs of the head, their targets, and its validation inputs."""
    seen = []
    monkeypatch.setattr("cifar10.training.transfer.optimise", lambda *arguments, **_: seen.append(arguments[:2]))
    train_head(*splits, augmentation, recipe, Progress(network, None, {}, {}))
    ((model, targets),) = seen
    assert model.augmentation is model.mixing is None  # the inputs are features
    return np.array(model.train_inputs), targets, np.array(model.val_inputs)


@pytest.mark.parametrize(("flip", "copies"), [("random", 3), ("none", 1)])
def test_each_copy_has_every_image(network, splits, transfer_recipe, monkeypatch, flip, copies):
    """Without augmentation the copies would be the same."""
    recipe = transfer_recipe(feature_copies=3, flip=flip, shift=0)
    features, targets, val_features = head_inputs(network, splits, NoAugmentation(), recipe, monkeypatch)
    assert len(features) == len(targets) == copies * 96
    np.testing.assert_allclose(features[:96], features[-96:], atol=1e-5)
    np.testing.assert_array_equal(targets[:96], targets[-96:])
    assert len(val_features) == len(splits[1].labels)


def test_each_copy_is_augmented_anew_and_val_images_are_not(network, splits, transfer_recipe, monkeypatch):
    recipe = transfer_recipe(feature_copies=2, flip="random", shift=4, mixup=1.0)
    augmentation = Augmentation(recipe, (0.0, 0.0, 0.0))
    features, _, val_features = head_inputs(network, splits, augmentation, recipe, monkeypatch)
    plain = keras.Model(network.input, network.get_layer("features").output)
    plain_train, plain_val = (keras.ops.convert_to_numpy(plain(split.images.astype("float32"))) for split in splits)
    first, second = np.split(features, 2)
    for one, other in ((first, second), (first, plain_train), (second, plain_train)):
        assert (abs(one - other).max(axis=1) > 1e-3).mean() > 0.9
    np.testing.assert_allclose(val_features, plain_val, atol=0.01)


@pytest.mark.parametrize("unfreeze", [LAST, 14])
def test_fine_tuning_trains_the_last_layers_except_batch_norms(network, splits, transfer_recipe, start, unfreeze):
    backbone = network.get_layer("backbone")
    before = values(backbone.variables)
    fine_tune(*splits, NoAugmentation(), transfer_recipe(unfreeze=unfreeze, learning_rate=0.01), start(network))
    moved = changed(before, backbone.variables)
    last = backbone.layers[-unfreeze:]
    expected = [layer for layer in last if layer.weights and not isinstance(layer, keras.layers.BatchNormalization)]
    assert moved == {weight.path for layer in expected for weight in layer.weights}
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in last)


def test_frozen_layers_drop_nothing_while_the_last_ones_are_trained():
    inputs = keras.Input((4,))
    frozen = keras.layers.Dropout(0.9, name="frozen")(inputs)
    trained = keras.layers.Dropout(0.9, name="trained")(keras.layers.Dense(100, name="dense")(frozen))
    backbone = keras.Model(inputs, trained, name="backbone")
    outputs = backbone(inputs, training=False)
    unfreeze(keras.Model(inputs, outputs), 2)
    images = np.ones((8, 4), "float32")
    kept, thinned = keras.Model(inputs, [frozen, trained])(images, training=True)
    np.testing.assert_array_equal(kept, images)
    assert 0.5 < (np.array(thinned) == 0).mean() < 1


@eagerly(False)
def test_both_phases_and_their_record(train_small, splits, transfer_recipe, checkpoints):
    trained, history = train_small(transfer_recipe(head_epochs=3, epochs=2), checkpoints)
    assert list(history.phase) == ["head"] * 3 + ["fine-tuning"] * 2
    assert list(history.epoch) == [1, 2, 3, 4, 5]
    record = trained.record
    assert record.initial_weights.startswith(f"{NAME}.weights.h5 (")
    assert (record.image_size, record.recipe["alpha"]) == (32, 1.0)
    assert record.phases.keys() == {"head", "fine-tuning"}
    assert record.val_accuracy == max(phase["val_accuracy"] for phase in record.phases.values())
    accuracy = (trained.load_network().predict(splits[1].images, verbose=0).argmax(axis=1) == splits[1].labels).mean()
    assert record.val_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert history.val_accuracy[record.best_epoch - 1] == pytest.approx(accuracy, abs=1e-6)


def test_head_alone(train_small, transfer_recipe, checkpoints):
    _, history = train_small(transfer_recipe(unfreeze=0), checkpoints)
    assert list(history.phase) == ["head"] * 2


def test_fine_tuning_without_improvement_is_undone(train_small, splits, transfer_recipe, checkpoints, caplog):
    recipe = transfer_recipe(
        head_epochs=20,
        head_learning_rate=0.005,
        head_dropout=0.0,
        unfreeze=14,
        learning_rate=10.0,
        gradient_clip=100.0,
        warmup=0.0,
    )
    with caplog.at_level(logging.WARNING, "cifar10"):
        trained, history = train_small(recipe, checkpoints)
    assert "fine-tuning did not improve it" in caplog.text
    record = trained.record
    assert record.best_epoch <= 20
    assert len(history) == 21
    accuracy = (trained.load_network().predict(splits[1].images, verbose=0).argmax(axis=1) == splits[1].labels).mean()
    assert record.val_accuracy == pytest.approx(accuracy, abs=1e-6)


def test_several_processes_cannot_share_a_cache(network, splits, transfer_recipe, start, monkeypatch):
    """One process would fine-tune on the same augmented copies in each epoch, several on new ones."""
    monkeypatch.setattr("cifar10.training.frozen.several_processes", lambda: True)
    with pytest.raises(InputError, match=rf"several processes cannot use cache_gb.* Set {NAME}\.cache_gb=null"):
        make_cache(*splits, NoAugmentation(), transfer_recipe(cache_gb=1.0), start(network))


@pytest.mark.parametrize("count", [1, LAST, 10])
def test_parts_together_are_the_network(network, splits, count):
    images = splits[0].images[:4].astype("float32")
    parts = split(network, count)
    middle = parts.frozen(images)
    np.testing.assert_allclose(parts.trained(middle), network(images), rtol=1e-3, atol=1e-3)
    features = keras.Model(network.input, network.get_layer("features").output)
    np.testing.assert_allclose(parts.features(middle), features(images), rtol=1e-3, atol=1e-3)
    backbone = network.get_layer("backbone")
    last = {id(weight) for layer in backbone.layers[-count:] for weight in layer.weights}
    assert not last & {id(weight) for weight in parts.frozen.weights}
    assert last <= {id(weight) for weight in parts.trained.weights}


def test_a_shortcut_around_the_first_trained_layer_cannot_be_cut(network, splits, transfer_recipe, start, caplog):
    """The last four layers begin inside a block, whose input they add to its output."""
    caplog.set_level(logging.INFO, "cifar10")
    assert split(network, 4) is None
    assert split(network, len(network.get_layer("backbone").layers)) is None  # nothing is frozen
    recipe = transfer_recipe(unfreeze=4, cache_gb=1.0)
    assert make_cache(*splits, NoAugmentation(), recipe, start(network)) is None
    assert "cache_gb is not used, because its trained layers have no single input" in caplog.text


def test_cache_has_each_copy_augmented_anew_and_val_images_as_they_are(network, splits, transfer_recipe, start):
    recipe = transfer_recipe(feature_copies=2, flip="random", shift=4, cache_gb=1.0)
    progress = start(network)
    progress.checkpoints.folder.mkdir()
    cache = make_cache(*splits, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe, progress)
    plain_train, plain_val = (np.asarray(cache.parts.frozen(each.images.astype("float32"))) for each in splits)
    assert cache.train.shape == (2, *plain_train.shape)
    assert isinstance(cache.train, np.memmap)
    for one, other in ((*cache.train,), (cache.train[0], plain_train), (cache.train[1], plain_train)):
        assert (abs(one - other).max(axis=(1, 2, 3)) > 1e-2).mean() > 0.9
    np.testing.assert_allclose(cache.val, plain_val, rtol=2e-3, atol=1e-2)


def test_cache_that_would_be_too_large_is_not_made(network, splits, transfer_recipe, start, caplog):
    caplog.set_level(logging.INFO, "cifar10")
    progress = start(network)
    assert make_cache(*splits, NoAugmentation(), transfer_recipe(cache_gb=1e-6), progress) is None
    assert "cache_gb is not used, because 0.0 GB would be needed" in caplog.text
    assert not list(progress.checkpoints.folder.rglob("*.npy"))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="space cannot be reserved")
def test_the_space_of_a_cache_is_reserved(tmp_path):
    """The system ends a process that writes to a mapped file for which the disk has no space."""
    path = tmp_path / "array.npy"
    array = create_mapped(path, (3, 1000, 100))
    assert (array.shape, array.dtype) == ((3, 1000, 100), np.float16)
    assert 512 * path.stat().st_blocks >= path.stat().st_size > array.nbytes


def test_what_float16_cannot_hold_is_refused(network, splits, transfer_recipe, start, monkeypatch):
    monkeypatch.setattr(
        "cifar10.training.frozen.infer", lambda model, images, size: np.full((len(images), 1, 1, 1), 1e5)
    )
    progress = start(network)
    with pytest.raises(InputError, match=rf"exceeds the range of float16.* Set {NAME}\.cache_gb=null"):
        make_cache(*splits, NoAugmentation(), transfer_recipe(cache_gb=1.0), progress)
    assert not list(progress.checkpoints.folder.rglob("*.npy"))


def test_each_epoch_trains_on_the_next_copy(network, splits, transfer_recipe, start, monkeypatch):
    seen = []

    def record(model, *_, **__):
        for epoch in range(3):
            model.start_epoch(epoch)
            seen.append(np.asarray(model.train_inputs))

    monkeypatch.setattr("cifar10.training.transfer.optimise", record)
    recipe = transfer_recipe(feature_copies=2, flip="random", shift=4, cache_gb=1.0)
    progress = start(network)
    progress.history.append({"val_accuracy": 0.5, "phase": "fine-tuning"})
    progress.best_epoch = 1
    cache = make_cache(*splits, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe, progress)
    fine_tune(*splits, NoAugmentation(), recipe, progress, cache)
    assert [each.dtype for each in seen] == ["float16"] * 3
    np.testing.assert_array_equal(seen, [cache.train[0], cache.train[1], cache.train[0]])


def test_training_with_a_cache_is_the_one_without_it(train_small, transfer_recipe, tmp_path):
    """Up to the rounding to float16, where every epoch sees the same images."""
    options = {"flip": "none", "shift": 0, "head_dropout": 0.0, "epochs": 2, "learning_rate": 0.0001}
    histories = []
    for cache_gb in (None, 1.0):
        recipe = transfer_recipe(**options, cache_gb=cache_gb)
        histories.append(train_small(recipe, Checkpoints(tmp_path / f"{cache_gb}"))[1])
    np.testing.assert_allclose(histories[1].loss, histories[0].loss, rtol=0.02)
    np.testing.assert_allclose(histories[1].val_loss, histories[0].val_loss, rtol=0.02)


def test_interrupted_training_with_a_cache_ends_like_an_uninterrupted_one(
    train_small, transfer_recipe, tmp_path, monkeypatch
):
    """Even if the cache is damaged in between."""
    recipe = transfer_recipe(cache_gb=1.0, flip="random", shift=2, feature_copies=2, epochs=3)

    def train(folder):
        return train_small(recipe, Checkpoints(tmp_path / folder))

    interrupt(monkeypatch, lambda: train("parts"), epochs=(1, 4))
    (path,) = tmp_path.glob("parts/*/frozen_train_*.npy")
    path.write_bytes(path.read_bytes()[:1000])
    check_same(train("parts"), train("whole"))


@pytest.mark.slow
def test_cache_is_faster_than_the_frozen_layers_in_each_epoch(
    small_mobilenet, statistics, transfer_recipe, tmp_path, capsys
):
    """Both run both phases as the block does, for its ten epochs of the last 20 layers at 224 pixels, in turn."""
    train = read_batches(DrawnBatchesDataset(train=400, test=100, seed=2).load(), CLASS_NAMES)[0]
    val = Examples(train.images[:100], train.labels[:100])
    seconds = {"once": [], "each epoch": []}
    for number in range(3):
        for way, cache_gb in (("once", 4.0), ("each epoch", None)):
            recipe = transfer_recipe(
                image_size=224, alpha=1.0, unfreeze=20, epochs=10, flip="random", feature_copies=2, cache_gb=cache_gb
            )
            progress = Progress(small_mobilenet(recipe), Checkpoints(tmp_path / f"{number}{way}"), IDENTITY, FACTS)
            train_backbone(train, val, Augmentation(recipe, (0.0, 0.0, 0.0)), recipe, progress)
            seconds[way].append(sum(row["seconds"] for row in progress.history))
    ratios = np.divide(seconds["each epoch"], seconds["once"])
    with capsys.disabled():
        print(f"\nfrozen layers once: {np.median(seconds['once']):.1f} s; in each epoch: "
              f"{np.median(seconds['each epoch']):.1f} s; {np.median(ratios):.1f} times faster "
              f"({ratios.min():.1f} to {ratios.max():.1f})")  # fmt: skip
    assert np.median(ratios) > 2


@pytest.mark.slow
def test_features_computed_once_are_faster_than_the_backbone_in_each_epoch(
    small_mobilenet, transfer_recipe, tmp_path, capsys
):
    """Both train the same head for the same number of epochs on 2,000 images at 128 pixels, in turn."""
    train = read_batches(DrawnBatchesDataset(train=2000, test=100, seed=2).load(), CLASS_NAMES)[0]
    val = Examples(train.images[:10], train.labels[:10])
    recipe = transfer_recipe(image_size=128, alpha=0.35, head_epochs=15, flip="random", feature_copies=1)
    seconds = {"once": [], "each epoch": []}
    for number in range(3):
        once, each = (
            Progress(small_mobilenet(recipe), Checkpoints(tmp_path / f"{number}{way}"), IDENTITY, FACTS) for way in "ab"
        )
        train_head(train, val, NoAugmentation(), recipe, once)
        seconds["once"].append(sum(row["seconds"] for row in once.history))

        each.network.get_layer("backbone").trainable = False
        naive = recipe.model_copy(update={"epochs": recipe.head_epochs, "learning_rate": recipe.head_learning_rate})
        model = TrainingModel(each.network, train.images, val.images, NoAugmentation())
        targets = [np.eye(10, dtype="float32")[split.labels] for split in (train, val)]
        optimise(model, *targets, naive, each, phase="head", image_size=128)
        seconds["each epoch"].append(sum(row["seconds"] for row in each.history))
    ratios = np.divide(seconds["each epoch"], seconds["once"])
    with capsys.disabled():
        print(f"\nfeatures once: {np.median(seconds['once']):.1f} s; backbone each epoch: "
              f"{np.median(seconds['each epoch']):.1f} s; {np.median(ratios):.1f} times faster "
              f"({ratios.min():.1f} to {ratios.max():.1f})")  # fmt: skip
    assert np.median(ratios) > 3
