"""What a worker of the cluster does: run one task, in a process that ends with the worker."""

import ctypes
import functools
import logging
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

from distributed import Event

from cifar10.compute.provenance import sources
from cifar10.errors import BUSY
from cifar10.farm.plan import Task

TRAINED, TUNED, BEFORE, INTERRUPTED, FAILED = "trained", "tuned", "trained before", "interrupted", "failed"
COMPLETE = (TRAINED, TUNED, BEFORE)
POLL_SECONDS = 2.0
WAIT_SECONDS = 30.0  # before asking again for a training that another run has locked
PR_SET_PDEATHSIG = 1  # of prctl: the signal that a process gets when its parent dies
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork, after which that can hang
# Dask sets the last three to 1.
THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Result(NamedTuple):
    """How a task has ended.

    Attributes:
        outcome: one of the five above.
        message: why it failed, or by what code it was trained before if not by this one; else empty.
        val_accuracy: of the model, if there is one.
        seconds: that the task took.
        host: the machine; empty: none.
    """

    outcome: str
    message: str = ""
    val_accuracy: float | None = None
    seconds: float = 0.0
    host: str = ""


class KilledError(Exception):
    """The process of a task was ended by a signal; Dask runs it again."""


def dask_setup(worker: Any) -> None:
    """Make a worker of a local cluster ignore Ctrl-C, which a terminal sends to it, too, and log nothing there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def trained_before(task: Task) -> Result | None:
    """Return that there is a model already, if there is one.

    Its network may have been another one if the code has changed since, which only building it would tell for sure.
    """
    record = task.training.record() if task.training else None
    if record is None:
        return None
    return Result(BEFORE, "" if record.sources == _sources() else "by other source code", record.val_accuracy)


_sources = functools.cache(sources)


def perform(task: Task, stop: str, threads: int | None) -> Result:
    """Run a task, unless there is a model meanwhile; while another run trains it, wait for that.

    Args:
        task: what to run.
        stop: the name of the event at which it is interrupted.
        threads: on which it computes; None: as the environment says.

    Raises:
        KilledError: the process was ended by a signal, for example for lack of memory.
    """
    start = time.monotonic()
    result = _perform(task, Event(stop), threads)
    return result._replace(seconds=time.monotonic() - start, host=platform.node())


def _perform(task: Task, event: Event, threads: int | None) -> Result:
    for folder in (task.folder, task.log.parent):
        if not folder.is_dir():
            return Result(FAILED, f"{folder} is not on this machine: all need project and data under the same paths")
    while not event.is_set():
        if before := trained_before(task):
            return before
        code = _run(task, event, threads)
        if code == 0:
            if task.training is None:
                return Result(TUNED)
            if record := task.training.newest():  # its checkpoint may be held by a run that waited for this one
                return Result(TRAINED, val_accuracy=record.val_accuracy)
            return Result(
                FAILED, "its run has ended without an error, but there is no model of this recipe, seed and data"
            )
        if event.is_set():
            break
        if code < 0:
            raise KilledError(f"its process was ended by {signal.Signals(-code).name}")
        if code != BUSY:
            return Result(FAILED, _last_line(task))
        event.wait(WAIT_SECONDS)
    return Result(INTERRUPTED)


def _run(task: Task, event: Event, threads: int | None) -> int:
    """Run the process of a task, interrupt it at the event, and return its exit code: negative for a signal."""
    with task.log.open("ab") as log:
        log.write(f"$ {shlex.join(['kedro', *task.arguments])}  # on {platform.node()}\n".encode())
        log.flush()
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "kedro", *task.arguments],
            cwd=task.folder,
            env={**os.environ, **(dict.fromkeys(THREADS, str(threads)) if threads else {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=None if sys.platform == "win32" else _end_with_worker,  # which Popen refuses there
        )
    try:
        while process.poll() is None:
            if event.wait(POLL_SECONDS):
                process.send_signal(signal.SIGINT)
                process.wait()
        return process.returncode
    finally:
        process.kill()


def _end_with_worker() -> None:
    """Let this process end when the worker dies, so that it does not keep its training locked."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which the worker may ignore
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _last_line(task: Task) -> str:
    lines = task.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix("Error: ")
