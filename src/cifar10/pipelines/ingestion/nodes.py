"""Convert raw batches to examples. The same images give the same arrays in every raw format."""

import logging
from collections.abc import Iterable

import numpy as np

from cifar10.contracts import Examples
from cifar10.datasets.raw import PIXELS, RawBatch, RawImages
from cifar10.errors import InputError
from cifar10.pipelines.ingestion.layout import Layout, as_images, find_layout

logger = logging.getLogger(__name__)


def read_batches(batches: RawImages, class_names: list[str]) -> tuple[Examples, Examples]:
    """Convert the batches.

    Returns:
        The training and the test examples.

    Raises:
        InputError: the pixels or labels of a batch are not valid for CIFAR-10; most test images are training images,
            too; or the names of the classes differ from those in the raw files.
    """
    known = batches.class_names
    if known and known.names != class_names:
        raise InputError(
            f"{known.source} has the class names {', '.join(known.names)}, but the parameter "
            f"class_names has {', '.join(class_names)}. Set class_names to those of the file, in the same order, or "
            "remove the file if it belongs to other images."
        )
    return _read(batches.train, batches.test, len(class_names))


def read_csv(train: Iterable[RawBatch], test: Iterable[RawBatch], class_names: list[str]) -> tuple[Examples, Examples]:
    """Convert the pair of CSV files.

    Returns:
        The training and the test examples, equal to those of batches with the same images.

    Raises:
        InputError: as `read_batches`; a cell is not a byte; or the columns are in an unknown order.
    """
    return _read(train, test, len(class_names))


def _read(train: Iterable[RawBatch], test: Iterable[RawBatch], num_classes: int) -> tuple[Examples, Examples]:
    """Convert both parts, and refuse test images most of which are training images, too."""
    (train_examples, train_sources), (test_examples, test_sources) = (
        _examples(batches, num_classes) for batches in (train, test)
    )
    originals = {digest: place for place, digest in enumerate(train_examples.image_digests())}
    digests = test_examples.image_digests()
    copies = {place: originals[digest] for place, digest in enumerate(digests) if digest in originals}
    if len(copies) > len(digests) / 2:
        copy, original = next(iter(copies.items()))
        raise InputError(
            f"{len(copies):,} of the {len(digests):,} test images are also training images, such as "
            f"{_name(copy, test_sources)}, which is {_name(original, train_sources)}. Replace one of the files."
        )
    return train_examples, test_examples


def _name(place: int, sources: list[str]) -> str:
    """Return the name of an image in the file that it comes from."""
    return f"image {place - sources.index(sources[place]) + 1} of {sources[place]}"


def _examples(batches: Iterable[RawBatch], num_classes: int) -> tuple[Examples, list[str]]:
    """Check batches, convert them, and concatenate them.

    Returns:
        The examples, and the source of each.
    """
    converted: list[Examples] = []
    sources: list[str] = []
    layout: Layout | None = None
    for batch in batches:
        _check(batch, num_classes)
        layout = _layout(batch, layout)
        converted.append(Examples(as_images(batch.pixels, layout), batch.labels.astype(np.uint8)))
        sources += [batch.source] * len(batch.labels)
    examples = Examples(
        np.concatenate([examples.images for examples in converted]),
        np.concatenate([examples.labels for examples in converted]),
    )
    return examples, sources


def _check(batch: RawBatch, num_classes: int) -> None:
    """Refuse pixels and labels that are not valid for CIFAR-10."""
    source, pixels, labels, _ = batch
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise InputError(
            f"{source}: pixels are {pixels.dtype} {pixels.shape}, but must be uint8 (n, {PIXELS}). Replace the file."
        )
    if len(pixels) == 0:
        raise InputError(f"{source} has no rows. Replace the file.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(pixels),):
        raise InputError(
            f"{source}: {len(pixels)} images, but labels are {labels.dtype} {labels.shape}; expected one integer per "
            "image. Replace the file."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise InputError(
            f"{source}: label {labels[wrong[0]]} of image {wrong[0] + 1} is not between 0 and {num_classes - 1}. "
            "Replace the file."
        )


def _layout(batch: RawBatch, previous: Layout | None) -> Layout:
    """Return the layout of a batch; if its images do not show it, that of the batch before it in the same part."""
    layout = find_layout(batch.pixels) or previous
    if layout == "channels_last" and previous is None:
        logger.info("%s has the pixels of an image in the order row, column, channel.", batch.source)
    if layout is None and not batch.ordered:
        raise InputError(
            f"{batch.source}: neighbouring pixels are not alike, so the columns are neither in the order of the "
            "batches (all red values row by row, then green, then blue) nor in that of Keras (row, column, channel). "
            "Write the columns in one of these orders."
        )
    return layout or "channels_first"
