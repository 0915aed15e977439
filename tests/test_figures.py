"""Figures can be read, whatever they show."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from cifar10 import figures
from tests.helpers import make_evaluation, make_evaluations, make_pair, make_row

CLASSES = [f"class {label}" for label in range(10)]
PERCENT = np.arange(1, 101).reshape(10, 10)  # so that every shade occurs


def luminance(colour):
    """Return the relative luminance of the Web Content Accessibility Guidelines."""
    values = np.array(to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(axis, text):
    """Return the contrast ratio between a text and the cell behind it."""
    column, row = text.get_position()
    (image,) = axis.images
    shades = image.to_rgba(image.get_array())
    light, dark = sorted((luminance(text.get_color()), luminance(shades[row, column][:3])), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def draw_confusion():
    counts = [[int(share), *[0] * 8, int(100 - share)] for share in np.linspace(1, 99, 10)]
    scores = {name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 100, "roc_auc": 0.5} for name in CLASSES}
    return figures.confusion_matrix(make_row(make_evaluation(classes=scores, confusion=counts)))


def draw_classes():
    models = [
        make_evaluation(
            f"model {row}",
            classes={
                name: {"precision": 0.5, "recall": 0.5, "f1": f1, "support": 100, "roc_auc": 0.5}
                for name, f1 in zip(CLASSES, values, strict=True)
            },
        )
        for row, values in enumerate(PERCENT / 100)
    ]
    return figures.per_class(make_evaluations(*models, class_names=CLASSES))


def draw_pairs():
    names = [f"model {place}" for place in range(10)]
    pairs = [
        make_pair(first, second, difference=0.01 * (place - other), significant=True)
        for place, first in enumerate(names)
        for other, second in enumerate(names)
        if place < other
    ]
    return figures.pairwise(make_evaluations(*map(make_evaluation, names), pairs=pairs))


@pytest.mark.parametrize("draw", [draw_confusion, draw_classes, draw_pairs])
def test_numbers_contrast_with_their_cells(draw):
    axis = draw().axes[0]
    numbers = [text for text in axis.texts if text.get_text() != "0"]
    assert len(numbers) >= 20
    assert min(contrast(axis, text) for text in numbers) > 4.2


def test_predictions_are_drawn_most_probable_first_and_long_names_shortened():
    probabilities = np.array([[0.1, 0.6, 0.05, 0.15, 0.04, 0.03, 0.03, 0, 0, 0], np.full(10, 0.1)])
    table = pd.DataFrame(probabilities, columns=CLASSES)
    table.insert(0, "image", ["cat.jpg", f"{'on_holiday_' * 6}cat.jpg"])
    table.insert(1, "label", [CLASSES[1], CLASSES[0]])
    table.insert(2, "probability", [0.6, 0.1])
    table.insert(3, "unsure", [False, True])
    images = np.zeros((20, 30, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    figure = figures.predictions(table, [images, images], "a model")
    figure.draw_without_rendering()
    first, _, bars, second = figure.axes[:4]
    assert [label.get_text() for label in bars.get_yticklabels()] == [CLASSES[place] for place in (1, 3, 0, 2, 4)]
    assert [text.get_text() for text in bars.texts] == ["60.0%", "15.0%", "10.0%", "5.0%", "4.0%"]
    assert [axis.get_title(loc="left") for axis in (bars, figure.axes[5])] == [
        "", "unsure: less certain than for 95% of its validation images",
    ]  # fmt: skip
    assert first.get_title() == "cat.jpg"
    assert second.get_title().startswith("…")
    assert second.get_title().endswith("_cat.jpg")
    assert second.title.get_window_extent().x0 >= 0
