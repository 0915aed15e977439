"""Every metric against another implementation, or a case worked by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from cifar10 import metrics


@pytest.fixture(scope="module")
def predicted():
    """2,000 labels of five classes, and the probabilities of an overconfident model."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 2000).astype(np.uint8)
    logits = 3 * generator.normal(size=(2000, 5))
    logits[np.arange(2000), labels] += 3
    powers = np.exp(logits)
    return labels, (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_metrics_are_those_of_scikit_learn(predicted):
    labels, probabilities = predicted
    doubles = probabilities.astype(np.float64) / probabilities.sum(axis=1, keepdims=True)
    assert metrics.accuracy(labels, probabilities) == reference.accuracy_score(labels, probabilities.argmax(axis=1))
    assert metrics.top2_accuracy(labels, probabilities) == reference.top_k_accuracy_score(labels, probabilities, k=2)
    assert metrics.log_loss(labels, probabilities) == pytest.approx(reference.log_loss(labels, doubles), rel=1e-5)
    expected = reference.brier_score_loss(labels, doubles, scale_by_half=False)
    assert metrics.brier_score(labels, probabilities) == pytest.approx(expected, rel=1e-5)
    areas = [metrics.roc_auc(labels, probabilities, label) for label in range(5)]
    expected = reference.roc_auc_score(labels, doubles, multi_class="ovr", average="macro")
    assert np.mean(areas) == pytest.approx(expected, rel=1e-5)


def test_roc_auc_of_a_class_without_images_is_none():
    assert metrics.roc_auc(np.array([0, 0, 2]), np.eye(3)[[0, 1, 2]], 1) is None
    assert metrics.roc_auc(np.array([1, 1]), np.eye(3)[[0, 1]], 1) is None


def test_loss_of_a_probability_of_zero_is_large_but_finite():
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(87.3, abs=0.1)


def test_calibration_error_by_hand():
    """Two bins: three images at 0.9 of which two are correct, two at 0.6 of which both are."""
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 0, 0, 0, 1])
    bins = metrics.reliability(labels, probabilities)
    assert [(each["images"], round(each["accuracy"], 3)) for each in bins] == [(2, 1.0), (3, 0.667)]
    expected = (2 * abs(0.6 - 1) + 3 * abs(0.9 - 2 / 3)) / 5
    assert metrics.calibration_error(labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("confidences", "sizes"),
    [([0.61, 0.69], [1, 1]), ([0.58, 0.6], [2]), ([0.6, 0.61], [1, 1]), ([0.6, 0.6, 1.0], [2, 1])],
)
def test_bins_are_fifteenths_that_include_their_upper_end(confidences, sizes):
    """0.6 is nine fifteenths."""
    probabilities = np.array([[each, 1 - each] for each in confidences])
    bins = metrics.reliability(np.zeros(len(probabilities), int), probabilities)
    assert [each["images"] for each in bins] == sizes


def test_calibration_error_of_calibrated_probabilities_is_small():
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 200_000)
    labels = (generator.uniform(size=200_000) > confidence).astype(int)
    probabilities = np.column_stack([confidence, 1 - confidence])
    assert metrics.calibration_error(labels, probabilities) < 0.01
    assert metrics.calibration_error(1 - labels, probabilities) == pytest.approx(0.5, abs=0.01)


def test_temperature_is_recovered():
    """Labels are drawn from probabilities, which are then made overconfident by a known temperature."""
    generator = np.random.default_rng(2)
    calibrated = generator.dirichlet(np.full(10, 0.3), 50_000)
    labels = (calibrated.cumsum(axis=1) > generator.uniform(size=(50_000, 1))).argmax(axis=1)
    overconfident = metrics.apply_temperature(calibrated, 1 / 2.5)
    assert metrics.fit_temperature(labels, overconfident) == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(metrics.apply_temperature(overconfident, 2.5), calibrated, atol=1e-6)


def test_temperature_changes_confidence_but_no_predicted_class(predicted):
    labels, probabilities = predicted
    temperature = metrics.fit_temperature(labels, probabilities)
    after = metrics.apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(after.sum(axis=1), 1)
    np.testing.assert_array_equal(after.argmax(axis=1), probabilities.argmax(axis=1))
    assert temperature > 1
    assert metrics.calibration_error(labels, after) < metrics.calibration_error(labels, probabilities)
    grid = [
        metrics.log_loss(labels, metrics.apply_temperature(probabilities, each)) for each in np.linspace(0.5, 5, 200)
    ]
    assert metrics.log_loss(labels, after) <= min(grid) + 1e-9


def test_wilson_interval():
    """The worked example of Newcombe (1998, Statistics in Medicine 17:857), 81 of 263: 0.2553 to 0.3662."""
    assert metrics.wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    expected = stats.binomtest(9200, 10_000).proportion_ci(method="wilson")
    assert metrics.wilson_interval(0.92, 10_000) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_no_accuracy_is_outside_its_interval():
    """As rounding would have it, for example of no or all images."""
    for images in [*range(1, 200), 2500, 6000, 8000]:
        for correct in {0, images // 2, images}:
            low, high = metrics.wilson_interval(correct / images, images)
            assert 0 <= low <= correct / images <= high <= 1


def test_t_interval_is_that_of_scipy():
    values = [0.921, 0.925, 0.918]
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert metrics.t_interval(values) == pytest.approx(expected)
    assert metrics.t_interval([0.9]) is None
    assert metrics.t_interval([0.9, 0.91]) is None  # it would reach nine standard deviations to either side
    assert metrics.t_interval([0.1, 0.1, 0.1]) is None  # such as of networks that have collapsed


def test_recipes_are_compared_seed_by_seed():
    first, second = [0.84, 0.83, 0.86], [0.81, 0.82, 0.82]
    compared = metrics.compare_seeds(first, second)
    expected = stats.ttest_rel(first, second)
    assert compared.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert compared.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert compared.p_value == pytest.approx(expected.pvalue)
    assert metrics.compare_seeds(first[:2], second[:2])[1:] == (None, None)


@pytest.mark.parametrize("images", [0, 1, 10])
def test_equal_differences_tell_nothing(images):
    """Such as one image of 300 each time; in floats, they are not quite equal."""
    second = np.array([250, 253, 241])
    compared = metrics.compare_seeds((second + images) / 300, second / 300)
    assert compared == (pytest.approx(images / 300), None, None)


@pytest.mark.parametrize(("first_only", "second_only"), [(5, 15), (0, 6), (40, 40), (0, 0), (123, 77)])
def test_mcnemar_is_the_exact_binomial_test(first_only, second_only):
    """The sum over both tails, term by term."""
    from math import comb

    both = 50
    first = np.array([True] * first_only + [False] * second_only + [True] * both)
    second = np.array([False] * first_only + [True] * second_only + [True] * both)
    found = metrics.compare(first, second)
    split, less = first_only + second_only, min(first_only, second_only)
    tail = sum(comb(split, count) for count in range(less + 1)) / 2**split
    assert (found.first_only, found.second_only) == (first_only, second_only)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert found.difference == pytest.approx(first.mean() - second.mean())


def test_bootstrap_is_equivalent_to_resampling_the_images():
    generator = np.random.default_rng(3)
    first, second = generator.uniform(size=1000) < 0.9, generator.uniform(size=1000) < 0.87
    drawn = generator.integers(0, 1000, (10_000, 1000))
    expected = np.quantile(first[drawn].mean(axis=1) - second[drawn].mean(axis=1), (0.025, 0.975))
    assert metrics.compare(first, second).interval == pytest.approx(expected, abs=0.0015)
    assert metrics.compare(first, second) == metrics.compare(first, second)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then no less than the one before: 0.06 for 0.03 x 2 = 0.06 and 0.04 x 1."""
    assert metrics.holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0]
    assert metrics.holm([]) == []


def test_pareto_front_by_hand():
    costs, gains = [1, 2, 3, 4, 2], [0.80, 0.90, 0.85, 0.95, 0.90]
    assert metrics.pareto_front(costs, gains) == [True, True, False, True, True]
