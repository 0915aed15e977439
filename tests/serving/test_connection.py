"""`BoundedConnection` over real sockets: limits, pipelining, upgrade requests, and the uvicorn internals it uses."""

import asyncio
import contextlib
import inspect
import json
import socket
import time
from unittest.mock import MagicMock

import numpy as np
import pytest
import requests
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cifar10.serving import connection
from tests.serving.conftest import concurrent_requests, form, open_connection, png, serving, wait_for, write_export

LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
LIVE_BODY = b'{"status":"live"}'
INVALID = [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost a\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"]


def read_all(connection):
    return b"".join(iter(lambda: connection.recv(100_000), b""))


def test_uvicorn_still_has_the_internals_that_are_used():
    callbacks = {
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "pause_writing": [],
        "resume_writing": [],
        "on_message_begin": [],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "send_400_response": ["msg"],
        "_unset_keepalive_if_required": [],
    }
    for name, parameters in callbacks.items():
        assert list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters) == ["self", *parameters], name
    attributes = inspect.getsource(HttpToolsProtocol)
    for name in ("parser", "pipeline", "headers", "url", "loop", "transport"):
        assert f"self.{name}" in attributes, name
    # uvicorn calls this only from the methods that are overridden here.
    assert attributes.count("self.send_400_response(") == 1


def test_a_slow_body_times_out(tmp_path):
    write_export(tmp_path)
    with serving(tmp_path, timeout_seconds=0.2) as client:
        start = time.monotonic()
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nslow"
        with open_connection(client, head) as connection:
            response = connection.recv(10_000)
        assert response.startswith(b"HTTP/1.1 408")
        assert b"did not arrive within 0.2 seconds" in response
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("content", INVALID)
def test_invalid_http_gets_a_json_error(client, content):
    with open_connection(client, content) as connection:
        response = connection.recv(10_000).decode()
    assert response.startswith("HTTP/1.1 400")
    assert json.loads(response.split("\r\n\r\n")[1]) == {"error": "Invalid HTTP request received."}


def test_endless_headers_are_rejected(client):
    with open_connection(client, b"GET / HTTP/1.1\r\n") as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(b"a: " + b"b" * 10_000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(10_000).startswith(b"HTTP/1.1 400")
            assert connection.recv(1) == b""
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_headers_that_do_not_arrive_time_out(client, content, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.1)
    with open_connection(client, content) as s:
        assert s.recv(100) == b""


def test_headers_after_a_first_request_time_out(client, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.3)
    with open_connection(client, LIVE) as s:
        assert LIVE_BODY in s.recv(10_000)
        time.sleep(0.4)  # while a connection is idle, only the keep-alive timeout applies
        s.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert s.recv(100) == b""


def test_a_prediction_may_take_longer_than_the_header_timeout(export_folder, paused_predictions, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.5)
    with serving(export_folder) as client:
        with concurrent_requests(client, 1) as responses:
            time.sleep(1)
            paused_predictions.set()
        assert [response.status_code for response in responses] == [200]


def predict_request(client):
    """The bytes of a request whose prediction is paused with `paused_predictions`."""
    request = requests.Request("POST", f"{client.url}/predict", files=form(png())).prepare()
    headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"POST /predict HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode() + request.body


TOO_LONG = b"a: " + b"b" * connection.MAX_HEADER_BYTES  # a header


@pytest.mark.parametrize("content", [*INVALID, LIVE + INVALID[0], b"GET / HTTP/1.1\r\n" + TOO_LONG])
def test_an_error_is_not_taken_for_the_response_to_an_earlier_request(export_folder, paused_predictions, content):
    with serving(export_folder) as client, open_connection(client, predict_request(client)) as s:
        wait_for(lambda: "cifar10_in_progress 2.0" in client.get("/metrics").text)
        s.sendall(content[: -len(TOO_LONG)])
        time.sleep(0.02)  # the service receives the rest separately
        s.sendall(content[-len(TOO_LONG) :])
        assert read_all(s) == b""
        paused_predictions.set()


def test_headers_do_not_time_out_while_an_earlier_response_is_pending(export_folder, paused_predictions, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.2)
    with serving(export_folder) as client, open_connection(client, predict_request(client)) as s:
        wait_for(lambda: "cifar10_in_progress 2.0" in client.get("/metrics").text)
        s.sendall(LIVE[:20])
        time.sleep(0.6)
        paused_predictions.set()
        assert s.recv(10_000).startswith(b"HTTP/1.1 200")
        assert read_all(s) == b""  # afterwards they do


def test_an_idle_connection_is_closed_but_not_while_a_request_arrives(export_folder):
    """uvicorn's keep-alive timeout starts after a response and ends with the first byte of the next request."""
    with serving(export_folder, keep_alive_seconds=0.3) as client, open_connection(client, LIVE) as s:
        assert LIVE_BODY in s.recv(10_000)
        s.sendall(LIVE[:20])
        time.sleep(0.6)
        s.sendall(LIVE[20:])
        assert LIVE_BODY in s.recv(10_000)
        assert s.recv(100) == b""


def test_endless_trailers_are_cut_off(client):
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with open_connection(client, head + b"1\r\na\r\n0\r\n") as s:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 20_000_000:
                sent += s.send(b"a: " + b"b" * 10_000 + b"\r\n")
        assert sent < 20_000_000
    assert client.get("/health/live").status_code == 200


def test_a_body_may_arrive_in_small_chunks(client):
    request = requests.Request("POST", client.url, files=form(png())).prepare()
    chunks = (request.body[start : start + 8] for start in range(0, len(request.body), 8))
    headers = {"content-type": request.headers["content-type"]}
    assert client.post("/predict", data=chunks, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/nothing"])
def test_head_returns_the_headers_of_get(client, path):
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_pipelined_requests_are_answered_in_order(client):
    ready = LIVE.replace(b"live", b"ready")
    with open_connection(client, LIVE + ready + LIVE) as s:
        received = b""
        while received.count(b'{"status":') < 3:
            chunk = s.recv(10_000)
            assert chunk
            received += chunk
    assert [body.split(b"}")[0] for body in received.split(b'{"status":')[1:]] == [b'"live"', b'"ready"', b'"live"']


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_an_upgrade_request_is_answered_as_plain_http(client, framing, parts):
    """Java's HTTP client sends one with the first request of a connection, with a body."""
    body = json.dumps({"instances": np.zeros((1, 32, 32, 3), int).tolist()}).encode()
    length = b"Content-Length: %d" % len(body)
    if framing == "chunked":
        length, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"POST /v1/models/airbench94:predict HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    content = head + b"Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n" + length + b"\r\n\r\n" + body
    content += b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    content += b"GET /health/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    size = -(-len(content) // parts)
    with open_connection(client) as s:
        for start in range(0, len(content), size):
            s.sendall(content[start : start + size])
            time.sleep(0.01)
        received = read_all(s)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    for part in (b'{"predictions":[[', LIVE_BODY, b'{"status":"ready"}'):
        assert received.count(part) == 1


@pytest.mark.parametrize("headers", [b"Connection: close\r\n", b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n"])
def test_data_after_a_closing_request_does_not_prevent_its_response(client, headers):
    closing = b"GET /health/live HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n"
    with open_connection(client, closing + LIVE) as s, contextlib.suppress(ConnectionError):
        received = b""
        while chunk := s.recv(10_000):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(LIVE_BODY) == 1


def test_connect_is_rejected(client):
    for target in (b"a:443", b"/"):
        with open_connection(client, b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") as s:
            assert s.recv(10_000).startswith(b"HTTP/1.1 400")


def test_the_number_of_pipelined_requests_is_limited(client):
    """A client that exceeds it is disconnected before its requests fill the memory, and others are served."""
    sent = 0
    with open_connection(client) as s, contextlib.suppress(ConnectionError):
        while sent < 20_000_000:
            sent += s.send(b"GET / HTTP/1.1\r\n\r\n" * 5000)
    assert sent < 20_000_000
    assert client.get("/health/live").status_code == 200


def test_a_client_with_too_many_pipelined_requests_gets_no_error_response(client):
    """Its earlier requests are still without a response, which the client would mistake the error for."""
    with open_connection(client, LIVE * 100) as s:
        received = b""
        with contextlib.suppress(ConnectionError):
            while chunk := s.recv(10_000):
                received += chunk
    assert b"HTTP/1.1 400" not in received
    assert received.count(LIVE_BODY) < 100


def test_the_size_of_the_headers_is_limited_for_each_request_anew(client):
    headers = b"GET /health/live HTTP/1.1\r\nHost: a\r\na: " + b"b" * 20_000 + b"\r\n\r\n"
    with open_connection(client) as s:
        for _ in range(5):
            s.sendall(headers[:100])
            time.sleep(0.02)  # the service receives the rest separately
            s.sendall(headers[100:])
            assert LIVE_BODY in s.recv(10_000)


def test_a_client_that_does_not_read_is_disconnected(export_folder, monkeypatch):
    """Otherwise its request would count as concurrent for ever."""
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.3)
    content = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + b"POST /v1/models/a:predict HTTP/1.1\r\nHost: a\r\n\r\n"
    with serving(export_folder, max_concurrent_requests=1) as client, socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = client.url.removeprefix("http://").split(":")
        s.connect((host, int(port)))
        s.settimeout(0.2)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while True:
                s.sendall(content)
        wait_for(lambda: client.post("/predict", files=form(png())).status_code == 200)
        wait_for(lambda: "cifar10_in_progress 1.0" in client.get("/metrics").text)


@pytest.mark.parametrize("ends_with", [None, "resume_writing", "connection_lost"])
def test_a_client_has_limited_time_to_read(monkeypatch, ends_with):
    monkeypatch.setattr(connection, "WRITE_TIMEOUT", 0.1)
    transport = MagicMock()

    async def stall():
        config = uvicorn.Config(MagicMock(), ws="none", log_config=None)
        protocol = connection.BoundedConnection(config, ServerState(), {})
        protocol.connection_made(transport)
        protocol.pause_writing()
        assert protocol.flow.write_paused
        if ends_with == "resume_writing":
            protocol.resume_writing()
            assert not protocol.flow.write_paused
        elif ends_with == "connection_lost":
            protocol.connection_lost(None)
        await asyncio.sleep(0.3)

    asyncio.run(stall())
    assert transport.abort.called == (ends_with is None)


def test_clients_that_disconnect_do_not_affect_others(client):
    for _ in range(20):
        with open_connection(client, b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc"):
            pass
    assert client.post("/predict", files=form(png())).status_code == 200
    # The service may notice the last disconnection a moment after the response.
    wait_for(lambda: "cifar10_in_progress 1.0" in client.get("/metrics").text)
