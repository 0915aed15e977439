"""Reading, converting and rejecting image files."""

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

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


RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def twelve_bits(values):
    """Pack two values of 12 bits in three bytes."""
    bits = np.unpackbits(values.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 4:]
    return np.packbits(bits)


def tiff(values, bits, sample_format=1, white_is_zero=False):
    """A grey TIFF of 8 x 8 pixels, of kinds that Pillow reads and does not write."""
    content = values.tobytes()
    tags = {
        **{256: 8, 257: 8, 258: bits, 259: 1, 262: 0 if white_is_zero else 1},  # size, no compression
        **{273: 8, 277: 1, 278: 8, 279: len(content), 339: sample_format},  # one strip of one channel
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack("<2sHI", b"II", 42, 8 + len(content))
    return start + content + struct.pack("<H", len(tags)) + directory + bytes(4)


DEEP_TIFFS = {
    "12 bits": tiff(twelve_bits(4095 * RAMP), 12),
    "16 bits": tiff((65535 * RAMP).astype("<u2"), 16),
    "16 bits, white is 0": tiff((65535 * (1 - RAMP)).astype("<u2"), 16, white_is_zero=True),
    "floats from 0 to 1": tiff(RAMP.astype("<f4"), 32, sample_format=3),
    "floats, white is 0": tiff((1 - RAMP).astype("<f4"), 32, sample_format=3, white_is_zero=True),
}
UNDEFINED_TIFFS = {
    "signed 8 bits": tiff((127 * RAMP).astype("i1"), 8, sample_format=2),
    "signed 16 bits": tiff((32767 * RAMP).astype("<i2"), 16, sample_format=2),
    "32 bits": tiff((255 * RAMP).astype("<u4"), 32),
    "signed 32 bits": tiff((255 * RAMP).astype("<i4"), 32, sample_format=2),
    "floats from 0 to 255": tiff((255 * RAMP).astype("<f4"), 32, sample_format=3),
    "floats from -1 to 1": tiff((2 * RAMP - 1).astype("<f4"), 32, sample_format=3),
    "not a number": tiff(np.full((8, 8), np.nan, "<f4"), 32, sample_format=3),
}


@pytest.mark.parametrize("name", DEEP_TIFFS)
def test_grey_values_of_more_than_8_bits_are_scaled(tmp_path, name):
    (tmp_path / "a.tif").write_bytes(DEEP_TIFFS[name])
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "a.tif"))[..., 0], 255 * RAMP, atol=1)


@pytest.mark.parametrize("name", UNDEFINED_TIFFS)
def test_values_without_a_defined_black_and_white_are_rejected(tmp_path, name):
    (tmp_path / "a.tif").write_bytes(UNDEFINED_TIFFS[name])
    with pytest.raises(InputError, match=r"a\.tif has values for which .* from 0 to 1\.$"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_8_bits_keeps_its_brightness(tmp_path, mode):
    grey = Image.fromarray((255 * RAMP.round()).astype(np.uint8)).convert("RGB")
    if mode == "LAB":
        profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        grey = ImageCms.profileToProfile(grey, *profiles, outputMode="LAB")
    (grey.convert("P").convert("PA") if mode == "PA" else grey.convert(mode)).save(tmp_path / "a.tif")
    np.testing.assert_allclose(np.asarray(read_image(tmp_path / "a.tif"))[..., 0], 255 * RAMP.round(), atol=2)


def test_the_transparent_value_of_a_16_bit_image_becomes_white(tmp_path):
    values = np.where(RAMP < 0.5, 1000, 30_000).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=1000)
    image = np.asarray(read_image(tmp_path / "a.png"))[..., 0]
    assert set(image[values == 1000]) == {255}
    np.testing.assert_allclose(image[values == 30_000], 30_000 / 257, atol=1)


def test_premultiplied_transparency_of_a_grey_image_becomes_white(tmp_path):
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "a.tif")
    alpha, premultiplied = (struct.pack("<HHII", 338, 3, 1, kind) for kind in (2, 1))  # a tag that Pillow cannot write
    content = (tmp_path / "a.tif").read_bytes()
    assert content.count(alpha) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(alpha, premultiplied))
    assert (np.asarray(read_image(tmp_path / "a.tif")) == 255).all()


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


@pytest.mark.parametrize("size", [(640, 640), (641, 639), (3, 9000)])
def test_a_jpeg_of_too_many_pixels_is_halved_while_it_is_decoded(tmp_path, size):
    path, limit = tmp_path / "a.jpg", size[0] * size[1] // 4 + sum(size)
    whole = Image.effect_noise((8, 8), 90).convert("RGB").resize(size)
    whole.save(path, quality=95)
    with path.open("rb") as file:
        halved = images.decode_image(file, "a.jpg", limit)
    assert halved.size == tuple(-(-side // 2) for side in size)
    if min(size) > 100:
        np.testing.assert_allclose(to_network_input(halved), to_network_input(whole), atol=10)
    for options, most in (({}, limit // 2), ({"progressive": True}, limit)):
        whole.save(path, **options)
        with path.open("rb") as file, pytest.raises(images.SizeError, match=rf"\({size[0]} x {size[1]}\)"):
            images.decode_image(file, "a.jpg", most)
    whole.save(path)
    content = path.read_bytes()
    header = content.rindex(b"\xff\xda")
    one_component = b"\xff\xda\x00\x08\x01" + content[header + 5 : header + 7] + content[header + 11 : header + 14]
    path.write_bytes(content[:header] + one_component + content[header + 14 :])  # the first of several scans
    with path.open("rb") as file, pytest.raises(images.SizeError):
        images.decode_image(file, "a.jpg", limit)


def with_scans(content, repeats):
    """Repeat the last scan of a progressive JPEG."""
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * repeats + content[-2:]


@pytest.fixture
def progressive(tmp_path):
    path = tmp_path / "a.jpg"
    two_colours().save(path, progressive=True, quality=95)
    return path


@pytest.mark.parametrize("behind", [b"\xff\xda\x00\x08" * 1000, bytes(range(256)) * 100])
def test_what_is_behind_the_end_of_a_jpeg_does_not_matter(progressive, behind):
    """Motion photos have a video there, whose bytes are arbitrary."""
    alone = np.asarray(read_image(progressive))
    progressive.write_bytes(progressive.read_bytes() + behind)
    np.testing.assert_array_equal(np.asarray(read_image(progressive)), alone)


HIDING = {  # what is inserted before the scans -> would end the count if segments were not followed as libjpeg does
    "nothing": b"",
    "the end of an image in a comment": b"\xff\xfe\x00\x04\xff\xd9",
    "fill bytes": b"\xff" * 9,
    "bytes between segments": b"\x00\xff\x00\x01",
    "a segment shorter than its length": b"\xff\xfe\x00\x00",
    "restart markers": b"\xff\xd0\xff\xd7",
}


@pytest.mark.parametrize("name", HIDING)
def test_a_jpeg_with_too_many_scans_is_rejected_whatever_hides_them(progressive, name):
    content = progressive.read_bytes()
    first = content.index(b"\xff\xda")
    hiding = content[:first] + HIDING[name] + content[first:]
    for scans in (50, 1000):
        progressive.write_bytes(with_scans(hiding, scans))
        if scans > 100:
            with pytest.raises(InputError, match="more than 100 JPEG scans"):
                read_image(progressive)
        else:
            assert read_image(progressive).size == (64, 48)


def test_an_invalid_marker_hides_no_scans(tmp_path):
    """Where a restart marker is due, libjpeg skips such a marker alone, and not a segment after it."""
    path = tmp_path / "a.jpg"
    two_colours().save(path, progressive=True, quality=95, restart_marker_blocks=1)
    content = path.read_bytes()
    restart = content.rindex(b"\xff\xd0")
    for scans in (50, 1000):
        many = with_scans(content, scans)
        path.write_bytes(many[:restart] + b"\xff\x02\xff\xff" + many[restart:])
        if scans > 100:
            with pytest.raises(InputError, match="more than 100 JPEG scans"):
                read_image(path)
        else:
            assert read_image(path).size == (64, 48)


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
