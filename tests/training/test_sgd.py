"""The steps of `SGD`, `Muon` and `Lookahead`."""

import keras
import numpy as np
import pytest

from cifar10.training.optimizers import make_optimizer
from cifar10.training.sgd import orthogonalise
from tests.training.steps import one_step


def test_sgd_has_nesterov_momentum(recipe):
    """The first step is 1 + 0.9 times the gradient."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=0.1), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 0.19, rtol=1e-4)


def test_biases_have_their_own_learning_rate(recipe):
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=0.1, bias_learning_rate=8.0), 1), 1.0)
    for name, factor in {"kernel": 1, "gamma": 1, "bias": 8, "beta": 8}.items():
        np.testing.assert_allclose(before[name] - after[name], 0.19 * factor, rtol=1e-4)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_whitening_bias_learns_for_whitening_epochs_only(recipe, accumulate):
    """Its learning rate falls to 0, after which it does not decay either; other biases continue to learn."""
    values = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1, "weight_decay": 0.5, "decay_biases": True}
    values |= {"epochs": 8, "batch_size": 1, "whitening_epochs": 2, "accumulate": accumulate}
    optimizer = make_optimizer(recipe(**values), accumulate)
    whitening, other = (keras.layers.Dense(1, bias_initializer="ones", name=name) for name in ("whitening", "other"))
    for layer in (whitening, other):
        layer.build((None, 1))
    steps = []
    for _ in range(4):
        before = float(whitening.bias[0]), float(other.bias[0])
        for _ in range(accumulate):
            optimizer.apply([keras.ops.ones(1)] * 2, [whitening.bias, other.bias])
        steps.append((before[0] - float(whitening.bias[0]), before[1] - float(other.bias[0])))
    (first, full), (second, _), (third, _), (fourth, last) = steps
    assert first == pytest.approx(full)
    assert 0 < second < 0.6 * first
    assert third == fourth == 0
    assert last > 0


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_orthogonalise_sets_the_singular_values_to_about_one(shape, compute_dtype):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    result = np.array(orthogonalise(matrix, compute_dtype), "float32")
    assert abs(np.linalg.svd(result, compute_uv=False) - 1).max() < 0.5
    assert abs(values / values.mean() - 1).max() > 0.4  # so the matrix was not orthogonal before
    assert np.trace((left @ right).T @ result) > 0.9 * np.sqrt(12) * np.linalg.norm(result)


def test_muon_trains_convolution_kernels_and_keeps_their_norm(recipe):
    layers = keras.layers
    network = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(9, 3), layers.Flatten(), layers.Dense(2)])
    variables = network.trainable_weights
    convolution, dense = variables[0], variables[2]
    optimizer = make_optimizer(recipe(optimizer="muon", learning_rate=0.5, muon_learning_rate=0.01), 1)
    before = [np.array(each) for each in variables]
    gradients = [np.random.default_rng(0).normal(size=each.shape).astype("float32") for each in variables]
    optimizer.apply(gradients, variables)
    np.testing.assert_allclose(before[2] - np.array(dense), 0.5 * 1.9 * gradients[2], rtol=1e-3)
    scaled = before[0] * (3 / np.linalg.norm(before[0]))
    step = (scaled - np.array(convolution)).reshape(-1, 9)
    np.testing.assert_allclose(np.linalg.svd(step, compute_uv=False), 0.01, rtol=0.5)
    assert np.sum(step * gradients[0].reshape(-1, 9)) > 0
    optimizer.apply([np.zeros_like(each) for each in gradients], variables)
    assert np.linalg.norm(np.array(convolution)) == pytest.approx(3, rel=0.05)


def test_lookahead_returns_to_a_slow_average(recipe):
    """At the end of ten steps, the decay is 0.95 to the power of the interval."""
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = make_optimizer(recipe(optimizer="sgd", momentum=0.0, learning_rate=1.0, lookahead=5, epochs=10), 1)
    seen = []
    for _ in range(10):
        optimizer.apply([np.full(3, -1.0, "float32")], [variable])
        seen.append(float(variable[0]))
    middle = 5 * (1 - 0.95**5 * 0.5**3)
    assert seen == pytest.approx([1, 2, 3, 4, middle, *(middle + i for i in range(1, 5)), middle + 5 * (1 - 0.95**5)])
