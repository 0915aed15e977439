"""Corruptions grow with severity, and the same seed gives the same result."""

import numpy as np
import pytest

from cifar10.pipelines.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def images(drawn):
    return drawn[1].images[:20]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name, images):
    before = images.copy()
    corrupted = [corrupt(images, name, severity, seed=0) for severity in SEVERITIES]
    damage = [np.abs(each.astype(float) - images).mean() for each in corrupted]
    assert all(each.dtype == np.uint8 and each.shape == images.shape for each in corrupted)
    assert all(np.diff(damage) > 0)
    assert damage[0] > 0.5
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(corrupted[2], corrupt(images, name, 3, seed=0))


def test_noise_has_its_standard_deviation_and_depends_on_the_seed():
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    noisy = corrupt(grey, "gaussian_noise", 2, seed=0)
    assert noisy.std() == pytest.approx(13, rel=0.02)
    assert (noisy != corrupt(grey, "gaussian_noise", 2, seed=1)).mean() > 0.9


def test_contrast_keeps_the_mean_and_brightness_raises_it(images):
    flat = np.clip(images, 60, 150)
    assert corrupt(flat, "contrast", 5, 0).mean() == pytest.approx(flat.mean(), abs=0.5)
    assert corrupt(flat, "brightness", 1, 0).mean() == pytest.approx(flat.mean() + 255 * 0.08, abs=0.6)
