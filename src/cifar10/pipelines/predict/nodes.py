"""Ask a model about pictures from outside."""

import logging
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar10 import figures
from cifar10.datasets.model import Models
from cifar10.errors import InputError
from cifar10.images import find_images, read_image, thumbnail, to_network_input
from cifar10.metrics import tempered
from cifar10.pipelines.winner import choose, ranked_rows

logger = logging.getLogger(__name__)

MOST_DRAWN = 12  # pictures in the figure; the table has all


def predict_pictures(
    models: Models, leaderboard: pd.DataFrame | None, class_names: list[str], image: str | None, architecture: str
) -> tuple[pd.DataFrame, Figure]:
    """The classes of a picture, or of each in a folder, by probability.

    Args:
        models: to choose from.
        leaderboard: says who the winner is, and by which temperature a model's confidence is to be believed.
        class_names: in the order of the probabilities.
        image: a file or a folder.
        architecture: whose latest version is asked; `winner`: the first of the leaderboard, in the version it names.

    Returns:
        A row a picture: its name, the answer, its probability, and a column a class. And a figure of the first ones.

    Raises:
        InputError: no picture is given, it cannot be read, or there is no such model.
    """
    from cifar10.compute.inference import probabilities

    if image is None:
        raise InputError("Which picture? kedro run --pipelines=predict --params=image=FILE_OR_FOLDER")
    files = find_images(image)
    read = [read_image(path) for path in files]
    trained = choose(models, leaderboard, architecture, "architecture")
    name = trained.record["architecture"]
    if trained.network.output_shape[-1] != len(class_names):
        raise InputError(f"{name} tells {trained.network.output_shape[-1]} classes apart, and class_names has others.")

    seen = np.stack([to_network_input(picture) for picture in read])
    answers = probabilities(trained.network, seen, trained.record["image_size"])
    answers = tempered(answers, _temperature(leaderboard, trained.record))
    table = pd.DataFrame(answers, columns=class_names)
    table.insert(0, "picture", [path.name for path in files])
    table.insert(1, "answer", [class_names[answer] for answer in answers.argmax(axis=1)])
    table.insert(2, "probability", answers.max(axis=1))
    for path, row in zip(files, answers, strict=True):
        best = ", ".join(f"{class_names[place]} {row[place]:.1%}" for place in np.argsort(-row)[:3])
        logger.info("%s: %s", path, best)
    title = f"{name}, version {trained.record['version']}"
    if len(files) > MOST_DRAWN:
        title += f"; the first {MOST_DRAWN} of {len(files)} pictures"
    drawn = [(thumbnail(picture), small) for picture, small in zip(read, seen, strict=True)][:MOST_DRAWN]
    return table, figures.predictions(table, drawn, title)


def _temperature(leaderboard: pd.DataFrame | None, record: dict[str, Any]) -> float:
    """By which that version's confidence is to be believed: 1 where none was fitted."""
    for row in ranked_rows(leaderboard):
        if (row["architecture"], str(row["model_version"])) == (record["architecture"], record["version"]):
            return float(row["temperature"])
    return 1.0
