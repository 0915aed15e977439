import keras
import numpy as np
import pytest

from cifar10.training.optimizers import make_optimizer


def rates(recipe, steps):
    """The learning rate of each step of ten epochs of five steps."""
    learning_rate = make_optimizer(recipe, examples=5 * recipe.batch_size)._learning_rate
    return [float(learning_rate(step)) for step in range(steps)]


def test_cosine_rises_then_falls_to_zero(recipe):
    learning_rates = rates(recipe(schedule="cosine", epochs=10, warmup=0.2, learning_rate=0.4), 51)
    assert learning_rates[0] == 0
    assert learning_rates[5] == pytest.approx(0.2)
    assert learning_rates[10] == pytest.approx(0.4)
    assert learning_rates[30] == pytest.approx(0.2)
    assert learning_rates[50] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_triangular_is_straight_up_and_down(recipe, warmup):
    learning_rates = rates(recipe(schedule="triangular", epochs=10, warmup=warmup, learning_rate=0.4), 51)
    expected = np.interp(range(51), [0, 50 * warmup, 50] if warmup else [0, 50], [0, 0.4, 0] if warmup else [0.4, 0])
    np.testing.assert_allclose(learning_rates, expected, atol=1e-6)


def test_last_batch_of_an_epoch_counts_though_it_is_short(recipe):
    recipe = recipe(schedule="triangular", epochs=2, batch_size=64)
    assert make_optimizer(recipe, examples=65)._learning_rate.steps == 4


def one_step(optimizer, gradient):
    """A dense layer's and a batch norm's variables before and after a step, by name."""
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    variables = network.trainable_weights
    before = {each.name: keras.ops.convert_to_numpy(each) for each in variables}
    optimizer.apply([keras.ops.full(each.shape, gradient) for each in variables], variables)
    return before, {each.name: keras.ops.convert_to_numpy(each) for each in variables}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_shrinks_kernels_alone(recipe, name):
    optimizer = make_optimizer(recipe(optimizer=name, weight_decay=0.5, learning_rate=0.1), 1)
    before, after = one_step(optimizer, 0.0)
    assert before.keys() == {"kernel", "bias", "gamma", "beta"}
    for variable, value in before.items():
        expected = value * (1 - 0.5 * 0.1) if variable == "kernel" else value
        np.testing.assert_allclose(after[variable], expected, rtol=1e-5)


def test_sgd_has_nesterov_momentum(recipe):
    """From rest, its first step is 1 + 0.9 times the gradient."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=0.1), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 0.19, rtol=1e-4)


def test_gradients_are_clipped_together(recipe):
    """Twelve weights, three biases, three gammas and three betas: 21 ones are a vector of length 4.58."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=1.0, gradient_clip=1.0), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 1.9 / 21**0.5, rtol=1e-4)
