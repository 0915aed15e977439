"""Images as JSON arrays, as clients of TensorFlow Serving and of Open Inference servers send them."""

import json
import re

import numpy as np
import pytest

from tests.helpers import PROJECT
from tests.serving.conftest import TEMPERATURE, form, png
from tests.serving.test_predict import assert_error

V1 = "/v1/models/airbench94:predict"
V2 = "/v2/models/airbench94/infer"


def red(count=1):
    images = np.zeros((count, 32, 32, 3))
    images[..., 0] = 255
    return images


def infer_request(images, **fields):
    tensor = {"name": "images", "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
    return {"inputs": [{**tensor, **fields}]}


def test_example_of_the_docs_gets_the_same_answer_from_both(client, tmp_path, monkeypatch):
    _, code = re.findall(r"```python\n(.*?)```", (PROJECT / "docs/serving.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "cat.jpg").write_bytes(png((255, 0, 0), size=(48, 40)))
    answers = {}
    exec(code.replace("http://127.0.0.1:8000", client.url), answers)
    assert sum(answers["v1"]) == pytest.approx(1, abs=1e-5)
    assert answers["v1"] == pytest.approx(answers["v2"], abs=1e-6)
    assert answers["v1"] == pytest.approx(client.post(V1, json={"instances": red().tolist()}).json()["predictions"][0])


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"instances": red(2).tolist()}, "predictions"),
        ({"instances": red(2).astype(int).tolist(), "signature_name": "serving_default"}, "predictions"),
        ({"instances": red(2).tolist(), "signature_name": ""}, "predictions"),
        ({"instances": [{"images": each} for each in red(2).tolist()]}, "predictions"),
        ({"inputs": red(2).tolist()}, "outputs"),
        ({"inputs": {"images": red(2).tolist()}}, "outputs"),
    ],
)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_tensorflow_serving_row_and_columnar_format(client, body, key, version):
    response = client.post(f"/v1/models/airbench94{version}:predict", json=body)
    assert response.status_code == 200, response.text
    assert response.json().keys() == {key}
    probabilities = np.array(response.json()[key])
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities, uncalibrated(), rtol=1e-5)


def uncalibrated():
    """The tiny network's probabilities of two red images, not calibrated."""
    powers = np.exp(np.array([0.02 * 255] + [0] * 9))
    return np.tile(powers / powers.sum(), (2, 1))


def test_the_content_type_is_optional(client):
    assert client.post(V1, data=json.dumps({"instances": red().tolist()})).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [{}, {"data": red(2).tolist()}, {"parameters": {"binary_data_output": False}}],
    ids=["flat", "nested", "parameters"],
)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_open_inference_tensors(client, fields, version):
    body = infer_request(red(2), **fields)
    outputs = [{"name": "probabilities", "parameters": {"binary_data": True}}]  # a permission, which tritonclient gives
    body.update({"id": "7", "parameters": {"a": 1}, "outputs": outputs})
    response = client.post(f"/v2/models/airbench94{version}/infer", json=body)
    assert response.status_code == 200, response.text
    result = response.json()
    assert (result["model_name"], result["model_version"], result["id"]) == ("airbench94", "1", "7")
    (output,) = result["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 10])
    np.testing.assert_allclose(np.reshape(output["data"], (2, 10)), uncalibrated(), rtol=1e-5)


def test_a_request_without_an_id_gets_none_back(client):
    assert "id" not in client.post(V2, json=infer_request(red())).json()


def test_open_inference_metadata(client):
    assert client.get("/v1/models/airbench94").json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert client.get("/v2").json()["name"] == "cifar10-serve"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/airbench94/ready").json() == {"name": "airbench94", "ready": True}
    metadata = client.get("/v2/models/airbench94/versions/1").json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 32, 32, 3]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


def as_json(value):
    return json.dumps(value).encode()


SHARED_MEMORY = {"shared_memory_region": "a", "shared_memory_byte_size": 40}

INVALID = {
    "empty": (V1, b"", 400, "not valid JSON"),
    "invalid JSON": (V1, b"{instances: 1}", 400, "not valid JSON"),
    "truncated": (V1, as_json({"instances": red().tolist()})[:-9], 400, "not valid JSON"),
    "invalid UTF-8": (V1, b'{"instances": "\xff"}', 400, "not valid JSON"),
    "NaN": (V1, as_json({"instances": np.full((1, 32, 32, 3), np.nan).tolist()}), 400, "not valid JSON"),
    "Infinity": (V2, as_json(infer_request(np.full((1, 32, 32, 3), np.inf))), 400, "not valid JSON"),
    "overflow": (V2, as_json(infer_request(red())).replace(b"255.0", b"1e999", 1), 400, "data.0: .*finite"),
    "a huge integer": (V2, as_json(infer_request(red())).replace(b"255.0", b"9" * 4000, 1), 400, "data.0"),
    "a list": (V1, b"[1]", 400, "not a JSON object"),
    "deep nesting": (V1, b'{"instances":' + b"[" * 100_000, 400, "not valid JSON"),
    "neither key": (V1, b"{}", 400, "either instances"),
    "both keys": (V1, as_json({"instances": red().tolist(), "inputs": red().tolist()}), 400, "either instances"),
    "no images": (V1, b'{"instances": []}', 400, "invalid at instances: .*at least 1"),
    "a number": (V1, b'{"instances": 5}', 400, "invalid at instances: .*list"),
    "numbers": (V1, b'{"instances": [1, 2]}', 400, r"invalid at instances: its shape is \[2\]"),
    "one image": (V1, as_json({"instances": red()[0].tolist()}), 400, r"shape is \[32, 32, 3\], .* image in a list"),
    "one column": (V1, as_json({"inputs": red()[0].tolist()}), 400, r"shape is \[32, 32, 3\], .* image in a list"),
    "a list too many": (V1, as_json({"instances": [red().tolist()]}), 400, r"shape is \[1, 1, 32, 32, 3\], the model"),
    "channels first": (V1, as_json({"inputs": np.zeros((1, 3, 32, 32)).tolist()}), 400, r"shape is \[1, 3, 32, 32\]"),
    "flat images": (V1, as_json({"instances": np.zeros((20, 3072), int).tolist()}), 400, r"shape is \[20, 3072\]"),
    "strings": (V1, as_json({"instances": red().astype(str).tolist()}), 400, r"instances.0.0.0.0: .*number"),
    "booleans": (V1, as_json({"instances": red().astype(bool).tolist()}), 400, r"instances.0.0.0.0: .*number"),
    "33 rows": (V1, as_json({"instances": np.zeros((1, 33, 32, 3)).tolist()}), 400, r"shape is \[1, 33, 32, 3\]"),
    "ragged": (V1, as_json({"instances": [[[[1, 2, 3]] * 32] * 31 + [[[1, 2, 3]] * 9]]}), 400, r"instances.0.31"),
    "one channel": (V1, as_json({"instances": np.zeros((1, 32, 32, 1)).tolist()}), 400, r"shape is \[1, 32, 32, 1\]"),
    "below 0": (V1, as_json({"instances": (red() - 1).tolist()}), 400, "greater than or equal to 0"),
    "above 255": (V1, as_json({"instances": (red() + 1).tolist()}), 400, "less than or equal to 255"),
    "another input": (V1, as_json({"instances": [{"image": red()[0].tolist()}]}), 400, "only input is images"),
    "mixed rows": (V1, as_json({"instances": [{"images": red()[0].tolist()}, 5]}), 400, "only input is images"),
    "17 instances": (V1, as_json({"instances": red(17).astype(int).tolist()}), 413, "limited to 16"),
    "Keras's signature": (V1, as_json({"instances": red().tolist(), "signature_name": "serve"}), 400, "signature_name"),
    "another signature": (V1, as_json({"instances": red().tolist(), "signature_name": "x"}), 400, "signature_name"),
    "too large": (V1, as_json({"instances": "1" * 2_000_000}), 413, "JSON is limited to 2,000,000 bytes"),
    "no inputs": (V2, b'{"inputs": []}', 400, "invalid at inputs: .*at least 1"),
    "two inputs": (V2, as_json({"inputs": infer_request(red())["inputs"] * 2}), 400, "invalid at inputs: .*at most 1"),
    "no shape": (V2, b'{"inputs": [{"name": "images", "datatype": "FP32", "data": []}]}', 400, "inputs.0.shape"),
    "another name": (V2, as_json(infer_request(red(), name="x")), 400, "only input is images"),
    "another datatype": (V2, as_json(infer_request(red(), datatype="UINT8")), 400, "expects FP32"),
    "another shape": (V2, as_json(infer_request(red(), shape=[1, 3, 32, 32])), 400, "shape: the model expects"),
    "an empty shape": (V2, as_json(infer_request(red(), shape=[])), 400, "shape: the model expects"),
    "a huge shape": (V2, as_json(infer_request(red(), shape=[10**9, 32, 32, 3])), 413, "limited to 16"),
    "a negative shape": (V2, as_json(infer_request(red(), shape=[-1, 32, 32, 3])), 400, "inputs.0.shape.0"),
    "a wrong flat shape": (V2, as_json(infer_request(red(), shape=[2, 32, 32, 3])), 400, r"its shape \[2, 32, 32, 3\]"),
    "a wrong nested shape": (
        V2,
        as_json(infer_request(red(), shape=[2, 32, 32, 3], data=red().tolist())),
        400,
        r"length 1, .* its shape \[2, 32, 32, 3\]",
    ),
    "one nested image": (V2, as_json(infer_request(red(), data=red()[0].tolist())), 400, "image in a list"),
    "no data": (V2, as_json(infer_request(red(), data=[])), 400, "has 0 values"),
    "17 images": (V2, as_json(infer_request(red(17).astype(int))), 413, "limited to 16"),
    "another output": (V2, as_json({**infer_request(red()), "outputs": [{"name": "logits"}]}), 400, "only output"),
    "a classification": (
        V2,
        as_json({**infer_request(red()), "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}]}),
        400,
        "outputs.0.parameters: classification is not supported",
    ),
    "shared memory": (
        V2,
        as_json({**infer_request(red()), "outputs": [{"name": "probabilities", "parameters": SHARED_MEMORY}]}),
        400,
        "outputs.0.parameters: shared_memory_region is not supported",
    ),
    "an invalid id": (V2, as_json({**infer_request(red()), "id": [1]}), 400, "invalid at id"),
    "another model": ("/v1/models/other:predict", as_json({"instances": []}), 404, "no model with this name"),
    "another version": ("/v1/models/airbench94/versions/2:predict", b"", 404, "only version 1"),
    "an invalid version": ("/v2/models/airbench94/versions/x/infer", b"", 404, "only version 1"),
    "a path": ("/v2/models/..%2F..%2Fetc/infer", b"", 404, ""),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_body_is_rejected(client, name):
    path, body, status, message = INVALID[name]
    assert_error(client.post(path, data=body, headers={"content-type": "application/json"}), status, message)


def test_binary_tensors_are_rejected(client):
    response = client.post(V2, data=b"{}", headers={"inference-header-content-length": "2"})
    assert_error(response, 400, "Binary tensors")


def test_both_protocols_and_predict_agree(client):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    v1 = client.post(V1, json={"instances": images.tolist()}).json()["predictions"][0]
    v2 = client.post(V2, json=infer_request(images)).json()["outputs"][0]["data"]
    assert v1 == v2
    image = png(tuple(int(each) for each in images[0, 0, 0]))
    uniform = np.broadcast_to(images[:, :1, :1], images.shape)
    probabilities = client.post(V1, json={"instances": uniform.tolist()}).json()["predictions"][0]
    calibrated = client.post("/predict", files=form(image)).json()["predictions"][0]["probabilities"]
    expected = np.array(probabilities) ** (1 / TEMPERATURE)
    np.testing.assert_allclose(list(calibrated.values()), expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("path", ["/v1/models/airbench94/metadata", "/v1/models/airbench94/versions/1/metadata"])
def test_tensorflow_serving_metadata_matches_the_saved_model(client, path):
    metadata = client.get(path).json()
    assert metadata["model_spec"] == {"name": "airbench94", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    images, probabilities = signature["inputs"]["images"], signature["outputs"]["probabilities"]
    for tensor, shape in ((images, [-1, 32, 32, 3]), (probabilities, [-1, 10])):
        assert tensor["dtype"] == "DT_FLOAT"
        assert [int(each["size"]) for each in tensor["tensor_shape"]["dim"]] == shape
