"""Reading, converting and rejecting image files."""

import numpy as np
import pytest
from PIL import Image

from cifar10 import images
from cifar10.errors import InputError
from cifar10.images import find_images, read_image, to_network_input


def two_colours(mode="RGB", size=(64, 48)):
    """An image with a red left half and a blue right half."""
    values = np.zeros((size[1], size[0], 3), np.uint8)
    values[:, : size[0] // 2, 0] = 255
    values[:, size[0] // 2 :, 2] = 255
    return Image.fromarray(values).convert(mode)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGB", {}),
        ("a.jpg", "RGB", {"quality": 95}),
        ("a.jpg", "CMYK", {}),
        ("a.webp", "RGB", {"lossless": True}),
        ("a.bmp", "RGB", {}),
        ("a.tiff", "RGB", {}),
        ("a.gif", "P", {}),
        ("a.png", "P", {}),
        ("a.png", "RGBA", {}),
        ("without_extension", "RGB", {"format": "PNG"}),
    ],
)
def test_common_formats_give_the_same_network_input(tmp_path, name, mode, options):
    two_colours(mode).save(tmp_path / name, **options)
    network_input = to_network_input(read_image(tmp_path / name))
    assert (network_input.shape, network_input.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_allclose(network_input[:, 2], np.tile([255, 0, 0], (32, 1)), atol=12)
    np.testing.assert_allclose(network_input[:, 29], np.tile([0, 0, 255], (32, 1)), atol=12)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_greyscale_modes_keep_their_brightness(tmp_path, mode):
    values = np.full((40, 40), 32768 if mode == "I;16" else 128, np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(values)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "a.png")
    network_input = to_network_input(read_image(tmp_path / "a.png"))
    expected = 127.5 if mode == "1" else 128
    np.testing.assert_allclose(network_input.mean(axis=(0, 1)), expected, atol=1.5)


def test_transparent_pixels_become_white_and_exif_orientation_is_applied(tmp_path):
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "transparent.png")
    assert (to_network_input(read_image(tmp_path / "transparent.png")) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    two_colours().save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    image = read_image(tmp_path / "rotated.jpg")
    assert image.size == (48, 64)
    network_input = to_network_input(image)
    np.testing.assert_allclose(network_input[2].mean(axis=0), [255, 0, 0], atol=12)  # the left half is now on top


def test_damaged_exif_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    two_colours().save(path, exif=exif, quality=95)
    content = bytearray(path.read_bytes())
    start = content.index(b"Exif") + 6
    for length in range(2, 24):  # overwrite a growing part of the EXIF data
        content[start : start + length] = bytes(range(200, 200 + length))
        path.write_bytes(content)
        assert to_network_input(read_image(path)).shape == (32, 32, 3)


def test_small_and_narrow_images_are_resized(tmp_path):
    for size in ((1, 1), (5, 9), (32, 32), (300, 20)):
        two_colours(size=size).save(tmp_path / "a.png")
        assert to_network_input(read_image(tmp_path / "a.png")).shape == (32, 32, 3)
    image = two_colours(size=(32, 32))
    np.testing.assert_array_equal(to_network_input(image), np.asarray(image))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an image"),
        (b"hello", "is not an image"),
        (b"\x89PNG\r\n\x1a\n", "is not an image|cannot be read"),
    ],
)
def test_files_that_are_not_images_are_rejected(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "a.png")


def test_truncated_and_huge_images_are_rejected(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    two_colours(size=(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a.png cannot be read"):
        read_image(path)
    two_colours(size=(200, 200)).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 39_999)
    with pytest.raises(InputError, match=r"too many pixels \(200 x 200\)"):
        read_image(path)


def test_find_images_lists_a_folder(tmp_path):
    with pytest.raises(InputError, match="contains no images"):
        find_images(str(tmp_path))
    for name in ("b.png", "a.png", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(str(tmp_path))] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="does not exist"):
        find_images(str(tmp_path / "none"))
    with pytest.raises(InputError, match="does not exist"):
        find_images("~nobody-of-this-name/image.png")
