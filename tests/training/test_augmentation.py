import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cifar10.training.augmentation import Augmentation, _bilinear, flip_half, make_mixing, reduce_size

FILL = (10.0, 20.0, 30.0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(40, 256, (64, 32, 32, 3), dtype=np.uint8)


def augment(images, recipe):
    result = keras.ops.convert_to_numpy(Augmentation(recipe, FILL)(images))
    assert result.shape == images.shape
    assert result.dtype == np.float32
    assert result.min() >= 0
    assert result.max() <= 255
    return result


def test_without_options_nothing_changes(images, recipe):
    np.testing.assert_array_equal(augment(images, recipe()), images)


def test_random_flips_about_half_of_the_images(images, recipe):
    result = augment(images, recipe(flip="random"))
    kept = (result == images).all(axis=(1, 2, 3))
    flipped = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ flipped).all()
    assert 16 < flipped.sum() < 48


def test_alternating_flip_shows_each_image_both_ways_in_any_two_epochs(images, recipe):
    flipped = flip_half(images, seed=0)
    kept = (flipped == images).all(axis=(1, 2, 3))
    assert 16 < kept.sum() < 48
    np.testing.assert_array_equal(flipped[~kept], images[~kept][:, :, ::-1])
    layer = Augmentation(recipe(flip="alternating"), FILL)
    for epoch in range(3):
        layer.epoch.assign(epoch)
        seen = flipped[:, :, ::-1] if epoch % 2 else flipped
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(flipped)), seen)


def test_shift_moves_each_image_by_its_own_whole_pixels(images, recipe):
    span = 3
    result = augment(images, recipe(shift=span))
    padded = np.pad(images, ((0, 0), (span, span), (span, span), (0, 0)), mode="reflect")
    seen = set()
    for image, padding in zip(result, padded, strict=True):
        matches = [
            (row, column)
            for row in range(2 * span + 1)
            for column in range(2 * span + 1)
            if (padding[row : row + 32, column : column + 32] == image).all()
        ]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) > 20
    assert {row for row, _ in seen} == {column for _, column in seen} == set(range(2 * span + 1))


def test_flip_and_shift_together_keep_pixels_exact(images, recipe):
    result = augment(images, recipe(flip="random", shift=2))
    for before, after in zip(images, result, strict=True):
        assert set(map(tuple, after.reshape(-1, 3))) <= set(map(tuple, before.reshape(-1, 3).astype(np.float32)))


@pytest.mark.parametrize("size", [1, 7, 8])
def test_cutout_fills_one_square_of_that_size(images, recipe, size):
    result = augment(images, recipe(cutout=size))
    filled = (result == np.array(FILL, np.float32)).all(axis=-1)
    np.testing.assert_array_equal(result[~filled], images[~filled])
    sides = [(mask.any(axis=1).sum(), mask.any(axis=0).sum()) for mask in filled]
    assert [mask.sum() for mask in filled] == [rows * columns for rows, columns in sides]  # rectangles
    assert max(rows for rows, _ in sides) == size  # cropped at the border, complete elsewhere
    assert sum(side == (size, size) for side in sides) > len(sides) / 3


def test_rotation_is_about_the_centre_and_at_most_the_given_angle(recipe):
    rows, columns = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(rows, columns) < 13
    ramp = np.repeat((128 + 4 * columns)[None, :, :, None], 3, axis=-1) + np.zeros((64, 1, 1, 1))
    result = augment(ramp, recipe(rotation=30))[..., 0] / 4 - 32
    # A rotated ramp is still a plane, whose two slopes are the cosine and the sine of the angle.
    slopes = [np.linalg.lstsq(np.stack([columns[inside], rows[inside]], 1), each[inside])[0] for each in result]
    np.testing.assert_allclose([np.hypot(*slope) for slope in slopes], 1, atol=0.01)
    angles = np.degrees([np.arctan2(across, along) for along, across in slopes])
    assert abs(angles).max() <= 30.5
    assert angles.max() > 20
    assert angles.min() < -20


def test_pixels_between_others_are_interpolated_and_those_beyond_the_border_reflected():
    """As by scipy, whose `mirror` does not repeat the border either."""
    generator = np.random.default_rng(0)
    images = generator.uniform(0, 255, (3, 32, 32, 3)).astype("float32")
    rows, columns = generator.uniform(-20, 52, (2, 3, 32, 32)).astype("float32")
    found = keras.ops.convert_to_numpy(_bilinear(images, rows, columns))
    for image, row, column, result in zip(images, rows, columns, found, strict=True):
        for channel in range(3):
            expected = map_coordinates(image[..., channel], [row, column], order=1, mode="mirror")
            np.testing.assert_allclose(result[..., channel], expected, atol=0.01)


def test_zoom_scales_by_at_most_the_given_fraction(recipe):
    columns = np.mgrid[:32, :32][1] - 15.5
    ramp = np.repeat((128 + 4 * columns)[None, :, :, None], 3, axis=-1) + np.zeros((64, 1, 1, 1))
    result = augment(ramp, recipe(zoom=0.25))[:, 16, 8:24, 0]
    factors = 4 / np.diff(result).mean(axis=1)
    assert 0.74 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.26


def test_all_options_together_compile(images, recipe):
    layer = Augmentation(recipe(flip="random", shift=4, cutout=8, rotation=15, zoom=0.1), FILL)
    model = keras.Sequential([keras.Input((32, 32, 3)), layer, keras.layers.GlobalAveragePooling2D()])
    assert np.isfinite(model.predict(images, verbose=0)).all()


@pytest.mark.parametrize("size", [8, 16, 24, 25, 31, 32])
def test_reduced_pixel_is_the_mean_of_the_area_it_covers(size):
    image = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    reduced = keras.ops.convert_to_numpy(reduce_size(keras.ops.convert_to_tensor(image), size))
    enlarged = image.repeat(size, axis=1).repeat(size, axis=2)  # of which 32x32 pixels make one
    expected = enlarged.reshape(2, size, 32, size, 32, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(reduced, expected, rtol=1e-4)


def test_images_are_mixed_with_the_highest_seed(images, recipe):
    mixing = make_mixing(recipe(mixup=0.5, seed=2**32 - 1))
    assert keras.ops.shape(mixing(images.astype("float32"))) == images.shape


def test_same_seed_gives_the_same_images_and_each_call_new_ones(images, recipe):
    layers = [Augmentation(recipe(shift=4, seed=seed), FILL) for seed in (1, 1, 2)]
    first, same, other = (keras.ops.convert_to_numpy(layer(images)) for layer in layers)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert (first != keras.ops.convert_to_numpy(layers[0](images))).any()
