"""What holds for every route, and what the service does when it is busy, has no model, or meets a hostile client."""

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import requests

from cifar10.serving import app as service
from cifar10.serving import connection
from cifar10.serving.limits import Limits
from cifar10.serving.repository import Repository
from tests.serving.conftest import Client, form, png, serving, wait_for, write_export
from tests.serving.test_predict import refused

SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def test_importing_the_service_loads_nothing_of_training():
    loaded = ["tensorflow", "keras", "kedro", "pandas", "sklearn", "scipy", "matplotlib"]
    code = f"import sys, cifar10.serving.cli, cifar10.serving.app; print([m for m in {loaded} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_answer_has_safe_headers(client):
    for path in ("/", "/model", "/samples/0", "/health/live", "/metrics", "/openapi.json", "/nothing"):
        answer = client.get(path)
        assert SAFE.items() <= dict(answer.headers).items(), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    docs = client.get("/docs")
    assert docs.status_code == 200
    assert SAFE.items() <= dict(docs.headers).items()
    assert "content-security-policy" not in docs.headers


def test_the_policy_lets_the_page_run_its_own_script_and_style(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    directives = dict(each.split(" ", 1) for each in page.headers["content-security-policy"].split("; "))
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", directives["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", directives["style-src"])


def test_the_model_and_its_samples_are_described(client):
    model = client.get("/model").json()
    assert (model["name"], model["version"], model["accuracy"]) == ("airbench94", 1, 0.928)
    assert (model["most_pictures"], model["most_bytes"], model["most_pixels"]) == (16, 5_000_000, 4_000_000)
    assert model["samples"] == [f"/samples/{index}" for index in range(10)]
    for index, path in enumerate(model["samples"]):
        answer = client.get(path)
        assert (answer.content, answer.headers["content-type"]) == (png((25 * index, 0, 0)), "image/png")


@pytest.mark.parametrize("path", ["/samples/10", "/samples/x", "/samples/-1", "/samples/²", "/samples/" + "1" * 5000])
def test_a_sample_that_is_none(client, path):
    refused(client.get(path), 404, "no such sample")


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/..%2f..%2fetc/passwd", "/samples/..%2f..%2fmodel_card.json", "/model/"]
)
def test_no_path_reaches_the_disk(client, path):
    refused(client.get(path), 404, "There is no")


def test_a_wrong_method_is_told(client):
    answer = client.get("/predict")
    refused(answer, 405, "method")
    assert answer.headers["allow"] == "POST"


def test_metrics_count_by_route_and_never_by_path(client):
    client.get("/nothing-of-this-name")
    client.post("/v1/models/nobody-knows:predict", data=b"{}")
    client.post("/predict", files=form(png()))
    text = client.get("/metrics").text
    assert re.search(r'cifar10_requests_total{method="POST",route="/predict",status="200"} [1-9]', text)
    assert re.search(
        r'cifar10_requests_total{method="POST",route="/v1/models/{name}:predict",status="404"} [1-9]', text
    )
    assert re.search(r'cifar10_request_seconds_count{route="/predict"} [1-9]', text)
    assert 'cifar10_model{name="airbench94",version="1"} 1.0' in text
    assert "process_resident_memory_bytes" in text
    assert "nothing-of-this-name" not in text
    assert "nobody-knows" not in text


def test_openapi_describes_errors_and_bodies(client):
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status in ("4XX", "503"):
                schema = operation["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Error"}, path
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert body["schema"]["properties"]["images"]["items"]["format"] == "binary"
    assert "422" not in json.dumps(document["paths"])


@pytest.mark.parametrize("path", ["/v1/models/airbench94:predict", "/v2/models/airbench94/infer"])
def test_the_examples_of_the_documentation_work(client, path):
    document = client.get("/openapi.json").json()
    body = document["paths"][path.replace("airbench94", "{name}")]["post"]["requestBody"]["content"]["application/json"]
    assert client.post(path, json=body["example"]).status_code == 200


def test_without_a_model_it_is_live_but_not_ready(tmp_path):
    with serving(tmp_path) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/").status_code == 200
        for path in ("/health/ready", "/model", "/samples/0", "/v1/models/a", "/v2/models/a", "/v2/health/ready"):
            answer = client.get(path)
            refused(answer, 503, "no model yet")
            assert answer.headers["retry-after"] == "1"
        refused(client.post("/predict", files=form(png())), 503, "no model yet")


def test_what_nobody_foresaw_is_answered_without_a_trace(export_folder, monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service, "_predict", fail)
    with serving(export_folder) as client:
        answer = client.post("/predict", files=form(png()))
    refused(answer, 500, "Something went wrong here")
    assert "secret" not in answer.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_every_answer_is_that_of_the_model_it_names_while_newer_ones_come(tmp_path):
    """Each version has a temperature of its own, by which its answers are told."""
    temperatures = {version: 1 + version / 4 for version in range(1, 6)}
    write_export(tmp_path, temperature=temperatures[1])
    answers, done = [], threading.Event()

    def ask_on():
        with Client(client.url) as own:
            while not done.is_set():
                answers.append(own.post("/predict", files=form(png())))

    with serving(tmp_path) as client:
        threads = [threading.Thread(target=ask_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for version in temperatures:
                if version > 1:
                    write_export(
                        tmp_path, version=version, exported_at=f"2027-01-0{version}T00:00:00Z",
                        temperature=temperatures[version],
                    )  # fmt: skip
                wait_for(lambda version=version: answers and answers[-1].json()["model"]["version"] == version)
        finally:
            done.set()
            for thread in threads:
                thread.join()
    assert {answer.status_code for answer in answers} == {200}
    seen = {}
    for answer in map(requests.Response.json, answers):
        seen.setdefault(answer["model"]["version"], set()).add(answer["predictions"][0]["probability"])
    assert seen.keys() == temperatures.keys()
    logits = np.array([255 * 0.02, *[0.0] * 9])
    for version, probabilities in seen.items():
        powers = np.exp(logits / temperatures[version])
        assert list(probabilities) == pytest.approx([powers[0] / powers.sum()], rel=1e-5)


@pytest.fixture
def held_up(monkeypatch):
    """No picture is answered until this event is set."""
    released, answer = threading.Event(), service._predict

    def predict(*arguments):
        assert released.wait(30)
        return answer(*arguments)

    monkeypatch.setattr(service, "_predict", predict)
    yield released
    released.set()


@contextlib.contextmanager
def waiting(client, count):
    """So many requests that are in progress; their answers come into the list that it gives."""
    answers = []

    def ask():
        with Client(client.url) as own:
            answers.append(own.post("/predict", files=form(png())))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_for(lambda: f"cifar10_in_progress {count + 1}.0" in client.get("/metrics").text)  # and this one
    yield answers
    for thread in threads:
        thread.join()


def test_when_too_many_wait_the_next_is_sent_away(export_folder, held_up):
    with serving(export_folder, most_waiting=2) as client:
        with waiting(client, 2) as answers:
            for answer in (client.post("/predict", files=form(png())), client.post("/v1/models/airbench94:predict")):
                refused(answer, 503, "Too many requests are waiting")
                assert answer.headers["retry-after"] == "1"
            assert client.get("/health/ready").status_code == 200
            held_up.set()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert client.post("/predict", files=form(png())).status_code == 200


def test_requests_without_a_body_wait_like_others(export_folder):
    with serving(export_folder, most_waiting=1, seconds=60) as client:
        path = b"/v1/models/airbench94:predict"
        with talk(client, b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"):
            wait_for(lambda: client.post(path.decode()).status_code == 503)
        wait_for(lambda: client.post(path.decode()).status_code == 400)


def test_what_waits_too_long_is_sent_away(export_folder, held_up):
    with serving(export_folder, seconds=0.3) as client:
        refused(client.post("/predict", files=form(png())), 503, "too busy to answer in time")
        held_up.set()
        wait_for(lambda: client.post("/predict", files=form(png())).status_code == 200)


def test_bodies_together_are_bounded(tmp_path):
    write_export(tmp_path)
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n"
    with serving(tmp_path, most_bytes=600_000, most_held_bytes=1_000_000) as client:
        with talk(client, head + bytes(550_000)):  # and the rest does not come
            wait_for(lambda: client.post("/predict", files=form(bytes(550_000))).status_code == 503)
            refused(client.post("/predict", files=form(bytes(550_000))), 503, "Too much has been sent")
        assert client.post("/predict", files=form(png())).status_code == 200


def test_a_large_body_is_refused_while_it_comes(client):
    refused(client.post("/predict", data=bytes(6_000_000)), 413, "up to 5,000,000 bytes")
    chunked = (bytes(100_000) for _ in range(500))
    refused(client.post("/predict", data=chunked), 413, "up to 5,000,000 bytes")
    assert client.get("/health/live").status_code == 200


def test_an_announced_size_is_refused_before_anything_comes(client):
    with talk(
        client, b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n"
    ) as s:
        assert s.recv(100).startswith(b"HTTP/1.1 413")


def test_a_slow_body_is_given_up(tmp_path):
    write_export(tmp_path)
    with serving(tmp_path, seconds=0.2) as client:
        begun = time.monotonic()
        with talk(client, b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nslow") as s:
            answer = s.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"did not arrive whole within 0.2 seconds" in answer
        assert time.monotonic() - begun < 2


@contextlib.contextmanager
def talk(client, content):
    host, port = client.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as s:
        s.sendall(content)
        yield s


@pytest.mark.parametrize(
    "content",
    [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost a\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"],
)
def test_what_is_no_http_is_told(client, content):
    with talk(client, content) as s:
        answer = s.recv(10_000).decode()
    assert answer.startswith("HTTP/1.1 400")
    assert json.loads(answer.split("\r\n\r\n")[1]) == {"error": "Invalid HTTP request received."}


def test_a_head_without_an_end_is_cut_off(client):
    with talk(client, b"GET / HTTP/1.1\r\n") as s:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                s.sendall(b"a: " + b"b" * 10_000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert s.recv(10_000).startswith(b"HTTP/1.1 400")
            assert s.recv(1) == b""
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_a_head_that_does_not_come_is_not_waited_for(client, content, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    with talk(client, content) as s:
        assert s.recv(100) == b""


def test_an_answer_may_take_longer_than_a_head(export_folder, held_up, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    with serving(export_folder) as client:
        with waiting(client, 1) as answers:
            time.sleep(1)
            held_up.set()
        assert [answer.status_code for answer in answers] == [200]


def test_trailers_without_an_end_are_cut_off(client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with talk(client, head + b"1\r\na\r\n0\r\n") as s:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 20_000_000:
                sent += s.send(b"a: " + b"b" * 10_000 + b"\r\n")
        assert sent < 20_000_000
    assert client.get("/health/live").status_code == 200


def test_a_body_may_come_in_small_chunks(client):
    request = requests.Request("POST", client.url, files=form(png())).prepare()
    pieces = (request.body[at : at + 8] for at in range(0, len(request.body), 8))
    kind = {"content-type": request.headers["content-type"]}
    assert client.post("/predict", data=pieces, headers=kind).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/nothing"])
def test_head_is_answered_as_get_without_the_body(client, path):
    answer, full = client.head(path), client.get(path)
    assert (answer.status_code, answer.content) == (full.status_code, b"")
    assert answer.headers["content-length"] == full.headers["content-length"]


def test_a_connection_serves_one_request_after_another(client):
    one = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    with talk(client, one * 3) as s:
        received = b""
        while received.count(b'{"status":"live"}') < 3:
            piece = s.recv(10_000)
            assert piece
            received += piece


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_an_offer_to_upgrade_is_not_taken_up(client, framing, pieces):
    """As Java's clients send it with the first request of a connection: HTTP/1.1 goes on, with the body."""
    body = json.dumps({"instances": np.zeros((1, 32, 32, 3), int).tolist()}).encode()
    length = b"Content-Length: %d" % len(body)
    if framing == "chunked":
        length, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /v1/models/airbench94:predict HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    content = head + b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n" + length + b"\r\n\r\n" + body
    content += b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    content += b"GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    size = -(-len(content) // pieces)
    with talk(client, b"") as s:
        for start in range(0, len(content), size):
            s.sendall(content[start : start + size])
            time.sleep(0.01)
        received = b"".join(iter(lambda: s.recv(100_000), b""))
    assert received.count(b"HTTP/1.1 200 OK") == 3
    for part in (b'{"predictions":[[', b'{"status":"live"}', b'{"status":"ready"}'):
        assert received.count(part) == 1


def test_a_tunnel_is_refused(client):
    for target in (b"a:443", b"/"):
        with talk(client, b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") as s:
            assert s.recv(10_000).startswith(b"HTTP/1.1 400")


def test_requests_do_not_pile_up_in_a_connection(client):
    """Such a client is cut off, before what it sends fills the memory; what others ask for is answered."""
    sent = 0
    with talk(client, b"") as s, contextlib.suppress(ConnectionError):
        while sent < 20_000_000:
            sent += s.send(b"GET / HTTP/1.1\r\n\r\n" * 5000)
    assert sent < 20_000_000
    assert client.get("/health/live").status_code == 200


def test_a_client_that_does_not_read_is_cut_off(export_folder, monkeypatch):
    """Its request would keep others from waiting."""
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)
    content = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"POST /v1/models/a:predict HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(export_folder, most_waiting=1) as client, socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = client.url.removeprefix("http://").split(":")
        s.connect((host, int(port)))
        s.settimeout(0.2)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                s.sendall(content)
        wait_for(lambda: client.post("/predict", files=form(png())).status_code == 200)
        wait_for(lambda: "cifar10_in_progress 1.0" in client.get("/metrics").text)


def test_others_have_their_turn_while_a_form_is_read(export_folder):
    """One of nothing but beginnings of boundaries takes long."""
    body = b"--x\r\nContent-Disposition: form-data; name=images; filename=a\r\n\r\n" + b"\r\n--xA" * 400_000
    headers = [(b"content-type", b"multipart/form-data; boundary=x"), (b"content-length", str(len(body)).encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    status, turns = [], 0

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        status.append(message.get("status"))

    async def take_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def ask():
        repository = Repository(export_folder)
        repository.watch()
        others = asyncio.create_task(take_turns())
        await service.create_app(repository, Limits())(scope, receive, send)
        others.cancel()
        repository.stop()

    asyncio.run(ask())
    assert status[0] == 400
    assert turns > len(body) / 100_000


def test_a_client_that_leaves_harms_nobody(client):
    for _ in range(20):
        with talk(client, b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"):
            pass
    assert client.post("/predict", files=form(png())).status_code == 200
    # The last of them may be noticed a moment after the answer.
    wait_for(lambda: "cifar10_in_progress 1.0" in client.get("/metrics").text)
