"""Starting and stopping `cifar10-serve`."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from importlib import metadata

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.helpers import PROJECT
from tests.serving.conftest import form, png, server, write_export


def run_cli(*options):
    return subprocess.run(
        [sys.executable, "-m", "cifar10.serving.cli", *options], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "no-such-folder"], "no-such-folder"),
        (["--port", "70000"], "70000"),
        (["--port", "http"], "http"),
        (["--host", "no.such.host.invalid"], "Cannot listen on"),
        (["--host", "a..b"], "Cannot listen on"),
        (["--max-body-bytes", "0"], "max-body-bytes"),
        (["--model", "simple_cnn:newest"], "as in simple_cnn:1"),
        (["--what"], "--what"),
    ],
)
def test_an_invalid_option_is_reported_in_one_line(tmp_path, options, message):
    models = [] if "--models" in options else ["--models", str(tmp_path)]
    result = run_cli(*models, *options)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_the_extra_serve_suffices():
    """Its service starts where nothing is installed but what that extra requires."""

    def add(text, extra=""):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name in installed or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            return
        installed.add(name)
        for each in metadata.requires(name) or ():
            for wanted in requirement.extras or {""}:
                add(each, wanted)

    installed = {"cifar10"}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["optional-dependencies"]["serve"]:
        add(requirement)
    missing = [
        module
        for module, names in metadata.packages_distributions().items()
        if not installed & {canonicalize_name(name) for name in names}
    ]
    script = """
import sys
class Missing:
    def find_spec(name, *_):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name}", name=name)
sys.meta_path.insert(0, Missing)
import cifar10.serving.cli, cifar10.serving.app
"""
    result = subprocess.run([sys.executable, "-c", script, *missing], capture_output=True, text=True, check=False)
    assert "tensorflow" in missing
    assert result.returncode == 0, result.stderr


def test_a_port_in_use_is_reported_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_cli("--models", str(tmp_path), "--port", str(port))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"Cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_every_option_is_explained_and_takes_effect(tmp_path):
    write_export(tmp_path)
    write_export(tmp_path, version=2)
    limits = {"--max-images": "2", "--max-body-bytes": "3000", "--max-pixels": "100"}
    options = [*limits, "--max-concurrent", "--timeout", "--threads", "--models", "--model", "--host", "--port"]
    text = run_cli("--help").stdout
    for option in options:
        assert re.search(rf"{option} [A-Z]\S*\s+\w", text), option
    arguments = [word for option in limits.items() for word in option]
    arguments += ["--max-concurrent", "5", "--timeout", "0.1", "--threads", "2", "--model", "airbench94:1"]
    with server(tmp_path, *arguments) as running:
        model = running.client().get("/model").json()
        assert (model["version"], model["training_version"]) == (1, "2026-11-21T15.42.28.123Z")
        assert [model["max_images"], model["max_body_bytes"], model["max_pixels"]] == [2, 3000, 100]
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_a_newer_export_is_served_without_a_restart(tmp_path):
    with server(tmp_path) as running:
        client = running.client()
        assert client.get("/health/ready").status_code == 503
        write_export(tmp_path, version=1)
        running.wait_for(lambda: client.get("/health/ready").status_code == 200)
        assert client.post("/predict", files=form(png())).json()["model"] == {"name": "airbench94", "version": 1}
        write_export(tmp_path, version=2, exported_at="2027-01-01T00:00:00+00:00")
        running.wait_for(lambda: client.get("/model").json()["version"] == 2)
        assert client.post("/predict", files=form(png())).json()["model"] == {"name": "airbench94", "version": 2}
        assert "server" not in client.get("/").headers
        response = client.post("/predict", data=(bytes(100_000) for _ in range(500)))
        assert (response.status_code, running.megabytes() < 250) == (413, True)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_progress_are_finished_before_the_service_stops(tmp_path, stop):
    write_export(tmp_path)
    with server(tmp_path) as running:
        client = running.client()
        request = client.prepare_request(requests.Request("POST", f"{running.url}/predict", files=form(png())))
        stopping = threading.Event()

        def body():
            yield request.body[:-10]
            assert stopping.wait(30)
            time.sleep(0.2)  # the service handles the signal while the request is incomplete
            yield request.body[-10:]

        def stop_service():
            running.wait_for(lambda: "cifar10_in_progress 2.0" in running.client().get("/metrics").text)
            running.process.send_signal(stop)
            stopping.set()

        thread = threading.Thread(target=stop_service)
        thread.start()
        response = client.post("/predict", data=body(), headers={"content-type": request.headers["content-type"]})
        thread.join()
        assert response.json()["predictions"][0]["label"] == "airplane"
        assert running.process.wait(30) == 0
        time.sleep(0.1)
        assert "Traceback" not in running.log()
