"""Interrupt trainings, and compare them with uninterrupted ones."""

import keras
import numpy as np
import pandas as pd
import pytest

from cifar10.training.progress import Progress

TIMED = ["seconds", "joules"]  # columns of the history that differ each time
EXACT = keras.distribution.list_devices()[0].startswith("cpu")  # the same seed gives the same bits


def interrupt_after(monkeypatch, epochs):
    """Interrupt trainings, as by Ctrl-C, once that number of epochs has been saved."""
    add = Progress.add

    def add_and_stop(progress, row, variables):
        add(progress, row, variables)
        if len(progress.history) == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "add", add_and_stop)


def interrupt(monkeypatch, train, epochs):
    """Train once for each number of epochs, and interrupt each time after it."""
    for number in epochs:
        with monkeypatch.context() as context:
            interrupt_after(context, number)
            with pytest.raises(KeyboardInterrupt):
                train()


def check_same(resumed, uninterrupted):
    """Check that two trainings, each a model and its history, are the same."""
    (one, history), (other, same_history) = uninterrupted, resumed
    pd.testing.assert_frame_equal(same_history.drop(columns=TIMED), history.drop(columns=TIMED), check_exact=EXACT)
    assert other.record.best_epoch == one.record.best_epoch
    weights = (each.load_network().get_weights() for each in (one, other))
    for before, after in zip(*weights, strict=True):
        np.testing.assert_allclose(after, before, rtol=0 if EXACT else 1e-3)
