"""Pictures as people have them."""

import numpy as np
import pytest
from PIL import Image

from cifar10.errors import InputError
from cifar10.images import find_images, read_image, to_network_input


def photograph(mode="RGB", size=(64, 48)):
    """Red on the left, blue on the right."""
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
        ("without_ending", "RGB", {"format": "PNG"}),
    ],
)
def test_every_common_format_comes_out_the_same(tmp_path, name, mode, options):
    photograph(mode).save(tmp_path / name, **options)
    seen = to_network_input(read_image(tmp_path / name))
    assert (seen.shape, seen.dtype) == ((32, 32, 3), np.uint8)
    np.testing.assert_allclose(seen[:, 2], np.tile([255, 0, 0], (32, 1)), atol=12)
    np.testing.assert_allclose(seen[:, 29], np.tile([0, 0, 255], (32, 1)), atol=12)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_is_grey(tmp_path, mode):
    values = np.full((40, 40), 32768 if mode == "I;16" else 128, np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(values)
    (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "a.png")
    seen = to_network_input(read_image(tmp_path / "a.png"))
    expected = 127.5 if mode == "1" else 128
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), expected, atol=1.5)


def test_transparent_is_white_and_exif_turns(tmp_path):
    Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (to_network_input(read_image(tmp_path / "clear.png")) == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    photograph().save(tmp_path / "turned.jpg", exif=exif, quality=95)
    picture = read_image(tmp_path / "turned.jpg")
    assert picture.size == (48, 64)
    seen = to_network_input(picture)
    np.testing.assert_allclose(seen[2].mean(axis=0), [255, 0, 0], atol=12)  # the left is above now


def test_damaged_exif_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph().save(path, exif=exif, quality=95)
    content = bytearray(path.read_bytes())
    start = content.index(b"Exif") + 6
    for length in range(2, 24):  # more and more of it is no EXIF
        content[start : start + length] = bytes(range(200, 200 + length))
        path.write_bytes(content)
        assert to_network_input(read_image(path)).shape == (32, 32, 3)


def test_small_and_narrow_pictures_are_taken_too(tmp_path):
    for size in ((1, 1), (5, 9), (32, 32), (300, 20)):
        photograph(size=size).save(tmp_path / "a.png")
        assert to_network_input(read_image(tmp_path / "a.png")).shape == (32, 32, 3)
    picture = photograph(size=(32, 32))
    np.testing.assert_array_equal(to_network_input(picture), np.asarray(picture))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is no picture"), (b"hello", "is no picture"), (b"\x89PNG\r\n\x1a\n", "is no picture|cannot be read")],
)
def test_no_picture_is_told(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / "a.png")


def test_truncated_and_huge_pictures_are_told(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    photograph(size=(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match=r"a.png cannot be read"):
        read_image(path)
    photograph(size=(200, 200)).save(path)
    monkeypatch.setattr(pictures, "MOST_PIXELS", 39_999)
    with pytest.raises(InputError, match="200 x 200 pixels, which is too many"):
        read_image(path)


def test_folder_gives_its_files(tmp_path):
    with pytest.raises(InputError, match="has no pictures in it"):
        find_images(str(tmp_path))
    for name in ("b.png", "a.png", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(str(tmp_path))] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="There is no picture and no folder"):
        find_images(str(tmp_path / "none"))
