"""The steps of `SGD`, `Muon` and `Lookahead`."""

import keras
import numpy as np
import pytest

from cifar10.compute.layers import matrices
from cifar10.training.optimizers import make_optimizer
from cifar10.training.recipe import RECIPES
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
    values |= {"epochs": 8, "batch_size": 1, "accumulate": accumulate}
    whitening_recipe = RECIPES["airbench94"](**{**recipe(**values).model_dump(), "whitening_epochs": 2})
    optimizer = make_optimizer(whitening_recipe, accumulate)
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


def muon_step(recipe, network):
    """Return all trainable weights by layer and name before and after a step of Muon, and their gradients."""
    optimizer = make_optimizer(
        recipe(optimizer="muon", learning_rate=0.5, muon_learning_rate=0.01), 1, "float32", matrices(network)
    )
    variables = network.trainable_weights
    before = {short(each): np.array(each) for each in variables}
    generator = np.random.default_rng(0)
    gradients = {short(each): generator.normal(size=each.shape).astype("float32") for each in variables}
    optimizer.apply(list(gradients.values()), variables)
    return before, {short(each): np.array(each) for each in variables}, gradients, optimizer


def short(variable):
    return "/".join(variable.path.split("/")[-2:])


# layer -> its kernel that is a matrix, the number of matrices in it, and its other weights
LAYERS = {
    "convolution": (lambda: keras.layers.Conv2D(9, 3, name="x"), "kernel", 1, {"bias"}),
    "groups": (lambda: keras.layers.Conv2D(8, 3, groups=2, name="x"), "kernel", 2, {"bias"}),
    "separable": (lambda: keras.layers.SeparableConv2D(9, 3, name="x"), "pointwise_kernel", 1,
                  {"depthwise_kernel", "bias"}),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(3, name="x"), None, 0, {"kernel", "bias"}),
    "dense": (lambda: keras.layers.Dense(9, name="x"), "kernel", 1, {"bias"}),
    "nested": (lambda: keras.Sequential([keras.Input((8, 8, 6)), keras.layers.Conv2D(9, 3, name="x")]), "kernel", 1,
               {"bias"}),
}  # fmt: skip


@pytest.mark.parametrize(("make", "kernel", "count", "others"), LAYERS.values(), ids=LAYERS)
def test_muon_trains_each_matrix_and_keeps_its_norm(recipe, make, kernel, count, others):
    """Everything else moves by SGD, also a depthwise kernel, and the kernel of the logits."""
    head = [keras.layers.Flatten(), keras.layers.Dense(2, name="logits")]
    network = keras.Sequential([keras.Input((8, 8, 6)), make(), *head])
    before, after, gradients, optimizer = muon_step(recipe, network)
    for path in [f"x/{name}" for name in others] + ["logits/kernel", "logits/bias"]:
        np.testing.assert_allclose(before[path] - after[path], 0.5 * 1.9 * gradients[path], rtol=1e-3, atol=1e-6)
    assert len(before) == len(others) + 2 + bool(kernel)
    if kernel is None:
        return
    path = f"x/{kernel}"
    parts = zip(*(np.split(each[path], count, axis=-1) for each in (before, after, gradients)), strict=True)
    for old, new, gradient in parts:
        filters = old.shape[-1]
        scaled = old * (np.sqrt(filters) / np.linalg.norm(old))
        step = (scaled - new).reshape(-1, filters)
        values = np.linalg.svd(step, compute_uv=False)[: min(step.shape)]
        np.testing.assert_allclose(values, 0.01, rtol=0.5)
        assert np.sum(step * gradient.reshape(-1, filters)) > 0
    optimizer.apply([np.zeros_like(each) for each in gradients.values()], network.trainable_weights)
    (variable,) = (each for each in network.trainable_weights if short(each) == path)
    for part in np.split(np.array(variable), count, axis=-1):
        assert np.linalg.norm(part) == pytest.approx(np.sqrt(part.shape[-1]), rel=0.05)


@pytest.mark.parametrize(("option", "values"), [("momentum", (0.0, 0.9)), ("weight_decay", (0.0, 0.5))])
def test_some_options_change_only_weights_that_muon_does_not_train(recipe, option, values):
    """Its kernels have a momentum and a norm of their own."""
    kernels = []
    for value in values:
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((8, 8, 6)), keras.layers.Conv2D(9, 3, use_bias=False)])
        options = {"optimizer": "muon", option: value, "learning_rate": 0.5, "muon_learning_rate": 0.1}
        optimizer = make_optimizer(recipe(**options), 1, "float32", matrices(network))
        for gradient in np.random.default_rng(0).normal(size=(3, *network.weights[0].shape)).astype("float32"):
            optimizer.apply([gradient], network.trainable_weights)
        kernels.append(np.array(network.weights[0]))
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-5)


def newton_schulz(matrix):
    """Orthogonalise as github.com/KellerJordan/cifar10-airbench does, in NumPy."""
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    x = x.T if x.shape[0] > x.shape[1] else x
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def test_steps_of_muon_are_those_of_the_published_code(recipe):
    """Three in a row, because the momentum of the first counts in the others."""
    network = keras.Sequential([keras.Input((8, 8, 6)), keras.layers.Conv2D(9, 3, use_bias=False)])
    options = {"optimizer": "muon", "learning_rate": 0.5, "muon_learning_rate": 0.1}
    optimizer = make_optimizer(recipe(**options), 1, "float32", matrices(network))
    (kernel,) = network.trainable_weights
    expected, buffer = np.array(kernel).reshape(-1, 9), 0.0
    generator = np.random.default_rng(0)
    for _ in range(3):
        gradient = generator.normal(size=kernel.shape).astype("float32")
        optimizer.apply([gradient], [kernel])
        buffer = 0.6 * buffer + gradient.reshape(-1, 9)
        direction = newton_schulz(gradient.reshape(-1, 9) + 0.6 * buffer)
        expected = expected * (3 / np.linalg.norm(expected)) - 0.1 * direction
        np.testing.assert_allclose(np.array(kernel).reshape(-1, 9), expected, atol=1e-4)


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
