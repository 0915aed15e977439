"""The progress of long computations, on a terminal and in a log."""

import io
import logging
import re
import sys

import keras
import numpy as np
import pytest

from cifar10.compute import live as module
from cifar10.compute.live import PredictionProgress, TrainingProgress, live


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_log_gets_a_line_a_minute(caplog, monkeypatch):
    now = 0.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    with caplog.at_level(logging.INFO, "cifar10"), live("vgg16, training", 200) as show:
        for step in range(1, 201):
            now = float(step)
            show(step, "loss 1.5")
    assert [record.message for record in caplog.records] == [
        "vgg16, training: 30% done, loss 1.5",
        "vgg16, training: 60% done, loss 1.5",
        "vgg16, training: 90% done, loss 1.5",
    ]


def test_terminal_gets_one_live_line_that_goes_away(caplog, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(module, "SHOW_SECONDS", 0.0)
    with live("vgg16, training", 4, done=1) as show:
        for step in range(2, 5):
            show(step, f"loss {step}")
    written = terminal.getvalue()
    assert "\n" not in written
    assert "vgg16, training |" in written
    assert re.search(r"\| +50%, loss 2", written)
    assert not written.rsplit("\r", 2)[-1].strip()  # cleared at the end
    assert not caplog.records


def test_live_line_of_a_training_fits_into_100_columns(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(module, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(module, "SHOW_SECONDS", 0.0)
    with live("densenet121_imagenet, fine-tuning", 4000) as show:
        progress = TrainingProgress(show, steps=200, costs=[1.0] * 20, validation=0.0, previous=[252.0] * 11)
        progress.on_train_batch_end(30, {"loss": 1.0, "accuracy": 0.5})
    lines = [line.rstrip() for line in terminal.getvalue().split("\r") if "epoch" in line]
    assert re.search(r"epoch 12/20 16%, loss 1\.000, accuracy 0\.500, \d+ s/epoch, ends \d\d:\d\d$", lines[-1])


@pytest.mark.parametrize(
    ("costs", "validation", "previous", "expected"),
    [
        # Ten seconds for half an epoch: twenty per epoch, of which two and a half are left.
        ([1.0] * 3, 0.0, [], (5, "epoch 1/3 50%, loss 1.000, accuracy 0.500, 20 s/epoch, ends 50 s")),
        ([1.0] * 5, 0.0, [80.0, 40.0], (25, "epoch 3/5 50%, loss 1.000, accuracy 0.500, 20 s/epoch, ends 50 s")),
        # After two epochs at a quarter of the cost, and in the first of three whole ones.
        (
            [0.25, 0.25, 1.0, 1.0, 1.0],
            0.0,
            [8.0, 4.0],
            (25, "epoch 3/5 50%, loss 1.000, accuracy 0.500, 16 s/epoch, ends 40 s"),
        ),
        # With validation that takes half as long as an epoch, before any has been measured, and after one.
        ([1.0] * 3, 0.5, [], (5, "epoch 1/3 50%, loss 1.000, accuracy 0.500, 30 s/epoch, ends 80 s")),
        ([1.0] * 3, 0.5, [24.0], (15, "epoch 2/3 50%, loss 1.000, accuracy 0.500, 24 s/epoch, ends 40 s")),
    ],
)
def test_training_says_how_long_it_will_take(monkeypatch, costs, validation, previous, expected):
    now, shown = 100.0, []
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    monkeypatch.setattr(module.time, "localtime", lambda seconds: seconds)
    monkeypatch.setattr(module.time, "strftime", lambda form, seconds: f"{seconds:.0f} s")
    progress = TrainingProgress(
        lambda *given: shown.append(given), steps=10, costs=costs, validation=validation, previous=previous
    )
    now = 110.0
    progress.on_train_batch_end(4, {"loss": 1.0, "accuracy": 0.5})
    assert shown == [expected]


def test_estimate_leaves_compilation_out(monkeypatch):
    """Compilation delays the first step, which no later one repeats."""
    shown, times = [], iter([0.0, 200.0, 202.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    progress = TrainingProgress(lambda *given: shown.append(given), steps=10, costs=[1.0], validation=0.0, previous=[])
    for batch in (0, 4):
        progress.on_train_batch_end(batch, {"loss": 1.0, "accuracy": 0.5})
    assert [re.search(r"\d+ s/epoch", details)[0] for _, details in shown] == ["2000 s/epoch", "5 s/epoch"]


def test_prediction_shows_every_batch():
    shown = []
    network = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    network.predict(
        np.zeros((5, 2)), batch_size=2, verbose=0, callbacks=[PredictionProgress(lambda *x: shown.append(x))]
    )
    assert shown == [(1, ""), (2, ""), (3, "")]
