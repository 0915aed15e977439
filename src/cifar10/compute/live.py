"""The progress of long computations: a live line on a terminal; elsewhere, a line in the log every minute."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from cifar10.compute.parallel import is_first

logger = logging.getLogger(__name__)

LOG_SECONDS = 60.0  # between two lines in the log
SHOW_SECONDS = 0.1  # between two updates of the live line
DELAY_SECONDS = 1.0  # before the live line appears, so that short computations show none

Show = Callable[[int, str], None]  # from the amount done, and what else there is to say


@contextmanager
def live(description: str, total: int, done: int = 0) -> Iterator[Show]:
    """Give a function that shows how much of a computation is done.

    Args:
        description: what is computed.
        total: the amount in all.
        done: the amount before the start.
    """
    if not sys.stderr.isatty():
        yield _log_every_minute(description, total)
        return

    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    form = "{desc} |{bar}| {percentage:.0f}%{postfix}"  # the bar gets the space that is left
    with (
        logging_redirect_tqdm(),  # so that lines of the log appear above the live line
        tqdm(
            desc=description, total=total, initial=done, bar_format=form, leave=False, dynamic_ncols=True,
            mininterval=SHOW_SECONDS, delay=DELAY_SECONDS, disable=not is_first(),
        ) as bar,
    ):  # fmt: skip

        def show(done: int, details: str = "") -> None:
            bar.set_postfix_str(details, refresh=False)
            bar.update(done - bar.n)

        yield show


def _log_every_minute(description: str, total: int) -> Show:
    logged = time.monotonic()

    def show(done: int, details: str = "") -> None:
        nonlocal logged
        if time.monotonic() - logged >= LOG_SECONDS:
            logged = time.monotonic()
            logger.info("%s: %.0f%% done%s", description, 100 * done / total, f", {details}" if details else "")

    return show


class PredictionProgress(keras.callbacks.Callback):
    """Show how many batches `predict` has done."""

    def __init__(self, show: Show) -> None:
        super().__init__()
        self.show = show

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Show that this batch is done."""
        self.show(batch + 1, "")


class TrainingProgress(keras.callbacks.Callback):
    """Show how far an epoch and the whole phase are, and when the phase will be done."""

    def __init__(self, show: Show, steps: int, costs: list[float], validation: float, previous: list[float]) -> None:
        """Store the place of this epoch in its phase.

        Args:
            show: shows the steps done in the phase.
            steps: per epoch.
            costs: of each epoch of the phase without validation, in any unit.
            validation: its cost, in the same unit; it follows each epoch.
            previous: seconds of the epochs before, with validation.
        """
        super().__init__()
        self.show, self.steps, self.previous = show, steps, previous
        self.costs, self.validation = costs, validation
        self.since, self.done = time.monotonic(), 0.0  # from when on it is timed, and the share of it done by then

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Show that this step is done."""
        share, epoch = (batch + 1) / self.steps, len(self.previous)
        whole = [cost + self.validation for cost in self.costs]
        now = time.monotonic()
        seconds = (now - self.since) / (share - self.done)
        if not self.done:  # compiling delayed this step, and will delay no later one
            self.since, self.done = now, share
        # Epochs that compiled were longer, so the shortest so far is closest to those that come.
        rates = [each / cost for each, cost in zip(self.previous, whole, strict=False)] + [seconds / self.costs[epoch]]
        left = min(rates) * (sum(whole[epoch:]) - share * self.costs[epoch])
        ends_at = time.strftime("%H:%M", time.localtime(time.time() + left))
        details = (
            f"epoch {epoch + 1}/{len(self.costs)} {share:.0%}, loss {logs['loss']:.3f}, accuracy "
            f"{logs['accuracy']:.3f}, {min(rates) * whole[epoch]:.0f} s/epoch, ends {ends_at}"
        )
        self.show(epoch * self.steps + batch + 1, details)
