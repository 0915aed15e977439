"""How the tasks of a farm end, and what is said about it: with commands that take the place of `kedro`."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cifar10 import cli
from cifar10.compute.provenance import sources
from cifar10.errors import BUSY, InputError
from cifar10.farm import cluster
from cifar10.farm.plan import Task
from tests.helpers import PROJECT, make_record

pytest.importorskip("distributed")
if sys.platform == "win32":
    pytest.skip("kedro farm interrupts its tasks by signals", allow_module_level=True)
from cifar10.farm import work

KEDRO = f"""
import os, pathlib, signal, sys, time
print("begin", sys.argv[1], os.environ.get("TF_NUM_INTRAOP_THREADS"), "pid", os.getpid(), flush=True)
tried = pathlib.Path(f"tried_{{sys.argv[1]}}")
again = tried.exists()
tried.touch()
def end(code):
    print("Error: this is why" if code else "all is well")
    sys.exit(code)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def die_with_worker():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(100)
def sleep():
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        end(1)
dict(
    good=lambda: end(0), bad=lambda: end(1), busy=lambda: end(0 if again else {BUSY}),
    dies=die, dies_once=lambda: end(0) if again else die(), sleeps=sleep,
    dies_with_worker=lambda: end(0) if again else die_with_worker(),
)[sys.argv[1]]()
"""


@pytest.fixture(scope="module")
def client():
    from distributed import Client, LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "resources": {"CORES": 3}, "dashboard_address": None}
    with LocalCluster(processes=False, **options) as local, Client(local) as client:
        yield client


@pytest.fixture
def make(tmp_path):
    """Return a function that makes tasks, named after what they do."""
    (tmp_path / "kedro.py").write_text(KEDRO)  # which `python -m kedro` finds first
    return lambda *names: [Task(name, [name], tmp_path, tmp_path / "logs" / name, None) for name in names]


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("good", work.TUNED, ""),
        ("bad", work.FAILED, "this is why"),
        ("busy", work.TUNED, ""),
        ("dies_once", work.TUNED, ""),
        ("dies", work.FAILED, "its process was ended by SIGKILL"),
    ],
)
def test_a_task_ends(client, make, monkeypatch, capsys, name, outcome, message):
    monkeypatch.setattr(work, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(work, "POLL_SECONDS", 0.05)
    (task,) = make(name)
    result = cluster._results(client, [task], cluster.Resource("CORES", 3))[name]
    assert (result.outcome, result.message) == (outcome, message)
    line = capsys.readouterr().out
    assert line.startswith(f"[1/1] {name}: {outcome}, ")
    assert line.endswith(f"log: {task.log}\n")
    tries = {"busy": 2, "dies_once": 2, "dies": 1 + cluster.RETRIES}.get(name, 1)
    assert task.log.read_text().count(f"begin {name} 3") == tries


def test_a_run_that_leaves_no_model_has_failed(client, make):
    """As that of a worker with other code, or of an environment that only the worker has."""
    (task,) = make("good")
    task.log.parent.mkdir()
    training = SimpleNamespace(record=lambda: None, newest=lambda: None)
    result = work._perform(task._replace(training=training), threading.Event(), None)
    assert result.outcome == work.FAILED
    assert "there is no model of this recipe, seed and data" in result.message


def test_what_has_ended_does_not_run_again_when_its_worker_dies(make):
    """Dask would compute results again that were lost with the worker, as long as somebody may ask for them."""
    from distributed import Client, LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "resources": {"CORES": 1}, "dashboard_address": None}
    tasks = make("good", "bad", "dies_with_worker")
    with LocalCluster(processes=True, **options) as local, Client(local) as client:
        results = cluster._results(client, tasks, cluster.Resource("CORES", 1))
    assert [result.outcome for result in results.values()] == [work.TUNED, work.FAILED, work.TUNED]
    assert [task.log.read_text().count("begin") for task in tasks] == [1, 1, 2]


def test_what_has_been_trained_needs_no_cluster(make, capsys):
    training = SimpleNamespace(record=lambda: make_record(val_accuracy=0.9))
    tasks = [task._replace(training=training) for task in make("one", "two")]
    assert cluster.run(tasks, "tcp://127.0.0.1:1", 1, cluster.Resource("GPU", 1))
    assert capsys.readouterr().out.endswith("2 tasks: 2 trained before\n")


@pytest.mark.parametrize(("code", "message"), [(sources(), ""), ("another hash", "by other source code")])
def test_a_model_that_other_code_has_trained_is_marked(make, code, message):
    """Its network may have been another one."""
    (task,) = make("one")
    training = SimpleNamespace(record=lambda: make_record(val_accuracy=0.9, sources=code))
    assert work.trained_before(task._replace(training=training)) == work.Result(work.BEFORE, message, 0.9)


def test_a_machine_without_the_project_is_named(client, make, tmp_path):
    (task,) = make("good")
    result = cluster._results(client, [task._replace(folder=tmp_path / "none")], cluster.Resource("CORES", 3))["good"]
    assert (result.outcome, result.message.partition(":")[0]) == (
        work.FAILED,
        f"{tmp_path / 'none'} is not on this machine",
    )


def test_ctrl_c_interrupts_what_runs_and_starts_nothing_else(client, make, monkeypatch, capsys):
    monkeypatch.setattr(work, "POLL_SECONDS", 0.05)
    tasks = make("sleeps", "good")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore Ctrl-C
    threading.Thread(target=interrupt_when, args=(tasks[0].log,), daemon=True).start()
    results = cluster._results(client, tasks, cluster.Resource("CORES", 3))
    assert {name: result.outcome for name, result in results.items()} == dict.fromkeys(
        ("sleeps", "good"), work.INTERRUPTED
    )
    assert "Error: this is why" in tasks[0].log.read_text()  # its process has ended by itself
    assert not tasks[1].log.exists()
    assert "the same command resumes them" in capsys.readouterr().err


def interrupt_when(log):
    while not (log.exists() and "begin" in log.read_text()):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_task_ends_with_its_worker(make, tmp_path):
    """Otherwise the task would hold the lock of its training, which another worker could then not resume."""
    (task,) = make("sleeps")
    task.log.parent.mkdir()
    code = (
        "import pathlib, threading\n"
        "from cifar10.farm import work\nfrom cifar10.farm.plan import Task\n"
        f"path = pathlib.Path({str(tmp_path)!r})\n"
        "work._run(Task('sleeps', ['sleeps'], path, path / 'logs/sleeps', None), threading.Event(), None)"
    )
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT)
    pid = wait_for_pid(task.log)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_on_windows_popen_gets_no_function_to_call_after_a_fork(make, monkeypatch):
    """Such a function would be refused there, whatever it does."""
    (task,) = make("good")
    task.log.parent.mkdir()
    given = {}

    def popen(arguments, **options):
        given.update(options)
        return SimpleNamespace(poll=lambda: 0, returncode=0, kill=lambda: None)

    monkeypatch.setattr(work, "sys", SimpleNamespace(platform="win32", executable="python"))
    monkeypatch.setattr(work, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen}))
    assert work._run(task, threading.Event(), None) == 0
    assert given["preexec_fn"] is None


def wait_for_pid(log):
    while not (log.exists() and (found := re.search(r"pid (\d+)\n", log.read_text()))):
        time.sleep(0.05)
    return int(found[1])


def test_the_table_has_a_line_for_each_task():
    results = {
        "vgg16 seed 0": work.Result(work.TRAINED, "", 0.93061, 120.0, "node1"),
        "vgg16 seed 10": work.Result(work.BEFORE, "by other source code", 0.93),
        "tune_vgg16 worker 1": work.Result(work.FAILED, "no space", None, 30.0, "node2"),
        "vgg16 seed 1": work.Result(work.FAILED, "the scheduler has ended"),
    }
    assert list(cluster.table(results)) == [
        "vgg16 seed 0         trained         validation 93.06%, 2.0 min on node1",
        "vgg16 seed 10        trained before  validation 93.00%, by other source code",
        "tune_vgg16 worker 1  failed          0.5 min on node2, no space",
        "vgg16 seed 1         failed          the scheduler has ended",
        "4 tasks: 1 trained, 1 trained before, 2 failed",
    ]


@pytest.mark.parametrize(
    ("option", "scheduler", "resource", "threads"),
    [
        (None, "tcp://host:8786", "GPU=1", None),
        ("CORES=4", "tcp://host:8786", "CORES=4", 4),
        ("fast=2", "tcp://host:8786", "fast=2", None),
    ],
)
def test_the_resource_is_what_workers_declare(option, scheduler, resource, threads):
    needed = cluster.needed(option, scheduler, 1)
    assert (str(needed), needed.threads) == (resource, threads)


def test_tasks_of_this_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("dask.system.CPU_COUNT", 9)
    assert [cluster.needed(None, None, workers).threads for workers in (1, 2, 4, 20)] == [9, 4, 2, 1]


def test_a_scheduler_that_is_not_there_or_has_no_such_workers_is_named(client, make, monkeypatch):
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "no://such"):
        with pytest.raises(InputError, match=rf"No Dask scheduler answers at {address} \(.*\). Start one"):
            cluster.run(make("good"), address, 1, cluster.Resource("GPU", 1))
    address = client.scheduler.address
    with pytest.raises(InputError, match=rf"None of the 1 workers of {address} has GPU=1. Start one: dask worker"):
        cluster.run(make("good"), address, 1, cluster.Resource("GPU", 1))


@pytest.fixture
def farm(in_project, tmp_path):
    """Return a function that runs `kedro farm` on an empty data folder."""

    def run(*arguments):
        options = ["--env=demo", f"--params=data_root={tmp_path}", *arguments]
        return CliRunner().invoke(cli.farm, options)

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipelines="], "Error: --pipelines is empty, as where a variable of the shell is not set"),
        (["--pipelines=train_vgg61"], "Error: There is no pipeline train_vgg61; did you mean train_vgg16"),
        (["--pipelines=train_vgg16", "--sheduler=x"], "Error: No such option '--sheduler'"),
        (["--pipelines=train_vgg16", "--pipelines=train_vgg19"], "Error: --pipelines is given 2 times"),
        (["--pipelines=train_vgg16", "--env=demo"], "Error: --env is given 2 times"),
        (["--pipelines=train_vgg16", "--seeds=9..0"], "Error: --seeds=9..0 is not valid"),
        (
            ["--pipelines=train_vgg16", "--resource=GPU=1"],
            "Error: --resource=GPU=1 is for the workers of a",
        ),
        (["--pipelines=train_vgg16", "--scheduler=tcp://h:1", "--resource=GPU"], "Error: --resource=GPU is not valid"),
        (["--pipelines=train_vgg16", "--scheduler=tcp://h:1", "--workers=2"], "Error: --workers=2 has no effect"),
        (
            ["--pipelines=train_vgg16"],
            "Error: The images must be prepared first: kedro run --pipelines=ingestion",
        ),
    ],
)
def test_a_mistake_is_named_before_anything_starts(farm, arguments, message):
    result = farm(*arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output


def test_dask_must_be_installed(farm, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = farm("--pipelines=train_vgg16")
    assert (
        "Error: kedro farm needs distributed, which is not installed: pip install -c constraints.txt" in result.output
    )
    assert result.exit_code == 1
