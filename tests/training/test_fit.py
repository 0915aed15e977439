"""Trainings as a whole: what they return and record, what stops them, and how they resume."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.architectures import build
from cifar10.compute import device, provenance
from cifar10.compute.energy import read_counters
from cifar10.compute.portable import OLDEST_KERAS
from cifar10.contracts import Examples
from cifar10.errors import InputError
from cifar10.pipelines.preprocessing.nodes import measure
from cifar10.training.checkpoint import Checkpoints
from cifar10.training.fit import _whitening_epochs, fit
from cifar10.training.identity import ENGINE_VERSION, engine_version, fingerprint, identity_of
from cifar10.training.model import TrainingModel
from cifar10.training.recipe import RECIPES
from cifar10.training.subset import training_images
from tests.helpers import CLASS_NAMES, PROJECT, eagerly
from tests.training.interruptions import EXACT, TIMED, check_same, interrupt, interrupt_after


@pytest.fixture(scope="module")
def splits(drawn):
    return drawn[0].take(slice(300)), drawn[0].take(slice(300, None))


def small_network(*_, **__):
    """Return a network that trains in a tenth of the time of the simple CNN, under its name."""
    layers = keras.layers
    stack = [
        *(layers.Rescaling(1 / 127.5, -1), layers.Conv2D(16, 5, 2, padding="same", activation="relu")),
        *(layers.MaxPooling2D(4), layers.Flatten(), layers.Dropout(0.2, name="features")),
        layers.Dense(10, name="logits"),
    ]
    return keras.Sequential([keras.Input((32, 32, 3)), *stack], name="simple_cnn")


@pytest.fixture(scope="module", autouse=True)
def _small():
    def build_small(name, *given, **options):
        return small_network() if name == "simple_cnn" else build(name, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cifar10.training.fit.build", build_small)
        yield


@pytest.fixture(scope="module")
def statistics(splits, drawn):
    return measure(*splits, drawn[1])


@pytest.fixture(scope="module")
def quick_fit(splits, statistics, recipe, tmp_path_factory):
    """Fit that network on 300 images for eight epochs, except for what the arguments change."""

    def make(train=splits[0], val=splits[1], checkpoints=None, devices="one", **changes):
        options = recipe(**{"epochs": 8, "batch_size": 16, "learning_rate": 0.003, **changes})
        checkpoints = checkpoints or Checkpoints(tmp_path_factory.mktemp("checkpoints"))
        return fit("simple_cnn", train, val, statistics, CLASS_NAMES, options, checkpoints, devices=devices)

    return make


@pytest.fixture(scope="module")
def fitted(quick_fit):
    return quick_fit(seed=3, compute_dtype="float32")  # in which the saved network predicts


def test_network_is_that_of_the_best_epoch(fitted, splits):
    trained, history = fitted
    val = splits[1]
    accuracy = (trained.load_network().predict(val.images, verbose=0).argmax(axis=1) == val.labels).mean()
    assert accuracy == pytest.approx(history.val_accuracy.max(), abs=1e-6)
    assert trained.record.val_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert trained.record.best_epoch == history.epoch[history.val_accuracy.argmax()]
    assert accuracy > 0.2  # it learns


def test_record_says_how_the_model_was_trained(fitted, statistics):
    trained, history = fitted
    record = trained.record
    assert record.architecture == "simple_cnn"
    assert record.recipe["seed"] == record.seed == 3
    assert not record.trained_on_val
    assert (record.data_version, record.digests) == (statistics.data_version, statistics.digests)
    assert record.parameters == trained.load_network().count_params()
    assert record.epochs == len(history) == 8
    assert record.training_seconds >= history.seconds.sum() * 0.9
    assert {"cifar10", "commit", "python", "keras", keras.backend.backend()} <= record.versions.keys()
    assert (record.class_names, record.engine_version) == (CLASS_NAMES, engine_version("simple_cnn"))
    assert record.oldest_keras == OLDEST_KERAS
    assert record.sources == provenance.sources()
    assert record.training_digest == statistics.digests["train"]
    assert keras.distribution.list_devices()[0].startswith("gpu") or record.hardware.endswith(" cores")
    assert (record.initial_weights, record.image_size, record.training_examples) == ("random", 32, 300)
    phase = record.phases["training"]
    assert (phase["epochs"], phase["val_accuracy"]) == (8, record.val_accuracy)
    pd.testing.assert_frame_equal(pd.DataFrame(record.history), history)


def test_recorded_fingerprint_is_that_of_the_network_as_it_was_built(fitted):
    assert fitted[0].record.fingerprint == fingerprint(small_network())


@eagerly()
def test_all_devices_can_be_one(quick_fit, caplog):
    caplog.set_level("INFO")
    trained, _ = quick_fit(epochs=1, devices="all")
    assert caplog.text.count("devices is all, but there is only one") == 1
    assert trained.record.devices == 1


def test_record_lists_the_layers_of_the_saved_network(fitted):
    record, network = fitted[0].record, fitted[0].load_network()
    assert [row["layer"] for row in record.layers] == [layer.name for layer in network.layers]
    assert sum(row["parameters"] for row in record.layers) == record.parameters
    assert sum(row["trained"] for row in record.layers) == record.parameters  # without batch norms
    assert record.layers[-1] == {
        "layer": "probabilities", "type": "Softmax", "output_shape": "10", "parameters": 0, "trained": 0,
    }  # fmt: skip


def test_record_knows_that_the_whitening_was_not_trained(splits, statistics, blocks, checkpoints):
    """Which the saved network has forgotten."""
    options = {"epochs": 1, "whitening_epochs": 1, "batch_size": 8, "examples": 8, "compute_dtype": "float32"}
    recipe = RECIPES["airbench94"](**{**blocks["airbench94"], "accumulate": 1, **options})
    trained, _ = fit("airbench94", *splits, statistics, CLASS_NAMES, recipe, checkpoints)
    layers = {row["layer"]: row for row in trained.record.layers}
    assert (layers["whitening"]["parameters"], layers["whitening"]["trained"]) == (312, 24)
    assert layers["stage1_block1_norm"]["type"] == "BatchNormalization"
    assert (layers["stage1_block1_norm"]["parameters"], layers["stage1_block1_norm"]["trained"]) == (192, 64)
    assert layers["logits"]["trained"] == layers["logits"]["parameters"] == 2560


def whitening_network(*_, **__):
    """Return a network that is fast to build and to train, with a whitening as that of airbench94."""
    layers = keras.layers
    whitening = layers.Conv2D(8, 2, name="whitening")
    stack = [
        *(layers.Rescaling(1 / 127.5, -1), whitening, layers.Activation("relu"), layers.MaxPooling2D()),
        *(layers.Conv2D(16, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D(name="features")),
        layers.Dense(10, name="logits"),
    ]
    network = keras.Sequential([keras.Input((32, 32, 3)), *stack], name="airbench94")
    whitening.kernel.trainable = False
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulate": 2},
        {"resolutions": [28, 32]},
    ],
    ids=str,
)
def test_whitening_that_no_longer_learns_costs_no_gradient_and_changes_nothing(
    splits, statistics, blocks, tmp_path, monkeypatch, changes
):
    options = {"epochs": 3, "whitening_epochs": 1, "batch_size": 8, "examples": 32, "compute_dtype": "float32"}
    recipe = RECIPES["airbench94"](**{**blocks["airbench94"], "accumulate": 1, **options, **changes})
    monkeypatch.setattr("cifar10.training.fit.build", whitening_network)
    learns = []

    def train(name):
        trained, history = fit("airbench94", *splits, statistics, CLASS_NAMES, recipe, Checkpoints(tmp_path / name))
        return trained.load_network().get_weights(), history[["loss", "val_loss"]]

    start_epoch = TrainingModel.start_epoch
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModel, "start_epoch", lambda self, epoch: (
            start_epoch(self, epoch), learns.append(self.whitening[0].learns)))  # fmt: skip
        weights, history = train("skipped")
    assert learns == [True, False, False]
    init = TrainingModel.__init__
    monkeypatch.setattr(
        TrainingModel,
        "__init__",
        lambda self, *given, **named: init(self, *given, **{**named, "whitening_epochs": None}),
    )
    plain_weights, plain_history = train("plain")
    np.testing.assert_allclose(history, plain_history, rtol=1e-4)
    for weight, plain in zip(weights, plain_weights, strict=True):
        np.testing.assert_allclose(weight, plain, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "examples", "epochs"),
    [({}, 32, 1), ({"gradient_clip": 1.0}, 32, None), ({"accumulate": 2}, 32, 1), ({"accumulate": 2}, 8, None)],
)
def test_whitening_learns_on_where_its_gradient_counts(blocks, changes, examples, epochs):
    """With `gradient_clip`, all gradients count in their norm; and the first step may come after its epochs."""
    options = {"epochs": 3, "whitening_epochs": 1, "batch_size": 8, "accumulate": 1, **changes}
    assert _whitening_epochs(RECIPES["airbench94"](**{**blocks["airbench94"], **options}), examples) == epochs


@eagerly()
def test_recorded_digest_is_of_the_selected_images_before_they_are_flipped(quick_fit, splits):
    options = {"examples": 48, "seed": 5, "train_on": "all"}
    record = quick_fit(epochs=1, early_stopping=None, flip="alternating", **options)[0].record
    selected, _ = training_images("simple_cnn", *splits, **options)
    assert record.training_digest == selected.digest != splits[0].digest
    assert record.training_examples == len(selected) == 48


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX is deterministic by an environment variable")
def test_xla_is_recorded_as_it_is_used_in_a_deterministic_training(quick_fit, monkeypatch):
    """Where operations must be deterministic, XLA is off."""
    compiled = ["auto"]
    monkeypatch.setattr(device, "jit_compile", lambda: compiled[-1])
    monkeypatch.setattr("cifar10.training.fit.set_deterministic", lambda wanted: compiled.append(not wanted))
    assert not quick_fit(epochs=1, examples=16, deterministic=True)[0].record.xla


def test_history_has_one_row_per_epoch(fitted):
    _, history = fitted
    assert list(history.epoch) == list(range(1, 9))
    assert {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate", "seconds"} < set(history.columns)
    assert not history.drop(columns="joules").isna().any().any()
    assert (history.joules.notna() == bool(read_counters())).all()


def test_same_seed_gives_the_same_training(fitted, quick_fit):
    again, other = (quick_fit(seed=seed, compute_dtype="float32")[1] for seed in (3, 4))
    pd.testing.assert_frame_equal(again.drop(columns=TIMED), fitted[1].drop(columns=TIMED), check_exact=EXACT)
    assert not np.allclose(other.loss, fitted[1].loss)


def test_early_stopping_ends_and_plateau_lowers_the_learning_rate(quick_fit):
    changes = {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 4e-6, "epochs": 30, "early_stopping": 3}
    trained, history = quick_fit(**changes)
    assert len(history) == trained.record.best_epoch + 3 < 30
    assert history.learning_rate.iloc[-1] <= 2e-6


def test_a_label_without_a_name_is_refused(splits, statistics, recipe, checkpoints):
    with pytest.raises(InputError, match="training images have labels up to 9, but class_names has only 9 names"):
        fit("simple_cnn", *splits, statistics, CLASS_NAMES[:9], recipe(epochs=1), checkpoints)


def test_loss_that_is_not_finite_stops_and_names_the_option(quick_fit):
    with pytest.raises(
        InputError,
        match=r"simple_cnn: the loss is not finite since training step [12]\. .* learning_rate \(now 1e\+30\)",
    ):
        quick_fit(learning_rate=1e30, optimizer="sgd")


def test_weights_that_the_last_step_of_an_epoch_makes_infinite_are_not_saved(quick_fit, tmp_path):
    """The loss of that step is still finite."""
    changes = {"optimizer": "sgd", "learning_rate": 1e30, "weight_decay": 1e30, "batch_size": 300, "epochs": 1}
    with pytest.raises(InputError, match=r"simple_cnn: the weights are not finite since training step 1\."):
        quick_fit(**changes, checkpoints=Checkpoints(tmp_path))
    assert not list(tmp_path.glob("*/*.npz"))


@pytest.mark.parametrize("where", ["fit", "evaluate"])
def test_out_of_memory_names_the_option(quick_fit, monkeypatch, where):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(f"cifar10.training.model.TrainingModel.{where}", fail)
    with pytest.raises(
        InputError, match=r"simple_cnn: there is not enough memory for batches of 16 images.* Lower its batch_size"
    ):
        quick_fit()


@eagerly()
def test_train_on_all_uses_the_val_images_too_and_keeps_the_last_epoch(quick_fit):
    trained, history = quick_fit(train_on="all", early_stopping=None, epochs=2, batch_size=100)
    record = trained.record
    assert record.training_examples == 400
    assert (record.best_epoch, record.val_accuracy) == (2, None)
    assert history.val_accuracy.isna().all()
    assert record.recipe["train_on"] == "all"
    assert record.trained_on_val


@eagerly()
def test_compute_dtype_is_that_of_the_recipe_and_recorded(quick_fit):
    weights = {}
    for compute_dtype in ("float32", "bfloat16"):
        trained, _ = quick_fit(compute_dtype=compute_dtype, epochs=1, examples=32)
        network = trained.load_network()
        assert trained.record.compute_dtype == compute_dtype
        assert {layer.compute_dtype for layer in network.layers} == {"float32"}
        weights[compute_dtype] = network.get_weights()[0]
    assert not np.array_equal(*weights.values())


@eagerly()
def test_log_names_the_device_and_estimates_the_time_on_a_cpu(quick_fit, caplog):
    caplog.set_level("INFO")
    quick_fit(epochs=1)
    assert f"simple_cnn: on {device.hardware()}; {keras.backend.backend()}, " in caplog.text
    assert device.has_gpu() or "no GPU found: on this CPU, the recipe takes less than a minute" in caplog.text
    assert ("XLA compiles before the first steps in training" in caplog.text) == device.uses_xla()


@eagerly()
def test_recorded_hash_is_that_of_the_recipe_without_its_seed(quick_fit):
    hashes = [
        quick_fit(epochs=1, examples=16, **changes)[0].record.recipe_hash
        for changes in ({"seed": 1}, {"seed": 2}, {"seed": 2, "shift": 1})
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        (
            {"schedule": "plateau", "plateau_patience": 1, "early_stopping": 2, "learning_rate": 1e-5, "mixup": 0.5},
            (1, 3),
        ),
        (
            {
                "optimizer": "muon",
                "accumulate": 3,
                "schedule": "triangular",
                "flip": "alternating",
                "learning_rate": 0.05,
            },
            (1,),
        ),
        ({"optimizer": "sgd", "lookahead": 5, "schedule": "cosine", "shift": 3, "cutout": 4}, (2,)),
    ],
)
def test_interrupted_training_ends_like_an_uninterrupted_one(quick_fit, checkpoints, monkeypatch, changes, epochs):
    changes = {**changes, "epochs": 6}
    uninterrupted = quick_fit(**changes)
    interrupt(monkeypatch, lambda: quick_fit(checkpoints=checkpoints, **changes), epochs=epochs)
    check_same(quick_fit(checkpoints=checkpoints, **changes), uninterrupted)


@eagerly()
def test_checkpoint_of_another_version_of_the_code_is_not_resumed(quick_fit, checkpoints, monkeypatch):
    with monkeypatch.context() as context:
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(epochs=2, checkpoints=checkpoints)
    state = TrainingModel.state
    monkeypatch.setattr(TrainingModel, "state", lambda model: state(model)[1:])
    message = r"was created by another version of the code.*Go back to that commit, or delete"
    with pytest.raises(InputError, match=message):
        quick_fit(epochs=2, checkpoints=checkpoints)


@pytest.mark.parametrize("change", ["network", "class names", "engine"])
@eagerly()
def test_finished_training_is_not_taken_for_that_of_other_code_or_names(
    quick_fit, splits, statistics, recipe, checkpoints, monkeypatch, caplog, change
):
    """As after a failed evaluation, when something is changed before the same command."""
    caplog.set_level("INFO")
    first = quick_fit(epochs=2, examples=32, checkpoints=checkpoints)[0].record
    names = CLASS_NAMES
    if change == "network":
        monkeypatch.setattr("cifar10.training.fit.build", lambda *_, **__: with_tanh(small_network()))
    elif change == "engine":
        monkeypatch.setattr("cifar10.training.identity.ENGINE_VERSION", ENGINE_VERSION + 1)
    else:
        names = CLASS_NAMES[::-1]
    options = recipe(epochs=2, batch_size=16, learning_rate=0.003, examples=32)
    second = fit("simple_cnn", *splits, statistics, names, options, checkpoints)[0].record
    assert "starting from scratch" in caplog.text
    assert "resuming" not in caplog.text
    assert (second.fingerprint != first.fingerprint) == (change == "network")
    folders = [path.parent.name for path in checkpoints.folder.glob("*/epoch_00002.npz")]
    assert len(folders) == 2
    checkpoints.clear(identity_of(first))
    assert len(list(checkpoints.folder.glob("*/epoch_00002.npz"))) == 1
    checkpoints.clear(identity_of(second))
    assert not checkpoints.folder.exists()


def with_tanh(network):
    def copy(layer):
        config = layer.get_config()
        if config.get("activation") == "relu":
            config["activation"] = "tanh"
        return type(layer).from_config(config)

    return keras.models.clone_model(network, clone_function=copy)


def test_finished_training_that_was_not_saved_is_not_repeated(quick_fit, checkpoints):
    first, _ = quick_fit(epochs=2, checkpoints=checkpoints)
    second, _ = quick_fit(epochs=2, checkpoints=checkpoints)
    unnamed = {"layers": []}  # Keras numbers layers without a name within a process
    assert second.record.model_copy(update=unnamed) == first.record.model_copy(update=unnamed)  # including its seconds


@pytest.mark.parametrize("begun_in", ["float32", "bfloat16"])
@eagerly()
def test_training_is_resumed_in_its_compute_dtype_or_not_at_all(quick_fit, checkpoints, monkeypatch, begun_in):
    """Where bfloat16 has no instructions, it is far slower, and rounds otherwise."""
    flags = {"float32": set(), "bfloat16": {"avx512_bf16"}}
    options = {
        "epochs": 2,
        "examples": 32,
        "checkpoints": checkpoints,
        "compute_dtype": "auto",
        "cpu_compute_dtype": "bfloat16",
    }
    monkeypatch.setattr(device, "_processor_flags", lambda: flags[begun_in])
    with monkeypatch.context() as context:
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(**options)
    if begun_in == "bfloat16":
        with monkeypatch.context() as context:
            context.setattr(device, "_processor_flags", lambda: flags["float32"])
            with pytest.raises(InputError, match=r"in bfloat16, for which this processor has no instructions: resume"):
                quick_fit(**options)
    monkeypatch.setattr(device, "_processor_flags", lambda: flags["bfloat16"])
    trained, history = quick_fit(**options)
    assert (trained.record.compute_dtype, len(history)) == (begun_in, 2)


@eagerly()
def test_training_in_bfloat16_is_resumed_where_the_recipe_only_prefers_float32(quick_fit, checkpoints, monkeypatch):
    """As one that was begun on a GPU."""
    monkeypatch.setattr(device, "_processor_flags", lambda: {"amx_bf16"})
    options = {
        "epochs": 2,
        "examples": 32,
        "checkpoints": checkpoints,
        "compute_dtype": "auto",
        "cpu_compute_dtype": "float32",
    }
    with monkeypatch.context() as context:
        context.setattr("cifar10.training.fit.choose_compute_dtype", lambda *_: "bfloat16")
        interrupt_after(context, 1)
        with pytest.raises(KeyboardInterrupt):
            quick_fit(**options)
    assert quick_fit(**options)[0].record.compute_dtype == "bfloat16"


@eagerly()
def test_examples_limits_the_training_images_and_is_recorded(quick_fit):
    trained, history = quick_fit(epochs=1, examples=48)
    again, same = quick_fit(epochs=1, examples=48)
    record = trained.record
    assert record.training_examples == again.record.training_examples == record.recipe["examples"] == 48
    assert history.loss[0] == pytest.approx(same.loss[0], rel=1e-4)
    with pytest.raises(InputError, match=r"simple_cnn\.examples is 301, but there are only 300 training images"):
        quick_fit(examples=301)


def test_splits_that_are_not_those_of_the_statistics_are_refused(quick_fit, splits):
    """As after a preprocessing that was interrupted between its files."""
    train, val = splits
    for changed in ((val, train), (Examples(train.images, train.labels[::-1]), val), (train, train)):
        with pytest.raises(InputError, match="images have changed since preprocessing was last completed"):
            quick_fit(*changed)


class StopError(Exception):
    """Ends a training before its first epoch."""


@pytest.fixture
def prepared(quick_fit, monkeypatch):
    """Return the model that a recipe is going to train, and the targets of its images."""
    given = []

    def stop(*arguments, **options):
        given.append(arguments[:2])
        raise StopError

    def prepare(**changes):
        monkeypatch.setattr("cifar10.training.fit.optimise", stop)
        with pytest.raises(StopError):
            quick_fit(**changes)
        return given.pop()

    return prepare


def test_training_starts_as_the_recipe_says(prepared, splits, statistics):
    model, targets = prepared(cutout=4, mixup=0.5, batch_size=50)
    assert (model.augmentation.recipe.cutout, model.augmentation.fill) == (4, statistics.mean)
    assert model.mixing.mixup
    np.testing.assert_array_equal(targets.argmax(axis=1), splits[0].labels)
    np.testing.assert_array_equal(model.train_inputs, splits[0].images)
    np.testing.assert_array_equal(model.val_inputs, splits[1].images)


def test_alternating_flip_starts_with_a_random_half_flipped(prepared, splits):
    """So that not all images are seen from the same side in an epoch."""
    model, _ = prepared(flip="alternating")
    images, inputs = splits[0].images, keras.ops.convert_to_numpy(model.train_inputs)
    kept = (inputs == images).all(axis=(1, 2, 3))
    assert 100 < kept.sum() < 200
    np.testing.assert_array_equal(inputs[~kept], images[~kept][:, :, ::-1])


def test_initial_weights_depend_on_the_seed(prepared):
    first, same, other = (prepared(seed=seed)[0].network.get_weights()[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.jax
def test_jax_trains_and_predicts_too():
    pytest.importorskip("jax", reason='needs the extra: pip install -e ".[jax]"')
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-k",
        "not jax",
        "tests/training",
        "tests/architectures",
        "tests/test_mixed_runs.py",
    ]
    result = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize(
    ("saves", "message"),
    [
        (0, "interrupted in its first epoch, with which the same command begins again"),
        (1, "interrupted after epoch 1, from which the"),
    ],
)
@eagerly()
def test_an_interruption_while_a_checkpoint_is_written_names_the_one_before(
    quick_fit, checkpoints, monkeypatch, saves, message
):
    save, saved = Checkpoints.save, []

    def interrupted(self, identity, checkpoint):
        if len(saved) == saves:
            raise KeyboardInterrupt
        saved.append(save(self, identity, checkpoint))

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt, match=message):
        quick_fit(examples=32, checkpoints=checkpoints)


@eagerly()
def test_each_epoch_is_reported_once_it_is_saved(splits, statistics, recipe, checkpoints):
    """An exception of `report` leaves a training that can be resumed, which first reports the epochs before."""
    options = recipe(epochs=3, batch_size=50)
    reported = []

    def report(row):
        reported.append((row["epoch"], len(list(checkpoints.folder.glob("*/epoch_*.npz")))))
        if len(reported) == 2:
            raise StopIteration

    def train():
        return fit("simple_cnn", *splits, statistics, CLASS_NAMES, options, checkpoints, report)

    with pytest.raises(StopIteration):
        train()
    train()
    assert [epoch for epoch, _ in reported] == [1, 2, 1, 2, 3]
    assert all(saved == min(epoch, 2) for epoch, saved in reported[:2])
