"""Run tasks on a Dask cluster, and say how each has ended."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from cifar10.errors import InputError, reason
from cifar10.farm.plan import Task

if TYPE_CHECKING:
    from distributed import Client, Future

    from cifar10.farm.work import Result

CORES = "CORES"  # the resource whose number is also that of the threads
RETRIES = 2  # of a task whose process was ended by a signal
TIMEOUT = 10  # seconds in which a scheduler must answer


class Resource(NamedTuple):
    """What a task takes of a worker, as `dask worker --resources` declares it."""

    name: str
    amount: int

    def __str__(self) -> str:
        """Return it as the options of `dask worker` and `kedro farm` have it."""
        return f"{self.name}={self.amount}"

    @property
    def threads(self) -> int | None:
        """The number of threads to compute on; None: as the environment of a worker says."""
        return self.amount if self.name == CORES else None


def check_installed() -> None:
    """Check that Dask is installed.

    Raises:
        InputError: it is not.
    """
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"kedro farm needs {error.name}, which is not installed: pip install -c constraints.txt -e '.[cluster]'"
        ) from error


def needed(option: str | None, scheduler: str | None, workers: int) -> Resource:
    """Return what each task takes of a worker.

    Args:
        option: the resource as the user names it; None: a GPU, or on this machine, its share of the cores.
        scheduler: its address; None: a cluster on this machine.
        workers: of a cluster on this machine.

    Raises:
        InputError: the option is not valid.
    """
    from dask.system import CPU_COUNT

    if option is None:
        return Resource("GPU", 1) if scheduler else Resource(CORES, max(1, CPU_COUNT // workers))
    name, _, amount = option.partition("=")
    if not (name and amount.isdecimal() and int(amount)):
        raise InputError(f"--resource={option} is not valid: give a name and a number, as in GPU=1 or {CORES}=4.")
    if not scheduler:
        raise InputError(f"--resource={option} is for the workers of a --scheduler: add that, or leave this out.")
    return Resource(name, int(amount))


def run(tasks: Sequence[Task], scheduler: str | None, workers: int, resource: Resource) -> bool:
    """Run tasks, and print a line as each ends, and a table of all.

    Ctrl-C interrupts the tasks, and waits for them; a second one does not wait.

    Args:
        tasks: what to run.
        scheduler: its address; None: start a cluster on this machine.
        workers: of a cluster on this machine.
        resource: that each task takes of a worker.

    Returns:
        Whether all tasks are complete.

    Raises:
        InputError: no scheduler answers there, or its workers do not have the resource.
    """
    from cifar10.farm.work import COMPLETE, trained_before

    results = {task.name: before for task in tasks if (before := trained_before(task))}
    rest = [task for task in tasks if task.name not in results]
    if rest:
        with _connect(scheduler, workers, resource) as client:
            slots = _slots(client, scheduler, resource)
            click.echo(
                f"{len(rest)} task{'s' * (len(rest) > 1)}, {min(slots, len(rest))} at a time. "
                f"Dashboard: {client.dashboard_link}"
            )
            results |= _results(client, rest, resource)
    for line in table({task.name: results[task.name] for task in tasks}):
        click.echo(line)
    return all(result.outcome in COMPLETE for result in results.values())


@contextmanager
def _connect(scheduler: str | None, workers: int, resource: Resource) -> "Iterator[Client]":
    """Provide a client of the scheduler, or of a cluster that ends with it."""
    import dask
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the lines of the tasks say what has happened
    if scheduler is None:
        local = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            resources={resource.name: resource.amount},
            preload=["cifar10.farm.work"],
            dashboard_address="127.0.0.1:0",
        )
        # A worker that dies is started again, which Dask gives up after 15 s; a busy machine needs longer.
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"}), local, Client(local) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler answers at {scheduler} ({reason(error)}). Start one with `dask scheduler`, and give "
            "its address."
        ) from error
    with client:
        yield client


def _slots(client: "Client", scheduler: str | None, resource: Resource) -> int:
    """Return how many tasks the workers can run at a time."""
    workers = client.scheduler_info()["workers"].values()
    slots = sum(min(each["nthreads"], each["resources"].get(resource.name, 0) // resource.amount) for each in workers)
    if not slots:
        raise InputError(
            f"None of the {len(workers)} workers of {scheduler} has {resource}. Start one: dask worker {scheduler} "
            f"--nworkers 1 --nthreads 1 --resources {resource}"
        )
    return int(slots)


def _results(client: "Client", tasks: Sequence[Task], resource: Resource) -> "dict[str, Result]":
    from distributed import Event, as_completed

    from cifar10.farm.work import Result, perform

    logs = tasks[0].log.parent
    logs.mkdir(parents=True, exist_ok=True)
    stop = Event(logs.name, client)
    futures = {
        client.submit(
            perform,
            task,
            stop.name,
            resource.threads,
            key=f"{task.name.replace(' ', '-')}-{logs.name}",
            resources={resource.name: resource.amount},
            priority=-number,  # in the order of the tasks
            retries=RETRIES,
        ): task
        for number, task in enumerate(tasks)
    }
    ended = as_completed(futures)
    results: dict[str, Result] = {}
    while True:
        try:
            for future in ended:
                task = futures[future]
                results[task.name] = _result(future)
                future.release()  # else Dask would run the task again if the worker died that has its result
                click.echo(f"[{len(results)}/{len(tasks)}] {_line(task, results[task.name])}")
            # Ctrl-C may have come while the loop was taking one.
            late = {task.name: _result(future) for future, task in futures.items() if task.name not in results}
            return {task.name: (results | late)[task.name] for task in tasks}
        except KeyboardInterrupt:
            if stop.is_set():
                raise
            stop.set()
            click.echo("\nInterrupting the tasks; the same command resumes them.", err=True)


def _result(future: "Future") -> "Result":
    from distributed import KilledWorker

    from cifar10.farm.work import FAILED, Result

    if future.status == "finished":
        return future.result()
    if future.status == "cancelled":
        return Result(FAILED, "the scheduler has ended")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Result(FAILED, f"its worker has ended {error.allowed_failures + 1} times, perhaps for lack of memory")
    return Result(FAILED, reason(error))


def _line(task: Task, result: "Result") -> str:
    return ", ".join(filter(None, [f"{task.name}: {result.outcome}", *_facts(result), f"log: {task.log}"]))


def _facts(result: "Result") -> list[str]:
    """Return what is known of a result."""
    return [
        "" if result.val_accuracy is None else f"validation {result.val_accuracy:.2%}",
        f"{result.seconds / 60:.1f} min on {result.host}" if result.host else "",
        result.message,
    ]


def table(results: "dict[str, Result]") -> Iterator[str]:
    """Yield the lines of a table of results by the names of their tasks; the last one counts the outcomes."""
    width = max(map(len, results))
    for name, result in results.items():
        yield f"{name:{width}}  {result.outcome:14}  {', '.join(filter(None, _facts(result)))}".rstrip()
    counts = Counter(result.outcome for result in results.values())
    yield f"{len(results)} tasks: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}"
