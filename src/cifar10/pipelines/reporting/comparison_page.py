"""The page of `kedro compare`: the same look as the report."""

import base64
import datetime
import io
from typing import Any

import numpy as np
from PIL import Image

from cifar10 import figures
from cifar10.architectures.descriptions import describe
from cifar10.comparison import SPLITS, Comparison, Disagreement, verdicts
from cifar10.pipelines.reporting import formatting

SHOWN = 24  # images of a kind


def write_page(comparison: Comparison) -> str:
    """Return one HTML page that needs no other file."""
    histories = {f"{side.letter} {side.record.architecture}": side.record.history for side in comparison.sides}
    return formatting.template("compare.html.jinja").render(
        comparison=comparison,
        split=SPLITS[comparison.split],
        verdicts=verdicts(comparison),
        descriptions={side.record.architecture: describe(side.record.architecture) for side in comparison.sides},
        curves={name: figures.to_svg(figures.curves(histories, name)) for name in ("accuracy", "loss")},
        groups=[_groups(comparison, each) for each in comparison.disagreements],
        shown=SHOWN,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _groups(comparison: Comparison, each: Disagreement) -> list[dict[str, Any]]:
    """Return the images that only the second, and those that only the first of two models classifies correctly."""
    images, labels = comparison.truth.images.get(comparison.split), comparison.truth.labels[comparison.split]
    names = comparison.sides[0].record.class_names
    return [
        {
            "letter": letter,
            "places": places.tolist(),
            "images": []
            if images is None
            else [
                {
                    "place": int(place),
                    "source": _png(images[place]),
                    "label": names[labels[place]],
                    "predictions": [
                        (model, names[each.predicted[at, place]], float(each.confidence[at, place]))
                        for at, model in enumerate((each.first, each.second))
                    ],
                }
                for place in places[:SHOWN]
            ],
        }
        for letter, places in ((each.second, each.gained), (each.first, each.lost))
    ]


def _png(image: np.ndarray) -> str:
    """Return an image as a data URI."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
