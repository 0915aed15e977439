"""One phase of a training: its loss, what each epoch sees, when its learning rate falls and when it ends."""

import time

import keras
import numpy as np
import pytest

from cifar10.errors import InputError, RecipeError
from cifar10.training.augmentation import Augmentation
from cifar10.training.model import TrainingModel
from cifar10.training.phase import MIN_LEARNING_RATE, _finished, _plateau, compile_by, enough_memory, optimise
from cifar10.training.progress import Progress

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
TARGETS = np.eye(10, dtype="float32")[np.arange(20) % 10]

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture
def model(recipe):
    """Return a model of one dense layer, by a recipe."""

    def make(recipe):
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10)], name="small"
        )
        return TrainingModel(network, IMAGES, IMAGES, Augmentation(recipe, (0.0, 0.0, 0.0)))

    return make


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_spreads_its_share_over_all_classes(recipe, model, smoothing):
    recipe = recipe(label_smoothing=smoothing)
    model = model(recipe)
    compile_by(recipe, model, 20, "float32")
    logits = np.random.default_rng(1).normal(size=(20, 10)).astype("float32")
    loss = model.compute_loss(None, keras.ops.convert_to_tensor(TARGETS), keras.ops.convert_to_tensor(logits))
    logarithms = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -((1 - smoothing) * TARGETS + smoothing / 10) * logarithms
    assert float(loss) == pytest.approx(expected.sum(axis=1).mean(), rel=1e-5)


def test_too_few_batches_to_change_any_weight_are_refused(recipe, model):
    recipe = recipe(epochs=2, batch_size=8, accumulate=7)
    with pytest.raises(
        RecipeError, match=r"^small: .* accumulate is 7, but there are only 6 batches in all its epochs"
    ):
        compile_by(recipe, model(recipe), 20, "float32")
    recipe = recipe.model_copy(update={"accumulate": 6})
    compile_by(recipe, model(recipe), 20, "float32")


def test_the_speed_that_is_logged_is_that_of_training_without_validation(
    recipe, model, checkpoints, monkeypatch, caplog
):
    caplog.set_level("INFO")
    evaluate = TrainingModel.evaluate

    def slow(*args, **options):
        time.sleep(0.5)
        return evaluate(*args, **options)

    monkeypatch.setattr(TrainingModel, "evaluate", slow)
    small = model(recipe(epochs=2))
    progress = Progress(small.network, checkpoints, {}, {"compute_dtype": "float32"})
    optimise(small, TARGETS, TARGETS, recipe(epochs=2), progress, phase="training")
    assert caplog.messages[-1].endswith(" images/s")
    assert float(caplog.messages[-1].split()[-2].replace(",", "")) > len(TARGETS) / 0.5


def test_each_epoch_has_its_own_order_and_knows_its_number(recipe, model, checkpoints, monkeypatch):
    """The order is over all images; the flip of `alternating` depends on the number."""
    seen = []
    fit = TrainingModel.fit

    def record(model, batches, **options):
        index = np.concatenate([keras.ops.convert_to_numpy(index) for index, _ in batches])
        targets = np.concatenate([keras.ops.convert_to_numpy(target) for _, target in batches])
        np.testing.assert_array_equal(targets, TARGETS[index])
        seen.append((int(model.augmentation.epoch), index.tolist()))
        return fit(model, batches, **options)

    monkeypatch.setattr(TrainingModel, "fit", record)
    for seed in (1, 2):
        options = recipe(epochs=3, batch_size=8, flip="alternating", seed=seed)
        trained = model(options)
        progress = Progress(trained.network, checkpoints, {"seed": seed}, {"compute_dtype": "float32"})
        optimise(trained, TARGETS, TARGETS, options, progress, phase="training")
    epochs, orders = zip(*seen, strict=True)
    assert epochs == (0, 1, 2, 0, 1, 2)
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len(set(map(tuple, orders))) == 6


SCHEDULES = [
    {"schedule": "constant"},
    {"schedule": "plateau", "plateau_patience": 1, "learning_rate": 1e-5},
    {"schedule": "cosine"},
    {"schedule": "cosine", "warmup": 0.5, "schedule_start": 0.2, "schedule_end": 0.1},
    {"schedule": "triangular", "warmup": 0.4},
    {"schedule": "triangular", "accumulate": 4},  # with steps of batches from two epochs
    {"schedule": "triangular", "accumulate": 10},  # one step per epoch
]


@pytest.mark.parametrize("changes", SCHEDULES, ids=str)
def test_history_has_the_learning_rate_that_each_epoch_was_trained_with(
    recipe, model, checkpoints, monkeypatch, changes
):
    """That of the middle one of its steps. An epoch has ten batches."""
    seen = {0: [], 1: [], 2: []}

    class Seen(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            optimizer = self.model.optimizer
            place = int(optimizer._iterations)
            if (place + 1) % (optimizer.gradient_accumulation_steps or 1) == 0:  # this batch changes the weights
                seen[place // 10].append(float(optimizer.learning_rate))

    fit = TrainingModel.fit
    monkeypatch.setattr(
        TrainingModel, "fit", lambda *given, callbacks, **more: fit(*given, callbacks=[*callbacks, Seen()], **more)
    )
    options = recipe(epochs=3, batch_size=2, optimizer="sgd", early_stopping=None, **changes)
    trained = model(options)
    progress = Progress(trained.network, checkpoints, {}, {"compute_dtype": "float32"})
    optimise(trained, TARGETS, TARGETS, options, progress, phase="training")
    for row, rates in zip(progress.history, seen.values(), strict=True):
        middle = np.interp((len(rates) - 1) / 2, range(len(rates)), rates)
        assert row["learning_rate"] == pytest.approx(middle, rel=1e-2), row["epoch"]


@pytest.mark.parametrize(
    ("changes", "dtype", "advice"),
    [
        ({"schedule": "constant"}, "float32", r" or give it a gradient_clip\."),
        ({"schedule": "cosine"}, "float32", r" or give it a longer warmup or give it a gradient_clip\."),
        ({"schedule": "cosine", "gradient_clip": 1e30}, "float32", r" or give it a longer warmup\."),
        ({"schedule": "constant"}, "bfloat16", r" or give it a gradient_clip or set \w+\.compute_dtype=float32\."),
    ],
)
def test_what_is_advised_against_divergence_is_not_set_yet(recipe, model, checkpoints, changes, dtype, advice):
    options = recipe(epochs=2, batch_size=2, optimizer="sgd", learning_rate=1e38, **changes)
    trained = model(options)
    progress = Progress(trained.network, checkpoints, {}, {"compute_dtype": dtype})
    with pytest.raises(InputError, match=rf"What may help: lower its learning_rate \(now 1e\+38\){advice}$"):
        optimise(trained, TARGETS, TARGETS, options, progress, phase="training")


@pytest.mark.parametrize(
    ("accuracies", "halvings"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.4], 0),
        ([0.5, 0.4, 0.5], 1),  # two epochs without a better one
        ([0.5, 0.4, 0.6, 0.6], 0),
        ([0.5, 0.4, 0.6, 0.6, 0.6], 1),
        ([0.5, 0.4, 0.4, 0.4], 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 2),
        ([0.5, 0.4, 0.4, 0.45, 0.45], 2),  # better than the last, but not than the best
    ],
)
def test_plateau_lowers_the_learning_rate_after_its_patience(recipe, accuracies, halvings):
    options = recipe(schedule="plateau", plateau_patience=2, plateau_factor=0.5, learning_rate=0.8)
    assert _plateau(options, accuracies) == pytest.approx(0.8 / 2**halvings)


def test_plateau_ends_at_the_lowest_learning_rate(recipe):
    options = recipe(schedule="plateau", plateau_patience=1, plateau_factor=0.5, learning_rate=1.5 * MIN_LEARNING_RATE)
    assert _plateau(options, [0.5, 0.4, 0.4, 0.4]) == MIN_LEARNING_RATE
    assert _plateau(options.model_copy(update={"learning_rate": 1e-9}), [0.5, 0.4]) == 1e-9


@pytest.mark.parametrize(
    ("accuracies", "early_stopping", "finished"),
    [
        ([], 1, False),
        ([0.5], 1, False),
        ([0.5, 0.5], 1, True),  # as good is not better
        ([0.5, 0.6, 0.5], 2, False),
        ([0.5, 0.6, 0.5, 0.5], 2, True),
        ([0.5, 0.6, 0.5, 0.7], 2, False),
        ([0.5, 0.6, 0.7, 0.8], None, False),
        ([0.5, 0.4, 0.3, 0.2], None, False),
        ([0.5, 0.6, 0.7, 0.8, 0.9], None, True),
        ([0.5, 0.6, 0.7, 0.8, 0.9], 2, True),  # all five epochs have been run
    ],
)
def test_early_stopping_waits_for_its_number_of_epochs(recipe, accuracies, early_stopping, finished):
    rows = [{"val_accuracy": accuracy} for accuracy in accuracies]
    assert _finished(recipe(epochs=5, early_stopping=early_stopping), rows) == finished


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [([0.5, 0.4], 1), ([0.5, 0.5, 0.4], 1), ([0.5, 0.4, 0.6], 3), ([0.0, 0.0], 1), ([None, None, None], 3)],
)
def test_best_epoch_is_the_first_with_the_best_accuracy_or_the_last_without_any(checkpoints, accuracies, best):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    progress = Progress(network, checkpoints, {}, {})
    for epoch, accuracy in enumerate(accuracies, start=1):
        network.set_weights([np.full((2, 1), epoch), np.zeros(1)])
        progress.add({"phase": "training", "val_accuracy": accuracy}, [])
    assert progress.best_epoch == best
    assert progress.best_weights[0][0, 0] == best


OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED: 1 GB", "OOM when allocating", "CUDA out of memory", "Out of memory allocating")


@pytest.mark.parametrize("error", [MemoryError(), *map(RuntimeError, OUT_OF_MEMORY)])
def test_each_way_to_say_that_memory_is_short_is_known(error):
    with pytest.raises(InputError, match="there is not enough memory for batches of 16"), enough_memory("a", 16, "b"):
        raise error
