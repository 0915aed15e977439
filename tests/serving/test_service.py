"""Headers, errors, metrics, documentation and load limits, which are the same for all routes."""

import asyncio
import gzip
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from cifar10.serving.app import create_app
from cifar10.serving.limits import Limits
from cifar10.serving.middleware import DISCARD_SECONDS
from cifar10.serving.repository import Repository
from tests.serving.conftest import (
    Client,
    concurrent_requests,
    form,
    open_connection,
    png,
    serving,
    wait_for,
    write_export,
)
from tests.serving.test_predict import assert_error

EXPECTED_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def test_the_service_does_not_import_training_libraries():
    unwanted = ["tensorflow", "keras", "kedro", "pandas", "sklearn", "scipy", "matplotlib"]
    code = f"import sys, cifar10.serving.cli, cifar10.serving.app; print([m for m in {unwanted} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_response_has_security_headers(client):
    paths = ("/", "/docs", "/docs/swagger-ui.css", "/model", "/samples/0", "/metrics", "/openapi.json", "/nothing")
    for path in paths:
        response = client.get(path)
        assert EXPECTED_HEADERS.items() <= dict(response.headers).items(), path
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


@pytest.mark.parametrize(("path", "script", "style"), [("/", "HASH", "HASH"), ("/docs", "'self' HASH", "'self'")])
def test_the_policy_allows_the_scripts_and_styles_of_a_page_alone(client, path, script, style):
    page = client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    directives = dict(each.split(" ", 1) for each in page.headers["content-security-policy"].split("; "))
    for name, expected in (("script-src", script), ("style-src", style)):
        assert re.sub(r"'sha256-[\w+/]{43}='", "HASH", directives[name]) == expected


def test_the_documentation_needs_no_other_server(client):
    page = client.get("/docs").text
    files = re.findall(r'(?:src|href)="(.*?)"', page)
    assert {each.rpartition(".")[2] for each in files} == {"js", "css", "png"}
    assert "//" not in "".join(files)
    for each in files:
        response = client.get(f"/{each}")
        assert (response.status_code, len(response.content) > 1000) == (200, True), each
    assert_error(client.get("/docs/nothing.js"), 404, "nothing at this path")
    assert_error(client.get("/docs/..%2fcore.py"), 404, "nothing at this path")


def test_the_page_and_the_documentation_can_be_served_below_a_path(client):
    """A proxy may strip a prefix, of which the service knows nothing; see also test_page.py."""
    assert not re.findall(r"""["'`]/\w.*""", client.get("/").text)
    assert "url: 'openapi.json'" in client.get("/docs").text
    assert client.get("/openapi.json").json()["servers"] == [{"url": "."}]


def test_the_model_and_its_samples_are_described(client):
    model = client.get("/model").json()
    assert (model["name"], model["version"]) == ("airbench94", 1)
    assert (model["accuracy"], model["accuracy_low"], model["accuracy_high"]) == (0.928, 0.923, 0.933)
    assert (model["test_images"], model["parameters"]) == (10_000, 30)
    assert (model["unsure_below"], model["unsure_share"]) == (0.5, 0.05)
    assert model["unsure_means"] == "less certain than for 95% of its validation images"
    assert (model["max_images"], model["max_body_bytes"], model["max_pixels"]) == (16, 5_000_000, 4_000_000)
    assert model["samples"] == [f"/samples/{index}" for index in range(10)]
    for index, path in enumerate(model["samples"]):
        response = client.get(path)
        assert (response.content, response.headers["content-type"]) == (png((12 * index, 0, 0)), "image/png")


@pytest.mark.parametrize("path", ["/samples/10", "/samples/x", "/samples/-1", "/samples/²", "/samples/" + "1" * 5000])
def test_an_unknown_sample_is_not_found(client, path):
    assert_error(client.get(path), 404, "no such sample")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/..%2f..%2fetc/passwd", "/samples/..%2f..%2fmodel_card.json", "/model/"]
)
def test_no_path_reaches_the_disk(client, path):
    assert_error(client.get(path), 404, "There is no")


def test_unknown_paths_and_wrong_methods_get_a_message_of_their_own(client):
    assert_error(client.get("/nothing"), 404, "nothing at this path; GET /docs")
    response = client.get("/predict")
    assert_error(response, 405, "method is not allowed")
    assert response.headers["allow"] == "POST"
    name = client.get("/model").json()["name"]
    for path in (f"/v1/models/{name}:predict", f"/v1/models/{name}/versions/1:predict"):
        response = client.get(path)
        assert_error(response, 405, "method is not allowed")
        assert response.headers["allow"] == "POST"


def test_metrics_are_labelled_by_route_and_never_by_path(client):
    client.get("/nothing-of-this-name")
    client.post("/v1/models/unknown-model:predict", data=b"{}")
    client.post("/predict", files=form(png()))
    text = client.get("/metrics").text
    assert re.search(r'cifar10_requests_total{method="POST",route="/predict",status="200"} [1-9]', text)
    assert re.search(
        r'cifar10_requests_total{method="POST",route="/v1/models/{name}:predict",status="404"} [1-9]', text
    )
    assert re.search(r'cifar10_request_seconds_count{route="/predict"} [1-9]', text)
    assert 'cifar10_model{name="airbench94",version="1"} 1.0' in text
    assert ("process_resident_memory_bytes" in text) == Path("/proc").exists()
    assert "nothing-of-this-name" not in text
    assert "unknown-model" not in text


def test_openapi_describes_errors_and_bodies(client):
    schema = client.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status in ("4XX", "503"):
                error = operation["responses"][status]["content"]["application/json"]["schema"]
                assert error == {"$ref": "#/components/schemas/ErrorResponse"}, path
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["properties"]["images"]["items"]["format"] == "binary"
    assert "422" not in json.dumps(schema["paths"])


@pytest.mark.parametrize("path", ["/v1/models/airbench94:predict", "/v2/models/airbench94/infer"])
def test_the_examples_of_the_documentation_work(client, path):
    schema = client.get("/openapi.json").json()
    body = schema["paths"][path.replace("airbench94", "{name}")]["post"]["requestBody"]["content"]["application/json"]
    assert client.post(path, json=body["example"]).status_code == 200


def test_without_a_model_the_service_is_live_but_not_ready(tmp_path):
    with serving(tmp_path) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/").status_code == 200
        for path in ("/health/ready", "/model", "/samples/0", "/v1/models/a", "/v2/models/a", "/v2/health/ready"):
            response = client.get(path)
            assert_error(response, 503, "No model is loaded")
            assert response.headers["retry-after"] == "1"
        assert_error(client.post("/predict", files=form(png())), 503, "No model is loaded")


def test_an_unexpected_error_is_logged_and_its_details_are_not_sent(export_folder, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("cifar10.serving.routes._predict", fail)
    with serving(export_folder) as client:
        response = client.post("/predict", files=form(png()))
    assert_error(response, 500, "Internal server error")
    assert "secret" not in response.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_every_prediction_is_from_the_model_it_names_while_newer_exports_appear(tmp_path):
    """Each version has its own temperature, which identifies its probabilities."""
    temperatures = {version: 1 + version / 4 for version in range(1, 6)}
    write_export(tmp_path, temperature=temperatures[1])
    responses, done = [], threading.Event()

    def send_requests():
        with Client(client.url) as own:
            while not done.is_set():
                responses.append(own.post("/predict", files=form(png())))

    with serving(tmp_path) as client:
        threads = [threading.Thread(target=send_requests) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for version, temperature in temperatures.items():
                if version > 1:
                    exported_at = f"2027-01-0{version}T00:00:00Z"
                    write_export(tmp_path, version=version, exported_at=exported_at, temperature=temperature)
                wait_for(lambda version=version: responses and responses[-1].json()["model"]["version"] == version)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert {response.status_code for response in responses} == {200}
    probabilities = {}
    for response in map(requests.Response.json, responses):
        version = response["model"]["version"]
        probabilities.setdefault(version, set()).add(response["predictions"][0]["probability"])
    assert probabilities.keys() == temperatures.keys()
    logits = np.array([255 * 0.02, *[0.0] * 9])
    for version, values in probabilities.items():
        powers = np.exp(logits / temperatures[version])
        assert list(values) == pytest.approx([powers[0] / powers.sum()], rel=1e-5)


def test_requests_beyond_the_concurrency_limit_are_rejected(export_folder, paused_predictions):
    with serving(export_folder, max_concurrent_requests=2) as client:
        with concurrent_requests(client, 2) as responses:
            for response in (client.post("/predict", files=form(png())), client.post("/v1/models/airbench94:predict")):
                assert_error(response, 503, "Too many concurrent requests")
                assert response.headers["retry-after"] == "1"
            assert client.get("/health/ready").status_code == 200
            paused_predictions.set()
        assert [response.status_code for response in responses] == [200, 200]
        assert client.post("/predict", files=form(png())).status_code == 200


def test_post_requests_without_a_body_count_as_concurrent(export_folder):
    with serving(export_folder, max_concurrent_requests=1, timeout_seconds=60) as client:
        path = b"/v1/models/airbench94:predict"
        with open_connection(client, b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"):
            wait_for(lambda: client.post(path.decode()).status_code == 503)
        wait_for(lambda: client.post(path.decode()).status_code == 400)


def test_a_prediction_that_takes_too_long_times_out(export_folder, paused_predictions):
    with serving(export_folder, timeout_seconds=0.3) as client:
        assert_error(client.post("/predict", files=form(png())), 503, "busy and the request timed out")
        paused_predictions.set()
        wait_for(lambda: client.post("/predict", files=form(png())).status_code == 200)


def test_the_total_size_of_buffered_bodies_is_limited(tmp_path):
    write_export(tmp_path)
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n"
    with serving(tmp_path, max_body_bytes=600_000, max_buffered_bytes=1_000_000) as client:
        with open_connection(client, head + bytes(550_000)):  # the rest never arrives
            wait_for(lambda: client.post("/predict", files=form(bytes(550_000))).status_code == 503)
            assert_error(client.post("/predict", files=form(bytes(550_000))), 503, "Too much data is being uploaded")
        assert client.post("/predict", files=form(png())).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/v1/models/airbench94:predict", "/v2/models/airbench94/infer"])
@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity", None])
def test_a_compressed_body_is_rejected(client, path, encoding):
    headers = {"content-type": "application/json", **({"content-encoding": encoding} if encoding else {})}
    response = client.post(path, data=gzip.compress(b'{"instances": []}'), headers=headers)
    assert_error(response, 415, "body is compressed; send it uncompressed")
    assert response.headers["accept-encoding"] == "identity"


def test_an_answer_to_a_whole_request_is_sent_at_once(client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"
    start = time.monotonic()
    with open_connection(client, head + bytes(9)) as connection:
        while connection.recv(1000):
            pass
    assert time.monotonic() - start < DISCARD_SECONDS / 2


def test_a_body_whose_encoding_is_none_is_accepted(client):
    request = requests.Request("POST", f"{client.url}/predict", {"content-encoding": "identity"}, form(png()))
    assert client.send(client.prepare_request(request)).status_code == 200


def test_a_large_body_is_rejected_while_it_arrives(client):
    assert_error(client.post("/predict", data=bytes(6_000_000)), 413, "limit is 5,000,000 bytes")
    chunked = (bytes(100_000) for _ in range(500))
    assert_error(client.post("/predict", data=chunked), 413, "limit is 5,000,000 bytes")
    assert client.get("/health/live").status_code == 200


def test_a_large_content_length_is_rejected_before_the_body_arrives(client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n"
    with open_connection(client, head) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_other_tasks_run_while_a_form_is_parsed(export_folder):
    """A form that consists of the beginnings of boundaries takes long to parse."""
    body = b"--x\r\nContent-Disposition: form-data; name=images; filename=a\r\n\r\n" + b"\r\n--xA" * 400_000
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    statuses, turns = [], 0

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def send_request():
        repository = Repository(export_folder)
        repository.watch()
        other = asyncio.create_task(count_turns())
        await create_app(repository, Limits())(scope, receive, send)
        other.cancel()
        repository.stop()

    asyncio.run(send_request())
    assert statuses[0] == 400
    assert turns > len(body) / 100_000
