"""Every command in a block of README, CONTRIBUTING and docs runs as it is printed, on small drawn data.

In a copy of the project whose environments have the demo's images and short recipes. A command that keeps running, such
as a service, has to answer. `NOT_RUN` has the commands that need what may not be at hand.
"""

import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from PIL import Image

from cifar10.datasets.drawn import DrawnBatchesDataset
from tests.helpers import PROJECT
from tests.test_docs import MARKDOWN, PAGES

SERVERS = {  # a command that keeps running -> where it answers
    "cifar10-serve": "http://127.0.0.1:8000/health/ready",
    "kedro viz run": "http://127.0.0.1:4141",
}
NOT_RUN = {  # how a command begins -> why it is not run here
    "python3 -m venv": "`.ci/run` runs the set-up in a new environment",
    ". .venv/bin/activate": "`.ci/run` runs the set-up in a new environment",
    "pip install": "changes the environment; `.ci/run` installs the extras of `.[dev]`",
    "pytest": "`.ci/run` runs the tests",
    "ruff": "`.ci/run` runs it",
    "mypy": "`.ci/run` runs it",
    "uv ": "needs uv and the network",
    "hf ": "needs an account, or downloads the images",
    "docker ": "needs a container engine",
    "tensorflow_model_server": "needs TF Serving",
    "tritonserver": "needs Triton",
    "dask ": "HOST is a machine of a cluster; tests/farm starts a scheduler and workers",
    "CUDA_VISIBLE_DEVICES=0 dask": "HOST is a machine of a cluster; tests/farm starts a scheduler and workers",
    "kedro farm --scheduler": "HOST is a machine of a cluster; tests/farm starts a scheduler and workers",
    "kedro airflow": "needs kedro-airflow",
    "optuna-dashboard": "needs optuna-dashboard",
    "export ": "needs several machines; tests/training/test_parallel.py trains in two processes",
    "kedro run --pipelines=train_vgg16 --params=devices=all,data_root": "needs several machines, as above",
    "KERAS_BACKEND=jax kedro run --pipelines=train_vgg16 --params=devices=all": "needs several GPUs",
    "kedro run --env=s3": "needs a bucket; tests/test_s3.py runs everything on a server of its own",
    "_KEDRO_COMPLETE": "writes into the home folder; tests/test_cli.py runs what it writes",
    "echo ": "writes into the home folder; tests/test_cli.py runs what it writes",
    "kedro run --env=notebook": "needs ImageNet weights; tests/training/test_transfer.py trains from other weights",
}
NEEDS = {  # how a command begins -> what it needs to be installed
    "KERAS_BACKEND=jax": "jax",
    "CIFAR10_MLFLOW=1": "mlflow",
    "kedro farm": "distributed",
    "kedro run --pipelines=tune": "optuna",
}


class Command(NamedTuple):
    """A command, and where it is printed."""

    place: str
    text: str


def commands() -> list[Command]:
    """Return the commands of all pages in their order, each once."""
    found: dict[str, str] = {}
    for page in PAGES:
        for token in MARKDOWN.parse(page.read_text(encoding="utf-8")):
            if token.type == "fence" and token.info in ("bash", "python"):
                for text in [token.content] if token.info == "python" else split(token.content):
                    found.setdefault(f"python - <<'END'\n{text}END" if token.info == "python" else text, page.name)
    return [Command(place, text) for text, place in found.items()]


def split(block: str) -> list[str]:
    """Return the commands of a block: an assignment stays with what follows it, and comments are left out."""
    found, pending = [], ""
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
        line = re.sub(r"\s+#.*", "", line)
        if re.fullmatch(r"\w+=\S+", line):
            pending = f"{line}; "
        elif line:
            found += [f"{pending}{each}" for each in line.split(" && ")]
            pending = ""
    return found


class Copy:
    """A copy of the project with small data, in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: dict[str, subprocess.Popen] = {}
        listed = ["git", "ls-files", "-co", "--exclude-standard", "src", "conf", "docs", "data", "pyproject.toml"]
        for name in subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split():
            if (PROJECT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / name, folder / name)
        self.shorten()
        raw = DrawnBatchesDataset(train=3000, test=1000, seed=0).load()
        for name, (batch,) in {"train": raw.train, "test": raw.test}.items():
            path = folder / f"data/01_raw/cifar10-csv/{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pd.DataFrame(batch.pixels, columns=[f"pixel{number}" for number in range(3072)])
            table.assign(label=batch.labels).to_csv(path, index=False)
        Image.fromarray(raw.test[0].pixels[0].reshape(3, 32, 32).transpose(1, 2, 0)).save(folder / "cat.jpg")

    def shorten(self) -> None:
        """Give the environments of a plain `kedro run` and of `--env=long` the images and recipes of the demo."""
        demo, long = (
            yaml.safe_load((PROJECT / f"conf/{env}/parameters.yml").read_text(encoding="utf-8"))
            for env in ("demo", "long")
        )
        demo, long = ({key: each[key] for key in each if not key.startswith("_")} for each in (demo, long))
        brief = {"epochs": 1, "batch_size": 32, "examples": 320}
        short = {
            "simple_cnn": brief,
            "deep_cnn": brief,
            "robustness": {"examples": 50},
            "tuning": {"minutes": 0.2, "fidelity": {"examples": 64}, "confirm_seeds": 1},
            "benchmark": {"architectures": "simple_cnn", "repeats": 1, "seconds": 0.05},
        }
        files = {
            "local/parameters.yml": demo | short,
            "local/globals.yml": {"data_root": "data", "published_root": "data/own"},
            "local/catalog.yml": yaml.safe_load((PROJECT / "conf/demo/catalog.yml").read_text(encoding="utf-8")),
            "long/parameters.yml": demo | {name: long[name] | demo[name] for name in long},
        }
        for name, values in files.items():
            (self.folder / "conf" / name).parent.mkdir(exist_ok=True)
            (self.folder / "conf" / name).write_text(yaml.safe_dump(values), encoding="utf-8")

    @functools.cached_property
    def environment(self) -> dict[str, str]:
        """The variables with which commands run."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.folder / "src"), "BROWSER": "true"}

    def run(self, command: str) -> None:
        """Run a command to its end; a service until it answers."""
        address = next((each for name, each in SERVERS.items() if command.startswith(name)), None)
        if address:
            self.serve(command, address)
            return
        done = subprocess.run(
            ["bash", "-c", self.fill(command)], cwd=self.folder, env=self.environment, input="y\n",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        assert '{"error"' not in done.stdout

    def fill(self, command: str) -> str:
        """Replace what a reader fills in: the newest version, and images."""
        if "VERSION" in command:
            versions = self.folder / "data/06_models/simple_cnn.keras"
            command = command.replace("VERSION", max(path.name for path in versions.iterdir()))
        if "(images)" in command:
            command = command.replace("\nEND", "\nassert probabilities.shape == (2, 10)\nEND")
            command = command.replace("import keras", "import keras, numpy\nimages = numpy.zeros((2, 32, 32, 3))")
        return command

    def serve(self, command: str, address: str) -> None:
        self.stop(address)
        self.servers[address] = server = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while True:
            assert server.poll() is None, f"{command} ended"
            with suppress(OSError), urllib.request.urlopen(address, timeout=10) as response:
                assert response.status == 200
                return
            assert time.monotonic() < deadline, f"{command} does not answer at {address}"
            time.sleep(1)

    def stop(self, address: str) -> None:
        if server := self.servers.pop(address, None):
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    made = Copy(tmp_path_factory.mktemp("project"))
    made.run("kedro run")  # so that most commands can be run by themselves
    yield made
    for address in list(made.servers):
        made.stop(address)


def test_reasons_not_to_run_a_command_are_needed():
    printed = [command.text for command in commands()]
    assert not [start for start in NOT_RUN if not any(text.startswith(start) for text in printed)]
    assert not [start for start in SERVERS if not any(text.startswith(start) for text in printed)]


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=lambda command: f"{command.place}: {command.text}")
def test_command_runs_as_printed(copy, command):
    for start, reason in NOT_RUN.items():
        if command.text.startswith(start):
            pytest.skip(reason)
    for start, module in NEEDS.items():
        if command.text.startswith(start) and not importlib.util.find_spec(module):
            pytest.skip(f"{module} is not installed")
    copy.run(command.text)
