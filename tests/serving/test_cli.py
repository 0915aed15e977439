"""`cifar10-serve` as its users start it and end it."""

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import requests

from tests.serving.conftest import form, png, server, write_export


def start(*options):
    return subprocess.run(
        [sys.executable, "-m", "cifar10.serving.cli", *options], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "no-such-folder"], "no-such-folder"),
        (["--port", "70000"], "70000"),
        (["--port", "http"], "http"),
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--host", "a..b"], "cannot be listened on"),
        (["--most-bytes", "0"], "most-bytes"),
        (["--what"], "--what"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path, options, message):
    models = [] if "--models" in options else ["--models", str(tmp_path)]
    done = start(*models, *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_a_port_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start("--models", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot be listened on: Address already in use" in line


def test_from_an_empty_folder_to_a_newer_export(tmp_path):
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
        refused = client.post("/predict", data=(bytes(100_000) for _ in range(500)))
        assert (refused.status_code, running.megabytes() < 250) == (413, True)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_progress_is_finished(tmp_path, end):
    write_export(tmp_path)
    with server(tmp_path) as running:
        asking = running.client()
        request = asking.prepare_request(requests.Request("POST", f"{running.url}/predict", files=form(png())))
        whole = request.body
        told = threading.Event()

        def body():
            yield whole[:-10]
            assert told.wait(30)
            time.sleep(0.2)  # and the service goes on
            yield whole[-10:]

        def end_it():
            running.wait_for(lambda: "cifar10_in_progress 2.0" in running.client().get("/metrics").text)
            running.process.send_signal(end)
            told.set()

        ending = threading.Thread(target=end_it)
        ending.start()
        kind = {"content-type": request.headers["content-type"]}
        answer = asking.post("/predict", data=body(), headers=kind)
        ending.join()
        assert answer.json()["predictions"][0]["answer"] == "airplane"
        assert running.process.wait(30) == 0
        time.sleep(0.1)
        assert "Traceback" not in running.log()
