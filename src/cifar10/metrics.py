"""Metrics of one model and comparisons of two: plain functions of arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifar10.contracts import Bin

MIN_SEEDS = 3  # for an interval of the mean: with two, it spans nine standard deviations on either side
DRAWS = 10_000  # resamples of the bootstrap
BINS = 15  # of equal width, for the calibration error, as in Guo et al. (2017)
TINY = np.finfo(np.float32).tiny  # 1.2e-38: the least probability under a logarithm


class Interval(NamedTuple):
    """The ends of a 95% interval."""

    low: float
    high: float


def wilson_interval(accuracy: float, images: int) -> Interval:
    """Return the 95% score interval of an accuracy on that number of images (Wilson 1927)."""
    z = 1.959964
    centre = (accuracy + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(accuracy * (1 - accuracy) / images + (z / (2 * images)) ** 2)
    # Rounding must not leave the accuracy outside its interval, nor an end outside 0 to 1.
    low, high = np.clip([centre - half, centre + half], 0.0, 1.0).tolist()
    return Interval(min(low, accuracy), max(high, accuracy))


def t_interval(values: Sequence[float]) -> Interval | None:
    """Return the 95% interval of the mean over seeds (Student 1908).

    None for fewer than `MIN_SEEDS`, or if all values are equal: accuracies are whole numbers of images, so chance alone
    may repeat one, which is no evidence that they do not vary.
    """
    if len(values) < MIN_SEEDS or np.allclose(values, values[0]):
        return None
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


class SeedComparison(NamedTuple):
    """How two recipes differ over trainings with the same seeds.

    Attributes:
        difference: mean metric of the first minus that of the second.
        interval: 95% interval of the difference; None for fewer than `MIN_SEEDS`, or if it is the same for all seeds.
        p_value: of the paired t-test; None likewise.
    """

    difference: float
    interval: Interval | None
    p_value: float | None


def compare_seeds(first: Sequence[float], second: Sequence[float]) -> SeedComparison:
    """Compare two recipes by a metric of their trainings, in the same order of seeds (Student 1908)."""
    differences = np.subtract(first, second)
    difference = float(differences.mean())
    interval = t_interval(differences.tolist())
    if interval is None:  # by a spread of 0, any difference would be significant, however small
        return SeedComparison(difference, None, None)
    from scipy.stats import ttest_1samp

    return SeedComparison(difference, interval, float(ttest_1samp(differences, 0).pvalue))


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def top2_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose true class is one of the two most probable ones."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return float((top == labels[:, None]).any(axis=1).mean())


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean cross-entropy in nats per image; smaller probabilities than `TINY` count as it."""
    chosen = np.take_along_axis(probabilities.astype(np.float64), labels[:, None].astype(int), axis=1)
    return float(-np.log(np.maximum(chosen, TINY)).mean())


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean squared error of the probabilities, summed over the classes: 0 to 2 (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[Bin]:
    """Return the bins of confidence that have images in them: their number, mean confidence and accuracy."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # open below, closed above
    return [
        {
            "images": int((bins == each).sum()),
            "confidence": float(confidence[bins == each].mean()),
            "accuracy": float(right[bins == each].mean()),
        }
        for each in np.unique(bins)
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy (Guo et al. 2017)."""
    bins = reliability(labels, probabilities)
    return sum(each["images"] * abs(each["confidence"] - each["accuracy"]) for each in bins) / len(labels)


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Divide the logits by a temperature: above 1 lowers the confidence. Returns float64 probabilities."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), TINY)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature, from 0.05 to 20, with the lowest cross-entropy on these images (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda logarithm: log_loss(labels, apply_temperature(probabilities, np.exp(logarithm))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def roc_auc(labels: np.ndarray, scores: np.ndarray, label: int) -> float | None:
    """Return the area under the ROC curve of one class against the rest, or None if one side has no images."""
    from sklearn.metrics import roc_auc_score

    truth = labels == label
    return None if truth.all() or not truth.any() else float(roc_auc_score(truth, scores[:, label]))


class Comparison(NamedTuple):
    """How two models differ on the same images.

    Attributes:
        first_only: the number of images that only the first classifies correctly.
        second_only: the number of images that only the second classifies correctly.
        difference: accuracy of the first minus that of the second.
        interval: 95% interval of the difference, by a paired bootstrap.
        p_value: of McNemar's exact test.
    """

    first_only: int
    second_only: int
    difference: float
    interval: Interval
    p_value: float


def compare(first_correct: np.ndarray, second_correct: np.ndarray) -> Comparison:
    """Compare two models by which images they classify correctly; bool (n,), the same images in the same order.

    McNemar's test (1947), in its exact binomial form, looks at the images that exactly one model classifies correctly,
    and asks how likely a split at least this uneven is if both models are equally good. In the paired bootstrap, each
    image contributes -1, 0 or 1 to the difference, so a resample is one draw of the counts of these three values.
    """
    from scipy.stats import binomtest

    count = len(first_correct)
    first_only = int((first_correct & ~second_correct).sum())
    second_only = int((~first_correct & second_correct).sum())
    shares = np.array([first_only, second_only, count - first_only - second_only]) / count
    drawn = np.random.default_rng(0).multinomial(count, shares, size=DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, (0.025, 0.975))
    split = first_only + second_only
    p_value = float(binomtest(first_only, split).pvalue) if split else 1.0
    difference = (first_only - second_only) / count
    return Comparison(first_only, second_only, difference, Interval(float(low), float(high)), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons (Holm 1979); compare each with the usual 5%."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.maximum.accumulate(np.array(p_values, dtype=float)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(raised, 1.0)
    return corrected.tolist()


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Return which points are Pareto-optimal: no other point is at least as good in both and better in one."""
    points = np.column_stack([np.asarray(costs, float), -np.asarray(gains, float)])
    return [not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any() for point in points]
