"""Train the trials of a study, a few in each process, because the memory of TensorFlow grows with every one."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from cifar10.contracts import Epoch, Examples, Statistics
from cifar10.errors import InputError, RecipeError, reason
from cifar10.training.checkpoint import Checkpoints
from cifar10.tuning.space import describe, recipe_of, why
from cifar10.tuning.study import JOURNAL, Claimed, Plan, Study

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

logger = logging.getLogger(__name__)

TRIALS_PER_PROCESS = 8  # each leaves 20 to 55 MB behind
WAIT_SECONDS = 2.0  # before looking again whether another process has finished or died

Say = Callable[[str, object], None]  # what it is: `trial`, `line` or `error`; and its number or text


class Data(NamedTuple):
    """What all trials are trained on; see `fit`."""

    train: Examples
    val: Examples
    statistics: Statistics
    class_names: list[str]


def run(plan: Plan, data: Data) -> Study:
    """Work on a study until nothing of it is left to train, and no other process trains a trial of it any more.

    Returns:
        The study.

    Raises:
        InputError: the study is another one, a training cannot be continued here, the disk is full, or the system ends
            each process before it trains.
    """
    study = Study(plan)
    logger.info(
        "%s: %s; watch it with: optuna-dashboard --host 127.0.0.1 %s (pip install optuna-dashboard)",
        plan.architecture,
        plan.name,
        plan.folder / JOURNAL,
    )
    try:
        while study.unfinished():
            _run_process(study, data)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"{plan.architecture}: {plan.name} was interrupted; the same command resumes its trials after their last "
            "complete epochs."
        ) from error
    return study


def _run_process(study: Study, data: Data) -> None:
    """Run a process that trains some trials, and log what it says."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    heard, trial = False, None
    try:
        process.start()
        theirs.close()
        # Not as an argument: while these are written, `start` would not notice that the process has died.
        with suppress(BrokenPipeError, ConnectionResetError):
            ours.send((study.plan, data))
        while True:
            try:
                kind, what = ours.recv()
            except (EOFError, ConnectionResetError):
                break
            if kind == "error":
                raise InputError(what)
            if kind == "line":
                logger.info("%s", what)
            heard, trial = True, what if kind == "trial" else None
        process.join()
    finally:
        if process.pid is not None:  # None after Ctrl-C in `start`
            process.kill()
            process.join()
    if process.exitcode == 0:
        return
    if process.exitcode is None or process.exitcode > 0:  # it has printed why
        raise RuntimeError(f"{study.plan.architecture}: the process of its trials failed, see above")
    if not heard:
        raise InputError(
            f"{study.plan.architecture}: the process of its trials was ended by the system (exit code "
            f"{process.exitcode}), most likely because there was not enough memory. Close other programs."
        )
    logger.warning("%s: the process of its trials was ended by the system", study.plan.architecture)
    if trial is not None:
        study.note_death(trial)


def _serve(connection: "Connection") -> None:
    """Receive a plan and the data, and train trials until there are none, or there have been enough for one process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C, too, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("cifar10.training").setLevel(logging.WARNING)  # a trial has one line, not one for each epoch
    plan, data = connection.recv()
    try:
        work(Study(plan), data, lambda *message: connection.send(message), TRIALS_PER_PROCESS)
    except InputError as error:
        connection.send(("error", str(error)))


def _end_with_parent() -> None:
    """End this process when its parent dies, so that no trial stays locked."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def work(study: Study, data: Data, say: Say, at_most: int) -> None:
    """Train trials until nothing is left, waiting for those that other processes train, or until so many are done."""
    # Each trial has a network of its own, which TensorFlow traces anew, and warns of after a few.
    logging.getLogger("tensorflow").addFilter(lambda record: "retracing" not in record.getMessage())
    done = 0
    while done < at_most and study.unfinished():
        with study.claim() as claimed:
            if claimed:
                _train(study, claimed, data, say)
                done += 1
        if claimed is None:
            time.sleep(WAIT_SECONDS)


def _train(study: Study, claimed: Claimed, data: Data, say: Say) -> None:
    """Train a trial as its recipe says, or resume it, and store its result."""
    import keras

    from cifar10.training.fit import fit

    plan, rows = study.plan, list[Epoch]()
    if claimed.taken_over:
        say("line", f"{plan.architecture}: taking over trial {claimed.number}, whose process has ended")
    say("trial", claimed.number)

    def report(row: Epoch) -> None:
        rows.append(row)
        study.report(claimed, row)

    val_accuracy, message = None, ""
    try:
        recipe = recipe_of(plan.architecture, plan.recipe, claimed.options)
        trained, _ = fit(plan.architecture, *data, recipe, Checkpoints(claimed.folder), report)
        val_accuracy = trained.record.val_accuracy
    except study.optuna.TrialPruned:
        pass
    except ValidationError as error:
        message = why(error)
    except (RecipeError, MemoryError) as error:
        message = reason(error)
    study.finish(claimed, val_accuracy, sum(row["seconds"] for row in rows), message)
    keras.backend.clear_session()
    say("line", _line(study, claimed))


def _line(study: Study, claimed: Claimed) -> str:
    """Return what a trial gave, and what is best so far."""
    trials = study.results()
    trial = next(each for each in trials if each.number == claimed.number)
    accuracy = f"{trial.val_accuracy:.2%}" if trial.val_accuracy is not None else "none"
    outcome = {
        "complete": f"validation {accuracy}",
        "pruned": f"pruned after {len(trial.val_accuracies)} epochs, validation {accuracy}",
        "failed": f"failed: {trial.message}",
    }[trial.state]
    head = f"{study.plan.architecture}: "
    tail = f"{outcome}; {describe(trial.options)}"
    if not study.plan.space:
        finished = sum(each.options in study.plan.queue for each in trials)
        return f"{head}confirming training {trial.number} ({finished} of {len(study.plan.queue)} finished): {tail}"
    complete = [(each.val_accuracy or 0.0, -each.number) for each in trials if each.state == "complete"]
    best = max(complete, default=None)
    so_far = f"best so far {best[0]:.2%} (trial {-best[1]})" if best else "none complete so far"
    of = f" of {study.plan.trials}" if study.plan.trials else ""
    return f"{head}trial {trial.number} ({len(trials)}{of} finished): {tail}; {so_far}"
