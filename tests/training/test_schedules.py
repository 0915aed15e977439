"""Learning rate schedules, as the optimizer applies them."""

import numpy as np
import pytest

from cifar10.training.optimizers import make_optimizer


def learning_rates(recipe, steps, examples=None):
    """Return the learning rate before each step; by default, an epoch has five."""
    optimizer = make_optimizer(recipe, examples or 5 * recipe.batch_size)
    rates = []
    for step in range(steps + 1):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    return rates


def test_cosine_rises_then_falls_to_zero(recipe):
    rates = learning_rates(recipe(schedule="cosine", epochs=10, warmup=0.2, learning_rate=0.4), 50)
    assert rates[0] == 0
    assert rates[5] == pytest.approx(0.2)
    assert rates[10] == pytest.approx(0.4)
    assert rates[30] == pytest.approx(0.2)
    assert rates[50] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_triangular_rises_and_falls_linearly(recipe, warmup):
    rates = learning_rates(recipe(schedule="triangular", epochs=10, warmup=warmup, learning_rate=0.4), 50)
    expected = np.interp(range(51), [0, 50 * warmup, 50] if warmup else [0, 50], [0, 0.4, 0] if warmup else [0.4, 0])
    np.testing.assert_allclose(rates, expected, atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "triangular"])
def test_start_and_end_are_fractions_of_the_peak(recipe, schedule):
    shape = {"epochs": 10, "warmup": 0.2, "learning_rate": 0.4, "schedule_start": 0.5, "schedule_end": 0.1}
    rates = learning_rates(recipe(schedule=schedule, **shape), 50)
    assert rates[0] == pytest.approx(0.2)
    assert rates[10] == pytest.approx(0.4)
    assert rates[50] == pytest.approx(0.04)


@pytest.mark.parametrize("end", [0.0, 0.1])
def test_triangular_never_falls_below_its_end(recipe, end):
    """Keras asks for the learning rate of a step after the last one, too."""
    shape = {"epochs": 10, "warmup": 0.2, "learning_rate": 0.4, "schedule_end": end}
    rates = learning_rates(recipe(schedule="triangular", **shape), 55)
    assert rates[50:] == pytest.approx([0.4 * end] * 6)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_other_schedules_stay_at_the_peak_within_an_epoch(recipe, schedule):
    assert learning_rates(recipe(schedule=schedule, learning_rate=0.4), 5) == pytest.approx([0.4] * 6)


def test_shorter_last_batch_counts_as_a_step(recipe):
    """65 examples are two batches of 64, so two epochs are four steps."""
    recipe = recipe(schedule="triangular", epochs=2, batch_size=64, learning_rate=0.4)
    assert learning_rates(recipe, 4, examples=65) == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])
