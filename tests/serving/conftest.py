"""Exports of a tiny hand-made network, and services that serve them."""

import contextlib
import io
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import requests
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from cifar10.serving import routes
from cifar10.serving.app import create_app
from cifar10.serving.connection import BoundedConnection
from cifar10.serving.limits import Limits
from cifar10.serving.repository import Repository

CLASS_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TEMPERATURE = 1.6
UNSURE_BELOW = 0.5
COLOURS = {  # name -> RGB value, and the class that the network predicts for an image of that colour
    "red": ((255, 0, 0), "airplane"),
    "green": ((0, 255, 0), "automobile"),
    "blue": ((0, 0, 255), "bird"),
}


def network(classes: int = len(CLASS_NAMES), input_name: str = "images") -> bytes:
    """An ONNX model: the softmax of the mean RGB value times a matrix."""
    weights = np.zeros((3, classes), np.float32)
    weights[:3, :3] = np.eye(3) * 0.02
    nodes = [
        helper.make_node("ReduceMean", [input_name, "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = [
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(weights, "weights"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", 32, 32, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def card(name: str, exported_at: str, **others: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model_version": "2026-11-21T15.42.28.123Z",
        "exported_at": exported_at,
        "class_names": CLASS_NAMES,
        "temperature": TEMPERATURE,
        "unsure_below": UNSURE_BELOW,
        "unsure_share": 0.05,
        "metrics": {"accuracy": 0.928, "accuracy_low": 0.923, "accuracy_high": 0.933, "test_examples": 10000},
        "parameters": 30,
        **others,
    }


def png(colour: Any = (255, 0, 0), size: tuple[int, int] = (32, 32), mode: str = "RGB", **options: Any) -> bytes:
    return encoded(Image.new("RGB", size, colour).convert(mode), "PNG", **options)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def write_export(
    models: Path,
    name: str = "airbench94",
    version: int = 1,
    exported_at: str = "2026-11-21T16:00:00.123456+00:00",
    model: bytes | None = None,
    class_names: Sequence[str] = CLASS_NAMES,
    **others: Any,
) -> Path:
    """Write an export as the export pipeline does: to a temporary folder, which is renamed when it is complete."""
    unfinished = models / name / f".unfinished-{version}"
    (unfinished / "samples").mkdir(parents=True)
    (unfinished / "model.onnx").write_bytes(network(len(class_names)) if model is None else model)
    (unfinished / "model_card.json").write_text(
        json.dumps(card(name, exported_at, class_names=list(class_names), **others))
    )
    for index in range(len(class_names)):
        (unfinished / "samples" / f"{index}.png").write_bytes(png((12 * index, 0, 0)))
    (models / name / "config.pbtxt").write_text(f'name: "{name}"\n')
    return unfinished.rename(models / name / str(version))


@pytest.fixture
def export_folder(tmp_path: Path) -> Path:
    """A models folder with one export: airbench94, version 1."""
    models = tmp_path / "serving"
    write_export(models)
    return models


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Client"]:
    """A client of a service with one export, shared by the tests that do not change it."""
    models = tmp_path_factory.mktemp("models") / "serving"
    write_export(models)
    with serving(models) as client:
        yield client


class Client(requests.Session):
    """A session whose requests take paths below `url`."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.trust_env = False  # ignore proxy settings

    def request(self, method: Any, path: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        return super().request(method, self.url + path, **{"timeout": 60, **options})


@contextlib.contextmanager
def serving(models: Path, keep_alive_seconds: float = 5, **limits: Any) -> Iterator[Client]:
    """Run the service in a thread of this process, and yield a client of it."""
    request_limits = Limits(**limits)
    app = create_app(Repository(models, max_images=request_limits.max_images), request_limits)
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive_seconds,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def form(*contents: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Images for the `files` argument of a request."""
    return [("images", ("image", content, "application/octet-stream")) for content in contents]


@dataclass
class Server:
    """A running `cifar10-serve` process."""

    process: subprocess.Popen[str]
    port: int
    lines: "queue.Queue[str]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Client:
        return Client(self.url)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """Poll until the condition returns a true value, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the process ended: {self.log()}"
            with contextlib.suppress(requests.ConnectionError):
                if result := condition():
                    return result
            time.sleep(0.02)
        raise AssertionError(f"not true within {seconds} seconds: {self.log()}")

    def log(self) -> str:
        lines = []
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self.lines.get_nowait())
        return "".join(lines)

    def megabytes(self) -> float:
        """Current resident memory."""
        if sys.platform != "linux":
            pytest.skip("only Linux has the size of another process in a file")
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def peak_megabytes(self) -> float:
        """Peak resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6


@contextlib.contextmanager
def server(models: Path, *options: str, core: int | None = None) -> Iterator[Server]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "cifar10.serving.cli", "--models", str(models), "--port", str(port), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    running = Server(process, port, lines)
    try:
        running.wait_for(lambda: running.client().get("/health/live").status_code == 200)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
            reader.join(5)


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Poll until the condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true within {seconds} seconds"
        time.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def open_connection(client: Client, content: bytes = b"") -> Iterator[socket.socket]:
    """Open a socket to the service and send some bytes."""
    host, port = client.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        yield connection


@pytest.fixture
def paused_predictions(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let `POST /predict` wait until this event is set."""
    resumed, predict = threading.Event(), routes._predict

    def wait_and_predict(*arguments: Any) -> dict[str, Any]:
        assert resumed.wait(30)
        return predict(*arguments)

    monkeypatch.setattr(routes, "_predict", wait_and_predict)
    yield resumed
    resumed.set()


@contextlib.contextmanager
def concurrent_requests(client: Client, count: int) -> Iterator[list[requests.Response]]:
    """Send requests until all are in progress; the responses are appended to the list when they arrive."""
    responses: list[requests.Response] = []

    def send_request() -> None:
        with Client(client.url) as own:
            responses.append(own.post("/predict", files=form(png())))

    threads = [threading.Thread(target=send_request) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_for(lambda: f"cifar10_in_progress {count + 1}.0" in client.get("/metrics").text)  # includes GET /metrics
    yield responses
    for thread in threads:
        thread.join()
