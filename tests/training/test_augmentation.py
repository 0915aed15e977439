import keras
import numpy as np
import pytest

from cifar10.training.augmentation import Augmentation, mirror_some

FILL = (10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(40, 256, (64, 32, 32, 3), dtype=np.uint8)


def augment(pictures, recipe):
    result = keras.ops.convert_to_numpy(Augmentation(recipe, FILL)(pictures))
    assert result.shape == pictures.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 255
    return result


def test_nothing_asked_for_nothing_changed(pictures, recipe):
    np.testing.assert_array_equal(augment(pictures, recipe()), pictures)


def test_flip_mirrors_about_half_of_the_pictures(pictures, recipe):
    result = augment(pictures, recipe(flip="random"))
    kept = (result == pictures).all(axis=(1, 2, 3))
    mirrored = (result == pictures[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 16 < mirrored.sum() < 48


def test_alternating_flip_shows_a_picture_both_ways_in_any_two_epochs(pictures, recipe):
    mirrored = mirror_some(pictures, seed=0)
    kept = (mirrored == pictures).all(axis=(1, 2, 3))
    assert 16 < kept.sum() < 48
    layer = Augmentation(recipe(flip="alternating"), FILL)
    for epoch in range(3):
        layer.epoch.assign(epoch)
        seen = mirrored[:, :, ::-1] if epoch % 2 else mirrored
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(mirrored)), seen)


def test_shift_moves_each_picture_by_whole_pixels_of_its_own(pictures, recipe):
    span = 3
    result = augment(pictures, recipe(shift=span))
    padded = np.pad(pictures, ((0, 0), (span, span), (span, span), (0, 0)), mode="reflect")
    seen = set()
    for picture, padding in zip(result, padded, strict=True):
        matches = [
            (row, column)
            for row in range(2 * span + 1)
            for column in range(2 * span + 1)
            if (padding[row : row + 32, column : column + 32] == picture).all()
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 20
    assert {row for row, _ in seen} == {column for _, column in seen} == set(range(2 * span + 1))


def test_flip_and_shift_together_keep_pixels_exact(pictures, recipe):
    result = augment(pictures, recipe(flip="random", shift=2))
    for before, after in zip(pictures, result, strict=True):
        assert set(map(tuple, after.reshape(-1, 3))) <= set(map(tuple, before.reshape(-1, 3).astype(np.float32)))


@pytest.mark.parametrize("size", [1, 7, 8])
def test_cutout_blanks_one_square_of_that_size(pictures, recipe, size):
    result = augment(pictures, recipe(cutout=size))
    blank = (result == np.array(FILL, np.float32)).all(axis=-1)
    np.testing.assert_array_equal(result[~blank], pictures[~blank])
    sides = [(mask.any(axis=1).sum(), mask.any(axis=0).sum()) for mask in blank]
    assert [mask.sum() for mask in blank] == [rows * columns for rows, columns in sides]  # filled rectangles
    assert max(rows for rows, _ in sides) == size  # cut off at the border, whole elsewhere
    assert sum(side == (size, size) for side in sides) > len(sides) / 3


def test_rotation_turns_about_the_centre_by_at_most_so_much(recipe):
    rows, columns = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(rows, columns) < 13
    ramp = np.repeat((128 + 4 * columns)[None, :, :, None], 3, axis=-1) + np.zeros((64, 1, 1, 1))
    result = augment(ramp, recipe(rotation=30))[..., 0] / 4 - 32
    # A ramp stays a plane when it is turned: its two slopes are the cosine and the sine of the angle.
    slopes = [np.linalg.lstsq(np.stack([columns[inside], rows[inside]], 1), each[inside])[0] for each in result]
    np.testing.assert_allclose([np.hypot(*slope) for slope in slopes], 1, atol=0.01)
    angles = np.degrees([np.arctan2(across, along) for along, across in slopes])
    assert abs(angles).max() <= 30.5
    assert angles.max() > 20
    assert angles.min() < -20


def test_zoom_scales_by_at_most_so_much(recipe):
    columns = np.mgrid[:32, :32][1] - 15.5
    ramp = np.repeat((128 + 4 * columns)[None, :, :, None], 3, axis=-1) + np.zeros((64, 1, 1, 1))
    result = augment(ramp, recipe(zoom=0.25))[:, 16, 8:24, 0]
    factors = 4 / np.diff(result).mean(axis=1)
    assert 0.74 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.26


def test_everything_at_once_compiles(pictures, recipe):
    layer = Augmentation(recipe(flip="random", shift=4, cutout=8, rotation=15, zoom=0.1), FILL)
    model = keras.Sequential([keras.Input((32, 32, 3)), layer, keras.layers.GlobalAveragePooling2D()])
    assert np.isfinite(model.predict(pictures, verbose=0)).all()


def test_same_seed_same_views_and_new_views_each_time(pictures, recipe):
    layers = [Augmentation(recipe(shift=4, seed=seed), FILL) for seed in (1, 1, 2)]
    first, same, other = (keras.ops.convert_to_numpy(layer(pictures)) for layer in layers)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert (first != keras.ops.convert_to_numpy(layers[0](pictures))).any()
