"""Six image corruptions of five severities each.

After Hendrycks and Dietterich (2019, arXiv 1903.12261), but implemented for this project: the kinds are theirs, the
strengths were chosen here for 32x32 images. So the results cannot be compared with those on CIFAR-10-C, which is read
from its own files.
"""

import io
from collections.abc import Callable

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)


def gaussian_noise(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Add normal noise to every value; its standard deviation is in units of 0-255."""
    deviation = (8, 13, 18, 24, 32)[severity - 1]
    return _bytes(images + generator.normal(0, deviation, images.shape).astype(np.float32))


def gaussian_blur(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Apply a Gaussian filter; its standard deviation is in pixels."""
    from scipy.ndimage import gaussian_filter

    width = (0.4, 0.6, 0.8, 1.1, 1.5)[severity - 1]
    return _bytes(gaussian_filter(images.astype(np.float32), (0, width, width, 0), mode="mirror"))


def brightness(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Increase every value by a fraction of 255."""
    return _bytes(images + 255 * np.float32((0.08, 0.16, 0.24, 0.32, 0.40)[severity - 1]))


def contrast(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Move every value towards the mean of its image and channel, keeping a fraction of the difference."""
    kept = np.float32((0.7, 0.5, 0.35, 0.25, 0.15)[severity - 1])
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _bytes(mean + kept * (images - mean))


def jpeg(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Compress as JPEG with that quality, and decode."""
    from PIL import Image

    quality = (70, 50, 35, 22, 12)[severity - 1]

    def convert(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return np.stack([convert(image) for image in images])


def pixelate(images: np.ndarray, severity: int, generator: np.random.Generator) -> np.ndarray:
    """Shrink to that side in pixels, and enlarge again."""
    from PIL import Image

    side = (26, 22, 18, 14, 10)[severity - 1]

    def convert(image: np.ndarray) -> np.ndarray:
        small = Image.fromarray(image).resize((side, side), Image.Resampling.BOX)
        return np.asarray(small.resize(image.shape[1::-1], Image.Resampling.NEAREST))

    return np.stack([convert(image) for image in images])


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    each.__name__: each for each in (gaussian_noise, gaussian_blur, brightness, contrast, jpeg, pixelate)
}


def corrupt(images: np.ndarray, corruption: str, severity: int, seed: int) -> np.ndarray:
    """Corrupt images, uint8 (n, 32, 32, 3); the same seed gives the same result."""
    kind = list(CORRUPTIONS).index(corruption)
    return CORRUPTIONS[corruption](images, severity, np.random.default_rng((seed, kind, severity)))


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)
