"""Optimizers as recipes configure them; the steps of `SGD` and `Muon` are tested in test_sgd.py."""

import keras
import numpy as np
import pytest

from cifar10.training.optimizers import make_optimizer
from tests.training.steps import one_step


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_shrinks_kernels_only(recipe, name):
    optimizer = make_optimizer(recipe(optimizer=name, weight_decay=0.5, learning_rate=0.1), 1)
    before, after = one_step(optimizer, 0.0)
    assert before.keys() == {"kernel", "bias", "gamma", "beta"}
    for variable, value in before.items():
        expected = value * (1 - 0.5 * 0.1) if variable == "kernel" else value
        np.testing.assert_allclose(after[variable], expected, rtol=1e-5)


@pytest.mark.parametrize(("name", "options"), [("sgd", {"bias_learning_rate": 64.0}), ("adamw", {})])
def test_decay_biases_shrinks_all_variables(recipe, name, options):
    values = {"optimizer": name, "weight_decay": 0.5, "learning_rate": 0.1, **options}
    before, after = one_step(make_optimizer(recipe(**values, decay_biases=True), 1), 0.0)
    for variable, value in before.items():
        np.testing.assert_allclose(after[variable], value * (1 - 0.5 * 0.1), rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm(recipe):
    """Twelve weights, three biases, three gammas and three betas: 21 ones are a vector of length 4.58."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=1.0, gradient_clip=1.0), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 1.9 / 21**0.5, rtol=1e-4)


@pytest.mark.parametrize(("momentum", "batch_size"), [(0.0, 256), (0.85, 1024), (0.9, 64)])
def test_decoupled_values_are_per_1024_images_at_any_batch_size_and_momentum(recipe, momentum, batch_size):
    """In the limit of many steps with the same gradient."""
    values = {"learning_rate": 0.1, "weight_decay": 0.01, "momentum": momentum, "batch_size": batch_size}
    recipe = recipe(optimizer="sgd", decoupled=True, **values)
    per_step = recipe.peak_learning_rate / (1 - momentum)
    published = 0.1 / (1 + 1 / (1 - momentum)) / (1 - momentum)  # arXiv 2404.00498
    assert per_step * 1024 / batch_size == pytest.approx(published)
    optimizer = make_optimizer(recipe, 1)
    assert optimizer.decay * float(optimizer.learning_rate) * 1024 / batch_size == pytest.approx(0.01)


def test_accumulated_gradients_are_averaged_and_the_schedule_ends_with_the_epochs(recipe):
    """Two epochs of four batches, with a step after every two: their mean gradients are 2 and 6, then 0."""
    options = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "schedule": "triangular", "epochs": 2}
    optimizer = make_optimizer(recipe(**options, batch_size=8, accumulate=2), examples=32)
    variable = keras.Variable(np.zeros(1, "float32"))
    seen = []
    for gradient in (1.0, 3.0, 4.0, 8.0, 0.0, 0.0, 0.0, 0.0):
        optimizer.apply([np.full(1, gradient, "float32")], [variable])
        seen.append(float(variable[0]))
    assert seen[:4] == pytest.approx([0, -2 * 7 / 8, -2 * 7 / 8, -2 * 7 / 8 - 6 * 5 / 8])
    assert float(optimizer.learning_rate) == 0


def test_fused_adam_steps_like_the_standard_one(recipe):
    generator = np.random.default_rng(0)
    start, *gradients = generator.normal(size=(6, 3, 4)).astype("float32")
    after = []
    for optimizer in (
        keras.optimizers.AdamW(0.1, weight_decay=0.2),
        make_optimizer(recipe(optimizer="adamw", learning_rate=0.1, weight_decay=0.2), 1),
    ):
        variable = keras.Variable(start, name="kernel")
        for gradient in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        after.append(keras.ops.convert_to_numpy(variable))
    assert abs(after[0] - start).max() > 0.1
    np.testing.assert_allclose(after[1], after[0], atol=1e-5)
