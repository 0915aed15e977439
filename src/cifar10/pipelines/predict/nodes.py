"""Classify images that the user has."""

import logging

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.contracts import Statistics, TrainedModel
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.images import find_images, read_image, thumbnail, to_network_input
from cifar10.metrics import apply_temperature
from cifar10.pipelines.selection import choose, ranked_rows

logger = logging.getLogger(__name__)

MAX_DRAWN = 12  # images in the figure; the table has all


def predict_images(
    models: Models,
    leaderboard: pd.DataFrame | None,
    statistics: Statistics | None,
    class_names: list[str],
    image: str | None,
    architecture: str,
) -> tuple[pd.DataFrame, Figure]:
    """Classify an image, or each image in a folder.

    Args:
        models: to choose from.
        leaderboard: names the winner, and has the temperatures by which confidences are calibrated.
        statistics: of the current data; None if there are none.
        class_names: the current ones, which must be those of the model.
        image: a file or a folder.
        architecture: whose best row of the leaderboard to use, or its newest version if it has none; `winner`: the
            first row.

    Returns:
        One row per image, with its name, the predicted label, its probability, and one column per class; and a figure
        of the first images.

    Raises:
        InputError: no image is given, it cannot be read, there is no such model, or its class names are others.
    """
    from cifar10.compute.inference import infer

    if image is None:
        raise InputError("No image is given: kedro run --pipelines=predict --params=image=FILE_OR_FOLDER")
    files = find_images(image)
    originals = [read_image(path) for path in files]
    model = choose(models, leaderboard, statistics, class_names, architecture, "architecture")
    network, record = model.load_network(), model.record

    inputs = np.stack([to_network_input(each) for each in originals])
    calibrated = apply_temperature(infer(network, inputs, record.image_size), _temperature(leaderboard, model))
    table = pd.DataFrame(calibrated, columns=record.class_names)
    table.insert(0, "image", [path.name for path in files])
    table.insert(1, "label", [record.class_names[label] for label in calibrated.argmax(axis=1)])
    table.insert(2, "probability", calibrated.max(axis=1))
    for path, row in zip(files, calibrated, strict=True):
        best = ", ".join(f"{record.class_names[place]} {row[place]:.1%}" for place in np.argsort(-row)[:3])
        logger.info("%s: %s", path, best)
    title = f"{record.architecture}, version {model.version}"
    if len(files) > MAX_DRAWN:
        title += f"; the first {MAX_DRAWN} of {len(files)} images"
    drawn = [(thumbnail(original), small) for original, small in zip(originals, inputs, strict=True)][:MAX_DRAWN]
    return table, figures.predictions(table, drawn, title)


def _temperature(leaderboard: pd.DataFrame | None, model: TrainedModel) -> float:
    """Return the temperature that was fitted for this model, or 1 if there is none."""
    for row in ranked_rows(leaderboard):
        if row["identity"] == model.identity:
            return float(row["temperature"])
    return 1.0
