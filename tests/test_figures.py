"""What can be read on the figures, whatever they show."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from cifar10 import figures

NAMES = [f"class {label}" for label in range(10)]


def luminance(colour):
    """By the Web Content Accessibility Guidelines."""
    values = np.array(to_rgb(colour))
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(axis, text):
    column, row = text.get_position()
    (image,) = axis.images
    shades = image.to_rgba(image.get_array())
    light, dark = sorted((luminance(text.get_color()), luminance(shades[row, column][:3])), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def shares():
    """All of 1% to 100%, so that every shade comes up."""
    return np.arange(1, 101).reshape(10, 10)


def drawn_confusion():
    classes = dict.fromkeys(NAMES)
    counts = [[int(share), *[0] * 8, int(100 - share)] for share in np.linspace(1, 99, 10)]
    return figures.confusion_matrix({"classes": classes, "confusion": counts, "architecture": "vgg16", "accuracy": 0.5})


def drawn_classes():
    models = [
        {"architecture": f"model {row}", "classes": {name: {"f1": f1} for name, f1 in zip(NAMES, values, strict=True)}}
        for row, values in enumerate(shares() / 100)
    ]
    return figures.per_class(models)


def drawn_pairs():
    names = [f"model {place}" for place in range(10)]
    pairs = [
        {"first": first, "second": second, "difference": 0.01 * (place - other), "told_apart": True}
        for place, first in enumerate(names)
        for other, second in enumerate(names)
        if place < other
    ]
    return figures.pairwise(pd.DataFrame({"architecture": names}), pd.DataFrame(pairs))


@pytest.mark.parametrize("draw", [drawn_confusion, drawn_classes, drawn_pairs])
def test_numbers_stand_out_from_their_shades(draw):
    axis = draw().axes[0]
    numbers = [text for text in axis.texts if text.get_text() != "0"]
    assert len(numbers) >= 20
    assert min(contrast(axis, text) for text in numbers) > 4.2


def test_answers_are_drawn_best_first_and_long_names_cut():
    probabilities = np.array([[0.1, 0.6, 0.05, 0.15, 0.04, 0.03, 0.03, 0, 0, 0], np.full(10, 0.1)])
    answers = pd.DataFrame(probabilities, columns=NAMES)
    answers.insert(0, "picture", ["cat.jpg", f"{'on_holiday_' * 6}cat.jpg"])
    picture = np.zeros((20, 30, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)
    figure = figures.predictions(answers, [picture, picture], "a model")
    figure.draw_without_rendering()
    first, _, bars, second = figure.axes[:4]
    assert [label.get_text() for label in bars.get_yticklabels()] == [NAMES[place] for place in (1, 3, 0, 2, 4)]
    assert [text.get_text() for text in bars.texts] == ["60.0%", "15.0%", "10.0%", "5.0%", "4.0%"]
    assert first.get_title() == "cat.jpg"
    assert second.get_title().startswith("…")
    assert second.get_title().endswith("_cat.jpg")
    assert second.title.get_window_extent().x0 >= 0
