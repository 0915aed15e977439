"""Pictures of any size and format, made into what the networks take."""

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar10.errors import InputError

SIDE = 32
MOST_PIXELS = 50_000_000  # of one picture, so that a small file cannot fill the memory
THUMBNAIL = 256  # side of what is shown of a picture


def find(path: str) -> list[Path]:
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


def read(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF says, on white where it is transparent; the first frame of several.

    Raises:
        InputError: it is no picture, is damaged, or far too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise InputError(f"{path} has {picture.width} x {picture.height} pixels, which is too many.")
                picture.load()
                turned = _turned(picture)
                if turned.mode.startswith("I;16") or turned.mode == "I":  # 16 bits a value, which would be cut off
                    turned = Image.fromarray(
                        (np.asarray(turned).astype(np.float32) / 257).clip(0, 255).astype(np.uint8)
                    )
                if "A" in turned.getbands() or "transparency" in turned.info:
                    over = turned.convert("RGBA")
                    turned = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
                return turned.convert("RGB")
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is no picture of a format that can be read here (JPEG, PNG, WebP, GIF, BMP, TIFF)."
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path} has too many pixels.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error


def shown_to_network(picture: Image.Image) -> np.ndarray:
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


def _turned(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says, or as it is where that is damaged: the picture is good without it."""
    try:
        return ImageOps.exif_transpose(picture)
    except (OSError, ValueError, TypeError, KeyError, SyntaxError, struct.error):
        return picture.copy()
