"""Read image files of any size and format, and turn them into input for the networks."""

import os
import re
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT, TiffImageFile

from cifar10.errors import InputError

IMAGE_SIZE = 32  # height and width of the network input, in pixels
MAX_PIXELS = 50_000_000  # per image, so that a small compressed file cannot exhaust the memory
MAX_JPEG_SCANS = 100  # each scan of a progressive JPEG updates every pixel; encoders write about ten
# Those markers of a JPEG that end a scan: of segments, which have a length, and of the end of the image. The others,
# which are restart markers and invalid ones, are skipped by libjpeg.
JPEG_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])")
END_OF_IMAGE, START_OF_SCAN = b"\xd9", b"\xda"
THUMBNAIL_SIZE = 256  # maximum height and width of a thumbnail, in pixels


class FormatError(InputError):
    """The file is not an image, or its format is not supported."""


class SizeError(InputError):
    """The image has too many pixels."""


def find_images(path: str) -> list[Path]:
    """Return the file at this path, or the files of this folder sorted by name, without hidden files.

    Raises:
        InputError: the path does not exist, or the folder has no files.
    """
    location = Path(os.path.expanduser(path))  # unlike pathlib's, it does not fail for an unknown user
    if location.is_dir():
        files = sorted(file for file in location.iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise InputError(f"The folder {location} contains no images.")
        return files
    if not location.exists():
        raise InputError(f"{location} does not exist. Pass an image or a folder with --params=image=FILE_OR_FOLDER")
    return [location]


def printable(path: Path) -> str:
    """Return a path as text that can be printed, drawn and saved; Linux permits names that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_image(path: Path) -> Image.Image:
    """Read an image file; see `decode_image` for the result.

    Raises:
        InputError: the file is not an image, is damaged, or has too many pixels.
    """
    try:
        with path.open("rb") as file:
            return decode_image(file, printable(path), MAX_PIXELS)
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read: {error}.") from error


def decode_image(file: BinaryIO, name: str, max_pixels: int, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Decode an image to RGB, with its EXIF orientation applied and transparent areas on white.

    Only the first frame of an animation is decoded. A JPEG with up to four times too many pixels is decoded at half its
    size, if it can be decoded line by line and has no more pixels than Pillow opens, 89 million.

    Args:
        file: an open image file; the format is detected from its content.
        name: the name of the image in error messages.
        max_pixels: images of which more pixels would be decoded are rejected before.
        formats: Pillow's names of the accepted formats; None accepts every format that Pillow can read.

    Raises:
        FormatError: the file is not an image in one of these formats.
        SizeError: the image has too many pixels.
        InputError: the image is damaged, or its format does not define which values are black and white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as image:
                width, height = image.size
                scans = _jpeg_scans(file) if image.format in ("JPEG", "MPO") else []
                # Where a scan has not all components, or not all digits, libjpeg keeps the coefficients of all pixels.
                at_once = scans[:1] == [getattr(image, "layers", None)] and "progressive" not in image.info
                if width * height > max_pixels and at_once:
                    image.draft(None, (max(width // 2, 1), max(height // 2, 1)))
                if image.width * image.height > max_pixels:
                    raise SizeError(f"{name} has too many pixels ({width} x {height}).")
                if len(scans) > MAX_JPEG_SCANS:
                    raise InputError(f"{name} has more than {MAX_JPEG_SCANS} JPEG scans and is not decoded.")
                image.load()
                return _to_rgb(_apply_exif_orientation(image), name)
    except InputError:
        raise
    except UnidentifiedImageError:
        supported = ", ".join(formats or ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF of up to 16 bits"))
        raise FormatError(f"{name} is not an image in a supported format ({supported}).") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SizeError(f"{name} has too many pixels.") from None
    except Exception as error:  # Pillow's decoders raise many exception types for damaged files
        raise InputError(f"{name} cannot be read: {error}.") from error


def to_network_input(image: Image.Image) -> np.ndarray:
    """Crop the central square and resize it to the input size of the networks.

    Large images are downscaled by averaging, as the images of CIFAR-10 were.

    Returns:
        uint8 array of shape (32, 32, 3).
    """
    resampling = Image.Resampling.BOX if min(image.size) >= IMAGE_SIZE else Image.Resampling.BICUBIC
    return np.asarray(ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), resampling))


def thumbnail(image: Image.Image) -> np.ndarray:
    """Return a copy that is small enough for a figure, uint8 (height, width, 3)."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    return np.asarray(small)


def _jpeg_scans(file: BinaryIO) -> list[int]:
    """Return how many components each scan of a JPEG has, up to one scan more than the maximum; keep the file position.

    The segments are followed as libjpeg follows them, so that nothing in a segment, such as an embedded thumbnail, is
    taken for the end of the image, and nothing behind that end, such as the video of a motion photo, for a scan.
    """
    position = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(position)
    scans: list[int] = []
    at = 0
    while len(scans) <= MAX_JPEG_SCANS and (marker := JPEG_MARKER.search(content, at)) and marker[1] != END_OF_IMAGE:
        length = content[marker.end() : marker.end() + 2]
        if marker[1] == START_OF_SCAN:
            scans += content[marker.end() + 2 : marker.end() + 3]
        at = marker.end() + max(int.from_bytes(length), 2)
    return scans


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert a loaded image to RGB with 8 bits per channel."""
    if image.mode == "F" or image.mode.startswith("I") or _is_signed(image):  # Pillow would clip the values at 255
        image = _grey_to_8_bits(image, name)
    elif image.mode == "La":  # Pillow converts it to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        foreground = image if image.mode == "RGBA" else image.convert("RGBA")
        background = Image.new("RGB", foreground.size, "white")
        background.paste(foreground, mask=foreground)
        return background
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_8_bits(image: Image.Image, name: str) -> Image.Image:
    """Scale the values of a grey image so that white is 255.

    Raises:
        InputError: the format does not define which values are black and white, or there are values beyond these.
    """
    values, white = np.asarray(image).astype(np.float32), _white(image)
    if white is None or not (values.min() >= 0 and values.max() <= white):  # `not`, because NaN compares as False
        raise InputError(
            f"{name} has values for which its format does not define black and white; save it with unsigned integers "
            "of 8 or 16 bits, or with floats from 0 to 1."
        )
    scaled = np.rint(values * (255 / white)).astype(np.uint8)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION, 0) == 0:  # white is 0
        scaled = 255 - scaled
    grey = Image.fromarray(scaled)
    if (transparent := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _white(image: Image.Image) -> float | None:
    """Return the value of white in a grey image, or None if its format does not define it."""
    if image.mode == "F":
        return 1.0
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2[BITSPERSAMPLE][0]
        return None if _is_signed(image) or bits > 16 else 2.0**bits - 1
    return 65535.0 if image.format in ("PNG", "PPM", "JPEG2000") else None  # Pillow scales the last two


def _is_signed(image: Image.Image) -> bool:
    return isinstance(image, TiffImageFile) and 2 in image.tag_v2.get(SAMPLEFORMAT, ())


def _apply_exif_orientation(image: Image.Image) -> Image.Image:
    """Rotate or flip the image in place as its EXIF data says; damaged EXIF data is ignored."""
    with suppress(OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        ImageOps.exif_transpose(image, in_place=True)
    return image
