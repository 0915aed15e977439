"""Pictures of any size and format, made into what the networks take."""

import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar10.errors import InputError

SIDE = 32
MOST_PIXELS = 50_000_000  # of one picture, so that a small file cannot fill the memory
MOST_SCANS = 100  # of a progressive JPEG, each of which goes over all pixels; encoders make about ten
SCAN = b"\xff\xda"  # which begins one, and stands nowhere else in its data
THUMBNAIL = 256  # side of what is shown of a picture


class FormatError(InputError):
    """It is no picture, or one of a format that is not read here."""


class SizeError(InputError):
    """The picture has too many pixels."""


def find_images(path: str) -> list[Path]:
    """The file, or those of a folder by name, hidden ones left out.

    Raises:
        InputError: there is no such file or folder, or it is empty.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(each for each in place.iterdir() if each.is_file() and not each.name.startswith("."))
        if not files:
            raise InputError(f"The folder {place} has no pictures in it.")
        return files
    if not place.exists():
        raise InputError(f"There is no picture and no folder {place}. Give one with --params=image=FILE_OR_FOLDER")
    return [place]


def read_image(path: Path) -> Image.Image:
    """A picture from a file, as `decode` gives it.

    Raises:
        InputError: it is no picture, is damaged, or far too large.
    """
    try:
        with path.open("rb") as file:
            return decode_image(file, str(path), MOST_PIXELS)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def decode_image(file: BinaryIO, name: str, most_pixels: int, formats: tuple[str, ...] | None = None) -> Image.Image:
    """A picture as RGB, turned as its EXIF says, on white where it is transparent; the first frame of several.

    Args:
        file: the content decides on the format.
        name: of the picture, for messages.
        most_pixels: that are decoded; a picture with more is refused by its head.
        formats: by their names in Pillow; None for all that it has.

    Raises:
        FormatError: it is no picture of these formats.
        SizeError: it has too many pixels.
        InputError: it is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as picture:
                if picture.width * picture.height > most_pixels:
                    raise SizeError(f"{name} has {picture.width} x {picture.height} pixels, which is too many.")
                if picture.format in ("JPEG", "MPO") and _scans(file) > MOST_SCANS:
                    raise InputError(f"{name} has more than {MOST_SCANS} scans, which no camera makes.")
                picture.load()
                return _plain(picture)
    except InputError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(formats or ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF"))
        raise FormatError(f"{name} is no picture of a format that can be read here ({known}).") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SizeError(f"{name} has too many pixels.") from None
    except Exception as error:  # whatever a decoder trips over in a damaged file: there is no end to the kinds
        raise InputError(f"{name} cannot be read: {error}.") from error


def to_network_input(picture: Image.Image) -> np.ndarray:
    """The middle square of a picture, uint8 (32, 32, 3), averaged down: so were the pictures of CIFAR-10 made."""
    square = ImageOps.fit(
        picture, (SIDE, SIDE), Image.Resampling.BOX if min(picture.size) >= SIDE else Image.Resampling.BICUBIC
    )
    return np.asarray(square)


def thumbnail(picture: Image.Image) -> np.ndarray:
    """A picture small enough to be drawn, uint8 (height, width, 3)."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(small)


def _scans(file: BinaryIO) -> int:
    """How often a JPEG goes over its pixels, those of pictures inside it counted too; the file stays where it was."""
    at = file.tell()
    file.seek(0)
    count = file.read().count(SCAN)
    file.seek(at)
    return count


def _plain(picture: Image.Image) -> Image.Image:
    """A loaded picture as RGB with 8 bits a value."""
    turned = _turned(picture)
    if turned.mode.startswith("I;16") or turned.mode == "I":  # 16 bits a value, which would be cut off
        turned = Image.fromarray((np.asarray(turned).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
    if "A" in turned.getbands() or "transparency" in turned.info:
        over = turned if turned.mode == "RGBA" else turned.convert("RGBA")
        white = Image.new("RGB", over.size, "white")
        white.paste(over, mask=over)
        return white
    return turned if turned.mode == "RGB" else turned.convert("RGB")


def _turned(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says, or as it is where that is damaged: the picture is good without it."""
    with suppress(OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        ImageOps.exif_transpose(picture, in_place=True)
    return picture
