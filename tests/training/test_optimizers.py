import keras
import numpy as np
import pytest

from cifar10.training.optimizers import make_optimizer, orthogonalised, peak_learning_rate


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


def test_weight_decay_shrinks_biases_too_where_it_is_wanted(recipe):
    values = {"optimizer": "sgd", "weight_decay": 0.5, "learning_rate": 0.1, "bias_learning_rate": 64.0}
    before, after = one_step(make_optimizer(recipe(**values, decay_biases=True), 1), 0.0)
    for variable, value in before.items():
        np.testing.assert_allclose(after[variable], value * (1 - 0.5 * 0.1), rtol=1e-5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_bias_of_a_whitening_convolution_learns_for_some_epochs(recipe, accumulate):
    """Its rate falls to nothing, and it is not shrunk any more either; others go on."""
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


def test_sgd_has_nesterov_momentum(recipe):
    """From rest, its first step is 1 + 0.9 times the gradient."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=0.1), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 0.19, rtol=1e-4)


def test_gradients_are_clipped_together(recipe):
    """Twelve weights, three biases, three gammas and three betas: 21 ones are a vector of length 4.58."""
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=1.0, gradient_clip=1.0), 1), 1.0)
    np.testing.assert_allclose(before["kernel"] - after["kernel"], 1.9 / 21**0.5, rtol=1e-4)


def test_ends_of_the_schedule_are_shares_of_its_peak(recipe):
    shape = {"epochs": 10, "warmup": 0.2, "learning_rate": 0.4, "schedule_start": 0.5, "schedule_end": 0.1}
    for schedule in ("cosine", "triangular"):
        learning_rates = rates(recipe(schedule=schedule, **shape), 51)
        assert learning_rates[0] == pytest.approx(0.2)
        assert learning_rates[10] == pytest.approx(0.4)
        assert learning_rates[50] == pytest.approx(0.04)


def test_biases_learn_at_a_rate_of_their_own(recipe):
    before, after = one_step(make_optimizer(recipe(optimizer="sgd", learning_rate=0.1, bias_learning_rate=8.0), 1), 1.0)
    for name, factor in {"kernel": 1, "gamma": 1, "bias": 8, "beta": 8}.items():
        np.testing.assert_allclose(before[name] - after[name], 0.19 * factor, rtol=1e-4)


@pytest.mark.parametrize(("momentum", "batch_size"), [(0.0, 256), (0.85, 1024), (0.9, 64)])
def test_decoupled_values_hold_for_1024_pictures_whatever_batch_and_momentum(recipe, momentum, batch_size):
    """Of steps with one gradient, as many as it takes for momentum not to matter."""
    values = {"learning_rate": 0.1, "weight_decay": 0.01, "momentum": momentum, "batch_size": batch_size}
    recipe = recipe(optimizer="sgd", decoupled=True, **values)
    per_step = peak_learning_rate(recipe) / (1 - momentum)
    published = 0.1 / (1 + 1 / (1 - momentum)) / (1 - momentum)  # arXiv 2404.00498
    assert per_step * 1024 / batch_size == pytest.approx(published)
    optimizer = make_optimizer(recipe, 1)
    assert optimizer.decay * float(optimizer.learning_rate) * 1024 / batch_size == pytest.approx(0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_orthogonalised_sets_the_singular_values_to_about_one(shape, precision):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    result = np.array(orthogonalised(matrix, precision), "float32")
    assert abs(np.linalg.svd(result, compute_uv=False) - 1).max() < 0.5
    assert abs(values / values.mean() - 1).max() > 0.4  # it had something to do
    assert np.trace((left @ right).T @ result) > 0.9 * np.sqrt(12) * np.linalg.norm(result)


def test_muon_trains_kernels_of_convolutions_and_keeps_their_norm(recipe):
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


def test_lookahead_goes_back_to_a_slow_average(recipe):
    """At the end of ten steps, the decay is 0.95 to the power of the interval."""
    variable = keras.Variable(np.zeros(3, "float32"))
    optimizer = make_optimizer(recipe(optimizer="sgd", momentum=0.0, learning_rate=1.0, lookahead=5, epochs=10), 1)
    seen = []
    for _ in range(10):
        optimizer.apply([np.full(3, -1.0, "float32")], [variable])
        seen.append(float(variable[0]))
    middle = 5 * (1 - 0.95**5 * 0.5**3)
    assert seen == pytest.approx([1, 2, 3, 4, middle, *(middle + i for i in range(1, 5)), middle + 5 * (1 - 0.95**5)])


def test_accumulated_gradients_step_together_and_the_schedule_ends_with_the_epochs(recipe):
    """Two epochs of four batches, two of which make a step: their mean gradients are 2 and 6, and 0."""
    options = {"optimizer": "sgd", "momentum": 0.0, "learning_rate": 1.0, "schedule": "triangular", "epochs": 2}
    optimizer = make_optimizer(recipe(**options, batch_size=8, accumulate=2), examples=32)
    variable = keras.Variable(np.zeros(1, "float32"))
    seen = []
    for gradient in (1.0, 3.0, 4.0, 8.0, 0.0, 0.0, 0.0, 0.0):
        optimizer.apply([np.full(1, gradient, "float32")], [variable])
        seen.append(float(variable[0]))
    assert seen[:4] == pytest.approx([0, -2 * 7 / 8, -2 * 7 / 8, -2 * 7 / 8 - 6 * 5 / 8])
    assert float(optimizer.learning_rate) == 0


def test_fused_adam_steps_as_the_standard_one(recipe):
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
