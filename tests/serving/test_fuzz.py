"""Malformed and random requests: the response must always be a success, a 4xx error or 503."""

import collections
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.serving.conftest import form, png, server, write_export
from tests.serving.test_predict import FORM_TYPE, PART, VALID
from tests.serving.test_protocols import V1, V2, infer_request, red

pytestmark = pytest.mark.slow
REQUESTS = int(os.environ.get("CIFAR10_FUZZ_REQUESTS", "20000"))  # in total; up to half of them by schemathesis
MAX_MEGABYTES = 250
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
)
MAX_EDITS = 12  # per mutated request
SNIPPETS = (b"NaN", b"1e999", b"null", b"[[", b"]]", b"{}", b'"', b"-", b"9" * 400, b"\xff", b"\\ud800", b",", b"true")


def test_fuzz(tmp_path):
    write_export(tmp_path)
    with server(tmp_path) as running:
        client = running.client()
        run_schemathesis(running.url, len(client.get("/openapi.json").json()["paths"]), tmp_path)
        generated = count_statuses(client)
        print(
            f"\nschemathesis: {generated.total()} requests, {dict(sorted(generated.items()))}, "
            f"{running.megabytes():.0f} MB"
        )
        peak = send_mutations(client, REQUESTS - generated.total(), running.megabytes)
        total = count_statuses(client)
        mutated = dict(sorted((total - generated).items()))
        print(f"mutations: {sum(mutated.values())} requests, {mutated}, peak memory {peak:.0f} MB")
        assert total.total() >= REQUESTS
        assert {status for status in total if status >= 500} <= {503}
        assert peak < MAX_MEGABYTES
        assert client.post("/predict", files=form(png())).json()["predictions"][0]["label"] == "airplane"
        assert "Traceback" not in running.log()


def count_statuses(client):
    """Count the responses so far by their status."""
    text = client.get("/metrics").text
    counts = collections.Counter()
    for status, count in re.findall(r'^cifar10_requests_total{.*status="(\d+)"} (\S+)$', text, re.MULTILINE):
        counts[int(status)] += int(float(count))
    return counts


def run_schemathesis(url, paths, folder):
    """Test all routes of the OpenAPI schema except those with arrays: generating 3,072 numbers takes too long."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--mode", "all"),
        *("--exclude-path-regex", ":predict$|infer$", "--max-examples", str(max(10, REQUESTS // 2 // paths))),
        *("--seed", "0", "--generation-database", "none", "--suppress-health-check", "all", "--no-shrink"),
    ]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]


def send_mutations(client, count, megabytes):
    """Send mutated images, forms and arrays, and return the peak memory of the service in MB."""
    generator = np.random.default_rng(0)
    images = list(VALID.values())
    whole_form = PART * 2 + b"--x--\r\n"
    arrays = [
        (V1, json.dumps({"instances": red().astype(int).tolist()}).encode()),
        (V2, json.dumps(infer_request(red().astype(int))).encode()),
        (V2, json.dumps(infer_request(red(), data=[1, 2], id="a", outputs=[])).encode()),
        (V1, b'{"inputs": {"images": [[[[1, 2, 3]]]]}, "signature_name": null}'),
    ]
    peak = megabytes()
    for number in range(count):
        kind = generator.integers(10)
        if kind < 6:
            contents = (mutate(images[generator.integers(len(images))], generator) for _ in range(1 + (kind == 0)))
            response = client.post("/predict", files=form(*contents))
        elif kind < 8:
            body = mutate(whole_form, generator)
            response = client.post("/predict", data=body, headers={"content-type": FORM_TYPE})
        else:
            path, body = arrays[generator.integers(len(arrays))]
            response = client.post(path, data=mutate(body, generator))
        assert response.status_code in (200, 400, 413, 415, 503), (number, response.status_code, response.text)
        if response.status_code != 200:
            assert response.json().keys() == {"error"}
            assert len(response.json()["error"].splitlines()) == 1, response.text
        if number % 100 == 0:
            peak = max(peak, megabytes())
    return peak


def mutate(content, generator):
    """Change, delete, repeat or insert bytes at random positions, half of them near the beginning; rarely truncate."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, MAX_EDITS)):
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
                changed[at:at] = SNIPPETS[generator.integers(len(SNIPPETS))]
            case 5 if generator.random() < 0.2:
                del changed[at:]
    return bytes(changed)
