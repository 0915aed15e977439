"""Classify images that the user has."""

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL.Image import Image

from cifar10 import figures
from cifar10.confidence import classify, describe_unsure, percent, unsure_threshold
from cifar10.contracts import Evaluations, Statistics, TrainedModel
from cifar10.datasets.arrays import PredictionStore
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.images import find_images, printable, read_image, thumbnail, to_network_input
from cifar10.metrics import apply_temperature
from cifar10.pipelines.selection import choose

logger = logging.getLogger(__name__)

IMAGES_AT_ONCE = 1000  # in memory, at the size of the network input, so that a folder may have any number
MAX_DRAWN = 12  # images in the figure; the table has all


def predict_images(
    models: Models,
    leaderboard: pd.DataFrame | None,
    evaluations: Evaluations | None,
    statistics: Statistics | None,
    predictions: PredictionStore,
    class_names: list[str],
    image: str | None,
    architecture: str,
) -> tuple[pd.DataFrame, Figure]:
    """Classify an image, or each image in a folder, whose other files are skipped with a warning.

    Probabilities are calibrated and marked as unsure as those of the service are, if the model has been evaluated.

    Args:
        models: to choose from.
        leaderboard: names the winner.
        evaluations: have the temperatures by which confidences are calibrated.
        statistics: of the current data; None if there are none.
        predictions: of all models, from which the threshold is taken below which a prediction is unsure.
        class_names: the current ones, which must be those of the model.
        image: a file or a folder.
        architecture: as `choose` takes it.

    Returns:
        One row per image, with its name, the predicted label, its probability, whether the model is unsure (empty if
        unknown), and one column per class; and a figure of the first images.

    Raises:
        InputError: no image is given, none can be read, there is no such model, or its class names are others.
    """
    if image is None:
        raise InputError("No image is given: kedro run --pipelines=predict --params=image=FILE_OR_FOLDER")
    files = find_images(image)
    if len(files) == 1:
        read_image(files[0])  # where it cannot be read, say so before Keras and the network are loaded
    model = choose(models, leaderboard, statistics, class_names, architecture, "architecture")

    from cifar10.compute.inference import infer

    network, record, temperature = model.load_network(), model.record, _temperature(evaluations, model)
    unsure_below = _unsure_below(predictions, model, temperature)

    images = _readable(files)
    paths: list[Path] = []
    parts: list[np.ndarray] = []
    unsure: list[bool] = []
    while batch := [(path, to_network_input(each)) for path, each in itertools.islice(images, IMAGES_AT_ONCE)]:
        inputs = np.stack([small for _, small in batch])
        parts.append(apply_temperature(infer(network, inputs, record.image_size), temperature))
        for (path, _), row in zip(batch, parts[-1], strict=True):
            found = classify(row, record.class_names, unsure_below or 0.0)
            others = ", ".join(f"{record.class_names[place]} {percent(row[place])}" for place in np.argsort(-row)[1:3])
            note = f"; unsure: {describe_unsure()}" if found.unsure else ""
            logger.info("%s: %s (%s)%s", printable(path), found.summary, others, note)
            paths.append(path)
            unsure.append(found.unsure)
    calibrated = np.concatenate(parts)
    table = pd.DataFrame(calibrated, columns=record.class_names)
    table.insert(0, "image", [printable(Path(path.name)) for path in paths])
    table.insert(1, "label", [record.class_names[label] for label in calibrated.argmax(axis=1)])
    table.insert(2, "probability", calibrated.max(axis=1))
    table.insert(3, "unsure", None if unsure_below is None else unsure)
    title = f"{record.architecture}, version {model.version}"
    if len(paths) > MAX_DRAWN:
        title += f"; the first {MAX_DRAWN} of {len(paths)} images"
    drawn = [(thumbnail(each), to_network_input(each)) for each in map(read_image, paths[:MAX_DRAWN])]
    return table, figures.predictions(table, drawn, title)


def _readable(files: list[Path]) -> Iterator[tuple[Path, Image]]:
    """Read one image after the other; of several files, skip those that are not images, and count them at the end.

    Raises:
        InputError: none of the files is an image.
    """
    skipped = 0
    for path in files:
        try:
            image = read_image(path)
        except InputError as error:
            if len(files) == 1:
                raise
            logger.warning("Skipped: %s", error)
            skipped += 1
        else:
            yield path, image
    if skipped == len(files):
        raise InputError(f"None of the {skipped} files in {files[0].parent} is an image that can be read.")
    if skipped:
        logger.warning("Skipped %d of the %d files in %s.", skipped, len(files), files[0].parent)


def _temperature(evaluations: Evaluations | None, model: TrainedModel) -> float:
    """Return the temperature that was fitted for this model, or 1 if there is none."""
    evaluation = evaluations.find(model.identity) if evaluations else None
    if evaluation and evaluation.metrics.temperature is not None:
        logger.info("The probabilities are calibrated, with temperature %.2f.", evaluation.metrics.temperature)
        return evaluation.metrics.temperature
    if model.record.trained_on_val:
        logger.info(
            "The probabilities are not calibrated, because the model was trained on the validation images, too, which "
            "leaves none to calibrate by."
        )
        return 1.0
    logger.info(
        "The probabilities are not calibrated, because this model is not in the latest evaluation: kedro run "
        "--pipelines=evaluation,reporting (with the same --env and --params; an older version of the same recipe and "
        "seed needs --params=evaluate_versions=all, too)"
    )
    return 1.0


def _unsure_below(predictions: PredictionStore, model: TrainedModel, temperature: float) -> float | None:
    """Return the confidence below which a prediction is unsure, or None if those on the val split are missing."""
    known = predictions.find(model)
    if known is None:
        logger.info(
            "No prediction is marked as unsure, because the model's predictions on the validation images are missing: "
            "kedro run --pipelines=evaluation (with the same --env and --params)"
        )
        return None
    return unsure_threshold(known.val, temperature)
