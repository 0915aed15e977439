"""What predictions say about a model, and about two of them: plain functions of arrays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BINS = 15  # of the calibration error, equally wide, as in Guo et al. (2017)
LEAST = np.finfo(np.float32).tiny  # stands for a probability of 0 where a logarithm is taken


class Interval(NamedTuple):
    """Ends of a 95% interval."""

    low: float
    high: float


def wilson_interval(accuracy: float, pictures: int) -> Interval:
    """95% score interval of a share of that many pictures (Wilson 1927)."""
    z = 1.959964
    centre = (accuracy + z**2 / (2 * pictures)) / (1 + z**2 / pictures)
    half = z / (1 + z**2 / pictures) * np.sqrt(accuracy * (1 - accuracy) / pictures + (z / (2 * pictures)) ** 2)
    return Interval(min(float(centre - half), accuracy), max(float(centre + half), accuracy))  # whatever is rounded


def t_interval(values: Sequence[float]) -> Interval | None:
    """95% interval of the mean of what several seeds gave, by Student's t; None of a single one."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return Interval(float(np.mean(values) - half), float(np.mean(values) + half))


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of the pictures whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int = 2) -> float:
    """Share of the pictures whose true class is among the `k` most probable ones."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((top == labels[:, None]).any(axis=1).mean())


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean cross-entropy, in nats a picture; a probability of 0 counts as the least float32."""
    chosen = np.take_along_axis(probabilities.astype(np.float64), labels[:, None].astype(int), axis=1)
    return float(-np.log(np.maximum(chosen, LEAST)).mean())


def brier_score(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the truth, summed over the classes: 0 to 2 (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    """For each bin of confidence with pictures in it: their number, mean confidence and accuracy."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # open below, closed above
    return [
        {
            "pictures": int((bins == each).sum()),
            "confidence": float(confidence[bins == each].mean()),
            "accuracy": float(right[bins == each].mean()),
        }
        for each in np.unique(bins)
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: how far confidence and accuracy of a bin are apart, on average (Guo et al. 2017)."""
    bins = reliability(labels, probabilities)
    return sum(each["pictures"] * abs(each["confidence"] - each["accuracy"]) for each in bins) / len(labels)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of the logits divided by a temperature: above 1 less confident, below more; float64, sums of 1."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature, of 0.05 to 20, with the least cross-entropy on these pictures (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda logarithm: log_loss(labels, tempered(probabilities, np.exp(logarithm))),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def roc_auc(labels: np.ndarray, scores: np.ndarray, label: int) -> float | None:
    """Area under the curve of one class against the rest; None where there are only pictures of one of both sides."""
    from sklearn.metrics import roc_auc_score

    truth = labels == label
    return None if truth.all() or not truth.any() else float(roc_auc_score(truth, scores[:, label]))


class Discordance(NamedTuple):
    """How two models differ on the same pictures.

    Attributes:
        first_only: pictures that the first alone has right.
        second_only: pictures that the second alone has right.
        difference: accuracy of the first less that of the second.
        interval: of the difference, by a paired bootstrap.
        p_value: of McNemar's exact test.
    """

    first_only: int
    second_only: int
    difference: float
    interval: Interval
    p_value: float


def compare(first_right: np.ndarray, second_right: np.ndarray, draws: int = 10_000, seed: int = 0) -> Discordance:
    """Compare two models by which pictures they have right; bool (n,), both of the same pictures in the same order.

    The test asks how likely so uneven a split of the pictures on which just one is right would be if either were as
    likely (McNemar 1947, in its exact binomial form). Each picture drawn by the bootstrap brings -1, 0 or 1, so its
    sums are drawn as counts of these.
    """
    from scipy.stats import binomtest

    count = len(first_right)
    first_only = int((first_right & ~second_right).sum())
    second_only = int((~first_right & second_right).sum())
    shares = np.array([first_only, second_only, count - first_only - second_only]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=draws)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / count, (0.025, 0.975))
    split = first_only + second_only
    p_value = float(binomtest(first_only, split).pvalue) if split else 1.0
    difference = (first_only - second_only) / count
    return Discordance(first_only, second_only, difference, Interval(float(low), float(high)), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number: each may be held against the usual 5% (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    raised = np.maximum.accumulate(np.array(p_values, dtype=float)[order] * factors)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(raised, 1.0)
    return corrected.tolist()


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Which of them no other one beats: none costs less or as much and gains as much or more, and one of them truly."""
    points = np.column_stack([np.asarray(costs, float), -np.asarray(gains, float)])
    return [not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any() for point in points]
