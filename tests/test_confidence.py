"""How a prediction and its confidence are put into words, by the service and `predict` alike."""

import numpy as np
import pytest

from cifar10.confidence import classify, describe_unsure, percent, unsure_threshold

PERCENTAGES = {
    0.0: "0.0%",
    1e-9: "<0.1%",
    0.0004: "<0.1%",
    0.0006: "0.1%",
    0.4312: "43.1%",
    0.9994: "99.9%",
    0.9996: ">99.9%",
    1.0: "100.0%",
}


@pytest.mark.parametrize(("fraction", "text"), PERCENTAGES.items())
def test_only_0_and_1_are_shown_as_0_and_100_percent(fraction, text):
    assert percent(fraction) == percent(np.float64(fraction)) == text


@pytest.mark.parametrize(
    ("probability", "unsure", "summary"),
    [(0.49, True, "Best guess: dog, 49.0%"), (0.5, False, "dog, 50.0%"), (0.99999, False, "dog, >99.9%")],
)
def test_a_prediction_below_the_threshold_is_a_guess(probability, unsure, summary):
    rest = (1 - probability) / 2
    found = classify(np.array([rest, probability, rest]), ["cat", "dog", "frog"], unsure_below=0.5)
    assert found == ("dog", probability, unsure, summary)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_model_is_less_certain_than_for_95_percent_of_its_validation_images(temperature):
    confidence = np.random.default_rng(0).uniform(0.5, 1, 1000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    powers = probabilities ** (1 / temperature)
    calibrated = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1)
    assert (calibrated < unsure_threshold(probabilities, temperature)).mean() == 0.05
    assert describe_unsure() == "less certain than for 95% of its validation images"
