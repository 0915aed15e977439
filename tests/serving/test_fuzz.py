"""Requests that nobody would send but somebody will: none may end in anything but an answer or a 4xx, or a 503."""

import collections
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.serving.conftest import form, png, server, write_export
from tests.serving.test_predict import BOUNDARY, GOOD, PART
from tests.serving.test_protocols import V1, V2, red, tensor

pytestmark = pytest.mark.slow
REQUESTS = int(os.environ.get("CIFAR10_FUZZ_REQUESTS", "20000"))  # in all, up to half of them by schemathesis
MOST_MEGABYTES = 250
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
PLACES = 12  # that change in a request at most
TEXTS = (b"NaN", b"1e999", b"null", b"[[", b"]]", b"{}", b'"', b"-", b"9" * 400, b"\xff", b"\\ud800", b",", b"true")


def test_fuzz(tmp_path):
    write_export(tmp_path)
    with server(tmp_path) as running:
        client = running.client()
        from_the_document(running.url, len(client.get("/openapi.json").json()["paths"]), tmp_path)
        first = answers(client)
        print(f"\nschemathesis: {first.total()} requests, {dict(sorted(first.items()))}, {running.megabytes():.0f} MB")
        highest = mutations(client, REQUESTS - first.total(), running.megabytes)
        every = answers(client)
        others = dict(sorted((every - first).items()))
        print(f"mutated: {sum(others.values())} requests, {others}, {highest:.0f} MB at most")
        assert every.total() >= REQUESTS
        assert {status for status in every if status >= 500} <= {503}
        assert highest < MOST_MEGABYTES
        assert client.post("/predict", files=form(png())).json()["predictions"][0]["answer"] == "airplane"
        assert "Traceback" not in running.log()


def answers(client):
    """Of each status, how many answers there were so far."""
    text = client.get("/metrics").text
    counted = collections.Counter()
    for status, count in re.findall(r'^cifar10_requests_total{.*status="(\d+)"} (\S+)$', text, re.MULTILINE):
        counted[int(status)] += int(float(count))
    return counted


def from_the_document(url, paths, folder):
    """What schemathesis makes of the OpenAPI document, but for arrays: of 3,072 numbers it draws too few a minute."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--mode", "all"),
        *("--exclude-path-regex", ":predict$|infer$", "--max-examples", str(max(10, REQUESTS // 2 // paths))),
        *("--seed", "0", "--generation-database", "none", "--suppress-health-check", "all", "--no-shrink"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def mutations(client, count, megabytes):
    """The most memory that the service took for that many mutated pictures, forms and arrays."""
    generator = np.random.default_rng(0)
    good = list(GOOD.values())
    whole_form = PART * 2 + b"--x--\r\n"
    arrays = [
        (V1, json.dumps({"instances": red().astype(int).tolist()}).encode()),
        (V2, json.dumps(tensor(red().astype(int))).encode()),
        (V2, json.dumps(tensor(red(), data=[1, 2], id="a", outputs=[])).encode()),
        (V1, b'{"inputs": {"images": [[[[1, 2, 3]]]]}, "signature_name": null}'),
    ]
    highest = megabytes()
    for number in range(count):
        kind = generator.integers(10)
        if kind < 6:
            contents = (mutated(good[generator.integers(len(good))], generator) for _ in range(1 + (kind == 0)))
            answer = client.post("/predict", files=form(*contents))
        elif kind < 8:
            answer = client.post("/predict", data=mutated(whole_form, generator), headers={"content-type": BOUNDARY})
        else:
            path, body = arrays[generator.integers(len(arrays))]
            answer = client.post(path, data=mutated(body, generator))
        assert answer.status_code in (200, 400, 413, 415, 503), (number, answer.status_code, answer.text)
        if answer.status_code != 200:
            assert answer.json().keys() == {"error"}
            assert len(answer.json()["error"].splitlines()) == 1, answer.text
        if number % 100 == 0:
            highest = max(highest, megabytes())
    return highest


def mutated(content, generator):
    """Bytes changed, left out, repeated or put in at a few places; now and then cut off, or all at the beginning."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, PLACES)):
        end = min(len(changed), 64) if generator.random() < 0.5 else len(changed)
        at = int(generator.integers(end + 1))
        match generator.integers(6):
            case 0 | 1:
                changed[at : at + 1] = generator.bytes(1)
            case 2:
                del changed[at : at + int(generator.integers(1, 9))]
            case 3:
                changed[at:at] = changed[at : at + int(generator.integers(1, 65))]
            case 4:
                changed[at:at] = TEXTS[generator.integers(len(TEXTS))]
            case 5 if generator.random() < 0.2:
                del changed[at:]
    return bytes(changed)
