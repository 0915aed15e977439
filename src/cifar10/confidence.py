"""What a model predicts and how sure it is, in numbers and words: the same for the service, its page and `predict`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cifar10.metrics import apply_temperature

UNSURE_SHARE = 0.05  # of the validation images have a confidence below the threshold


class Classification(NamedTuple):
    """The prediction for one image.

    Attributes:
        label: the most probable class.
        probability: of that class.
        unsure: whether it is below the threshold.
        summary: all of this in words.
    """

    label: str
    probability: float
    unsure: bool
    summary: str


def classify(probabilities: np.ndarray, class_names: Sequence[str], unsure_below: float) -> Classification:
    """Return the prediction for one image.

    Args:
        probabilities: calibrated, floats (classes,).
        class_names: in the order of the labels.
        unsure_below: the threshold; see `unsure_threshold`.
    """
    label = int(np.argmax(probabilities))
    name, probability = class_names[label], float(probabilities[label])
    unsure = probability < unsure_below
    summary = f"{'Best guess: ' if unsure else ''}{name}, {percent(probability)}"
    return Classification(name, probability, unsure, summary)


def unsure_threshold(val_probabilities: np.ndarray, temperature: float) -> float:
    """Return the confidence that all but `UNSURE_SHARE` of the validation images reach, with this temperature.

    Args:
        val_probabilities: uncalibrated, floats (n, classes), on the val split.
        temperature: by which they are calibrated.
    """
    return float(np.quantile(apply_temperature(val_probabilities, temperature).max(axis=1), UNSURE_SHARE))


def describe_unsure(share: float = UNSURE_SHARE) -> str:
    """Say what a confidence below the threshold means; this share of the validation images has one."""
    return f"less certain than for {100 * (1 - share):.0f}% of its validation images"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage, of which only exactly 0 and 1 become 0.0% and 100.0%."""
    if 0 < fraction < 0.0005:
        return "<0.1%"
    if 0.9995 <= fraction < 1:
        return ">99.9%"
    return f"{100 * fraction:.1f}%"
