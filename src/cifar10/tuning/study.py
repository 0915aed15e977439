"""The study of an architecture on disk: its trials, which any number of processes share and none can lose."""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from cifar10.atomic import unwritable
from cifar10.contracts import Epoch, Trial
from cifar10.errors import InputError, reason
from cifar10.tuning.options import Tuning, epochs_of
from cifar10.tuning.space import Space, propose

logger = logging.getLogger(__name__)

JOURNAL = "journal.log"
LOCK = "lock"
STARTUP = 5  # random trials before TPE learns
MAX_DEATHS = 3  # of the processes that train a trial, for example for lack of memory, before it counts as failed


def import_optuna() -> ModuleType:
    """Import Optuna.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError(
            f"Tuning needs {error.name}, which is not installed: pip install -c constraints.txt -e '.[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Plan:
    """What is studied, and for how long.

    Attributes:
        folder: of the journal and of unfinished trainings; of one architecture.
        name: `search` or `confirm`, two studies in one journal.
        architecture: its name.
        recipe: all options that a trial does not change.
        question: what the results depend on besides the trial, as JSON values: all workers must agree on it.
        queue: options of the first trials.
        space: from which later trials propose options.
        trials: that the study has at most; None: no limit.
        deadline: seconds since the epoch after which no other trial begins; the queue and begun trials are completed.
        tuning: sampler, pruner and seed.
    """

    folder: Path
    name: str
    architecture: str
    recipe: dict[str, Any]
    question: dict[str, Any]
    queue: list[dict[str, Any]]
    space: Space
    trials: int | None
    deadline: float
    tuning: Tuning


class Claimed(NamedTuple):
    """A trial that this process trains, and no other.

    Attributes:
        trial: Optuna's.
        number: of the trial.
        options: of the recipe, that it changes.
        folder: of its checkpoints.
        taken_over: whether another process has begun it, and died.
    """

    trial: Any
    number: int
    options: dict[str, Any]
    folder: Path
    taken_over: bool


class Study:
    """A study in a journal that several processes append to.

    Trials are claimed under the lock of the folder, and a trial is trained under a lock of its own, which the system
    releases when the process dies. So whoever finds a running trial whose lock is free takes it over: Optuna has kept
    what it proposed, and its checkpoints are in its folder.
    """

    def __init__(self, plan: Plan) -> None:
        """Open the study, or create it.

        Raises:
            InputError: it has another question, the journal is damaged, or the folder cannot be written to.
        """
        optuna = self.optuna = import_optuna()
        self.plan = plan
        self.lock = FileLock(plan.folder / LOCK)
        journal = plan.folder / JOURNAL
        with self._writing():
            plan.folder.mkdir(parents=True, exist_ok=True)
            with self.lock:
                try:
                    cut_back(journal)
                    backend = optuna.storages.journal.JournalFileBackend(str(journal), _JournalLock(journal, self.lock))
                    self.storage = optuna.storages.JournalStorage(backend)
                    self.study = optuna.create_study(  # which also appends a line
                        storage=self.storage,
                        study_name=plan.name,
                        direction="maximize",
                        pruner=self._pruner(),
                        load_if_exists=True,
                    )
                    self._check_question()
                except (InputError, MemoryError, OSError):  # the last is explained by `_writing`
                    raise
                except Exception as error:  # Optuna raises many kinds for a damaged journal
                    raise InputError(
                        f"{journal} could not be read: {reason(error)}. Move {plan.folder} away to start from scratch."
                    ) from error

    def unfinished(self) -> bool:
        """Return whether there is anything left to train, or another process still trains."""
        states = self.optuna.trial.TrialState
        with self.lock:
            open_trials = self._trials(states.RUNNING, states.WAITING)
            return bool(open_trials or self._queued() is not None or self._may_begin())

    @contextmanager
    def claim(self) -> Iterator[Claimed | None]:
        """Claim a trial whose process has died, or the next one; None if there is none for now.

        Raises:
            InputError: the folder cannot be written to.
        """
        with self._writing(), self.lock:
            self._remove_leftovers()
            found = self._abandoned() or self._next()
        if found is None:
            yield None
            return
        claimed, lock = found
        try:
            yield claimed
        finally:
            lock.release()

    def report(self, claimed: Claimed, row: Epoch) -> None:
        """Report an epoch.

        Raises:
            optuna.TrialPruned: the trial is behind the others after it.
        """
        with self._writing():
            epochs = self.study.get_trials(deepcopy=False)[claimed.number].intermediate_values
            if row["epoch"] not in epochs:
                claimed.trial.report(row["val_accuracy"], step=row["epoch"])
            behind = claimed.trial.should_prune()  # also enters its value among those that others are compared with
            last = epochs_of(self.plan.architecture, {**self.plan.recipe, **claimed.options}, {})
            # The first trial is the recipe itself, and after its last epoch no trial has anything left to save.
            if behind and claimed.number and row["epoch"] < last:
                raise self.optuna.TrialPruned

    def finish(self, claimed: Claimed, val_accuracy: float | None, seconds: float, message: str = "") -> None:
        """Store the result of a trial, and delete its checkpoints.

        Args:
            claimed: the trial.
            val_accuracy: of its best epoch; None if it was pruned or failed.
            seconds: of its epochs.
            message: why it failed; else empty.
        """
        states = self.optuna.trial.TrialState
        with self._writing():
            claimed.trial.set_user_attr("seconds", seconds)
            if message:
                claimed.trial.set_user_attr("message", message)
            state = states.PRUNED if val_accuracy is None else states.COMPLETE
            self.study.tell(claimed.number, val_accuracy, state)
        shutil.rmtree(claimed.folder, ignore_errors=True)

    def note_death(self, number: int) -> None:
        """Note that the process that trained a trial has died by itself, unless it had stored its result before."""
        with self._writing(), self.lock:
            frozen = self.study.get_trials(deepcopy=False)[number]
            if not frozen.state.is_finished():  # Optuna changes no finished trial
                self.storage.set_trial_user_attr(self._id(number), "deaths", frozen.user_attrs.get("deaths", 0) + 1)

    def results(self) -> list[Trial]:
        """Return the finished trials."""
        states = self.optuna.trial.TrialState
        return [
            Trial(
                number=frozen.number,
                state="complete"
                if frozen.state == states.COMPLETE
                else "failed"
                if "message" in frozen.user_attrs
                else "pruned",
                options=frozen.user_attrs["options"],
                val_accuracy=max(frozen.intermediate_values.values(), default=None),
                val_accuracies=[value for _, value in sorted(frozen.intermediate_values.items())],
                seconds=frozen.user_attrs["seconds"],
                message=frozen.user_attrs.get("message", ""),
            )
            for frozen in self._trials(states.COMPLETE, states.PRUNED)
        ]

    def importance(self) -> dict[str, float]:
        """Return how much each option tells the best tenth of the complete trials from all; empty for too few of them.

        By PED-ANOVA (Watanabe et al. 2023), over every option that some of these trials have.
        """
        complete = self._trials(self.optuna.trial.TrialState.COMPLETE)
        if len({frozen.value for frozen in complete}) < 2:
            return {}
        return {name: float(share) for name, share in self.optuna.importance.get_param_importances(self.study).items()}

    def _trials(self, *states: Any) -> list[Any]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _id(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.plan.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)

    def _may_begin(self) -> bool:
        """Return whether the budget allows another trial."""
        plan = self.plan
        begun = len(self.study.get_trials(deepcopy=False))
        return bool(plan.space) and time.time() < plan.deadline and (plan.trials is None or begun < plan.trials)

    def _queued(self) -> dict[str, Any] | None:
        """Return the first options of the queue that no trial has."""
        tried = [frozen.user_attrs.get("options") for frozen in self.study.get_trials(deepcopy=False)]
        return next((options for options in self.plan.queue if options not in tried), None)

    def _abandoned(self) -> tuple[Claimed, FileLock] | None:
        """Claim a running trial that no process trains."""
        for frozen in self._trials(self.optuna.trial.TrialState.RUNNING):
            if lock := self._acquire(frozen.number):
                self.study.sampler = self._sampler(frozen.number)
                claimed = self._claimed(self.optuna.trial.Trial(self.study, self._id(frozen.number)), taken_over=True)
                deaths = frozen.user_attrs.get("deaths", 0)
                if deaths < MAX_DEATHS:
                    return claimed, lock
                message = f"its process was ended by the system {deaths} times, most likely for lack of memory"
                self.finish(claimed, None, 0.0, message)
                lock.release()
        return None

    def _next(self) -> tuple[Claimed, FileLock] | None:
        """Claim a trial of the queue, or one that the sampler proposes."""
        waiting = self._trials(self.optuna.trial.TrialState.WAITING)
        if not waiting:
            queued = self._queued()
            if queued is None and not self._may_begin():
                return None
            if queued is not None:
                params = {option: queued[option] for option in self.plan.space if option in queued}
                self.study.enqueue_trial(params, user_attrs={"options": queued})
        # A sampler of its own for each trial, because a restarted process with the same one would propose the same.
        self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        lock = self._acquire(trial.number)
        if lock is None:
            raise InputError(f"{self._folder(trial.number)} is locked by a process that does not work on this study.")
        return self._claimed(trial, taken_over=False), lock

    def _claimed(self, trial: Any, *, taken_over: bool) -> Claimed:
        plan, options = self.plan, trial.user_attrs.get("options")
        proposed = propose(trial, plan.architecture, plan.recipe, plan.space) if plan.space else {}
        if options is None:
            options = proposed
            trial.set_user_attr("options", options)
        return Claimed(trial, trial.number, options, self._folder(trial.number), taken_over)

    def _acquire(self, number: int) -> FileLock | None:
        """Return the lock of a trial, or None if another process holds it."""
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _folder(self, number: int) -> Path:
        return self.plan.folder / self.plan.name / f"{number:05}"

    def _remove_leftovers(self) -> None:
        """Remove the checkpoints of finished trials whose process died before it did so."""
        states = self.optuna.trial.TrialState
        for frozen in self._trials(states.COMPLETE, states.PRUNED):
            if (folder := self._folder(frozen.number)).exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _sampler(self, number: int) -> Any:
        seed = int(np.random.SeedSequence([self.plan.tuning.seed, number]).generate_state(1)[0])
        if self.plan.tuning.sampler == "random":
            return self.optuna.samplers.RandomSampler(seed)
        return self.optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)

    def _pruner(self) -> Any:
        plan, pruners = self.plan, self.optuna.pruners
        if plan.tuning.pruner == "none" or not plan.space:
            return pruners.NopPruner()
        epochs = epochs_of(plan.architecture, plan.recipe, plan.space)
        return pruners.HyperbandPruner(min(plan.tuning.min_epochs, epochs), epochs)

    def _check_question(self) -> None:
        """Check that the study is of this question, and store it if it is new."""
        known, asked = self.study.user_attrs.get("question"), self.plan.question
        if known is None:
            self.study.set_user_attr("question", asked)
        elif known != asked:
            topic = next(name for name in asked if known.get(name) != asked[name])
            raise InputError(
                f"The study in {self.plan.folder} is of {_difference(topic, known.get(topic), asked[topic])}. Move "
                "that folder away to start another one, or go back to what it studies."
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.plan.folder, error) from error


def cut_back(journal: Path) -> None:
    """Remove the end of a journal after its last complete line, which a killed process or a full disk has cut off.

    Optuna could not read the journal any more once something was appended to that.
    """
    if not journal.exists() or not journal.stat().st_size:
        return
    with journal.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return
        logger.warning("%s: its last line was cut off, and is removed", journal)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class _JournalLock:
    """The lock under which Optuna appends to the journal, whose end is repaired first."""

    def __init__(self, journal: Path, lock: FileLock) -> None:
        self.journal, self.lock = journal, lock

    def acquire(self) -> bool:
        self.lock.acquire()
        try:
            cut_back(self.journal)
        except BaseException:
            self.lock.release()
            raise
        return True

    def release(self) -> None:
        self.lock.release()


def _difference(topic: str, known: Any, asked: Any) -> str:
    """Say in which way a study has another question."""
    if isinstance(known, dict) and isinstance(asked, dict):
        changed = [
            f"{name} {known.get(name, 'default')} -> {asked.get(name, 'default')}"
            for name in {**known, **asked}
            if known.get(name) != asked.get(name)
        ]
        return f"another {topic} ({', '.join(changed)})"
    return f"another {topic}"
