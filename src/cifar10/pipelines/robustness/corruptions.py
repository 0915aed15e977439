"""Pictures made worse in six ways and five severities.

After Hendrycks and Dietterich (2019, arXiv 1903.12261), in a rendering of this project's own: the kinds are theirs, the
strengths were chosen here for pictures of 32x32, so figures do not compare with those of CIFAR-10-C.
"""

import io
from collections.abc import Callable

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)


def gaussian_noise(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Normal noise on every value, with a standard deviation of so many of 255."""
    deviation = (8, 13, 18, 24, 32)[severity - 1]
    return _bytes(images + generator.normal(0, deviation, images.shape).astype(np.float32))


def gaussian_blur(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """A Gaussian filter, of so many pixels' standard deviation."""
    from scipy.ndimage import gaussian_filter

    width = (0.4, 0.6, 0.8, 1.1, 1.5)[severity - 1]
    return _bytes(gaussian_filter(images.astype(np.float32), (0, width, width, 0), mode="mirror"))


def brightness(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Every value raised by a share of 255."""
    return _bytes(images + 255 * np.float32((0.08, 0.16, 0.24, 0.32, 0.40)[severity - 1]))


def contrast(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Every value drawn towards the mean of its picture and channel."""
    kept = np.float32((0.7, 0.5, 0.35, 0.25, 0.15)[severity - 1])
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _bytes(mean + kept * (images - mean))


def jpeg(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Saved as JPEG of that quality, and read again."""
    from PIL import Image

    quality = (70, 50, 35, 22, 12)[severity - 1]

    def again(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return np.stack([again(picture) for picture in images])


def pixelate(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Shrunk to that side, and enlarged again."""
    from PIL import Image

    side = (26, 22, 18, 14, 10)[severity - 1]

    def again(picture: np.ndarray) -> np.ndarray:
        small = Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)
        return np.asarray(small.resize(picture.shape[1::-1], Image.Resampling.NEAREST))

    return np.stack([again(picture) for picture in images])


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    each.__name__: each for each in (gaussian_noise, gaussian_blur, brightness, contrast, jpeg, pixelate)
}


def corrupt(images: np.ndarray, corruption: str, severity: int, seed: int) -> np.ndarray:
    """The pictures, uint8 (n, 32, 32, 3), made worse: the same for the same seed."""
    kind = list(CORRUPTIONS).index(corruption)
    return CORRUPTIONS[corruption](images, severity, np.random.default_rng((seed, kind, severity)))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
