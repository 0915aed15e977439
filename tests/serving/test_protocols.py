"""Pictures as arrays, as the clients of TensorFlow Serving and of Open Inference servers send them."""

import json

import numpy as np
import pytest

from tests.serving.conftest import form, png
from tests.serving.test_predict import refused

V1 = "/v1/models/airbench94:predict"
V2 = "/v2/models/airbench94/infer"


def red(count=1):
    images = np.zeros((count, 32, 32, 3))
    images[..., 0] = 255
    return images


def tensor(images, **others):
    given = {"name": "images", "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
    return {"inputs": [{**given, **others}]}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"instances": red(2).tolist()}, "predictions"),
        ({"instances": red(2).astype(int).tolist(), "signature_name": "serving_default"}, "predictions"),
        ({"instances": [{"images": each} for each in red(2).tolist()]}, "predictions"),
        ({"inputs": red(2).tolist()}, "outputs"),
        ({"inputs": {"images": red(2).tolist()}}, "outputs"),
    ],
)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_rows_and_columns_of_tensorflow_serving(client, body, key, version):
    answer = client.post(f"/v1/models/airbench94{version}:predict", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {key}
    probabilities = np.array(answer.json()[key])
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities, raw(), rtol=1e-5)


def raw():
    """What the tiny network says of red, not calibrated."""
    powers = np.exp(np.array([0.02 * 255] + [0] * 9))
    return np.tile(powers / powers.sum(), (2, 1))


def test_a_body_without_a_content_type_is_taken(client):
    assert client.post(V1, data=json.dumps({"instances": red().tolist()})).status_code == 200


@pytest.mark.parametrize(
    "others",
    [{}, {"data": red(2).tolist()}, {"parameters": {"binary_data_output": False}}],
    ids=["flat", "nested", "p"],
)
@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_tensors_of_open_inference(client, others, version):
    body = {"id": "7", "parameters": {"a": 1}, "outputs": [{"name": "probabilities"}], **tensor(red(2), **others)}
    answer = client.post(f"/v2/models/airbench94{version}/infer", json=body)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    assert (given["model_name"], given["model_version"], given["id"]) == ("airbench94", "1", "7")
    (output,) = given["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 10])
    np.testing.assert_allclose(np.reshape(output["data"], (2, 10)), raw(), rtol=1e-5)


def test_without_an_id_there_is_none(client):
    assert "id" not in client.post(V2, json=tensor(red())).json()


def test_metadata_says_what_the_model_takes(client):
    assert client.get("/v1/models/airbench94").json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert client.get("/v2").json()["name"] == "cifar10-serve"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/airbench94/ready").json() == {"name": "airbench94", "ready": True}
    metadata = client.get("/v2/models/airbench94/versions/1").json()
    assert metadata["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 32, 32, 3]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]


def dumped(value):
    return json.dumps(value).encode()


BAD = {
    "empty": (V1, b"", 400, "no JSON"),
    "no JSON": (V1, b"{instances: 1}", 400, "no JSON"),
    "cut off": (V1, dumped({"instances": red().tolist()})[:-9], 400, "no JSON"),
    "no UTF-8": (V1, b'{"instances": "\xff"}', 400, "no JSON"),
    "NaN": (V1, dumped({"instances": np.full((1, 32, 32, 3), np.nan).tolist()}), 400, "no JSON"),
    "Infinity": (V2, dumped(tensor(np.full((1, 32, 32, 3), np.inf))), 400, "no JSON"),
    "infinite all the same": (V2, dumped(tensor(red())).replace(b"255.0", b"1e999", 1), 400, "data.0: .*finite"),
    "a huge integer": (V2, dumped(tensor(red())).replace(b"255.0", b"9" * 4000, 1), 400, "data.0"),
    "a list": (V1, b"[1]", 400, "no object"),
    "deep": (V1, b'{"instances":' + b"[" * 100_000, 400, "no JSON"),
    "nothing": (V1, b"{}", 400, "either instances"),
    "both": (V1, dumped({"instances": red().tolist(), "inputs": red().tolist()}), 400, "either instances"),
    "no picture": (V1, b'{"instances": []}', 400, "wrong at instances: .*at least 1"),
    "a number": (V1, b'{"instances": 5}', 400, "wrong at instances: .*list"),
    "numbers": (V1, b'{"instances": [1, 2]}', 400, r"wrong at instances.0: .*list"),
    "text": (V1, dumped({"instances": red().astype(str).tolist()}), 400, r"instances.0.0.0.0: .*number"),
    "truth": (V1, dumped({"instances": red().astype(bool).tolist()}), 400, r"instances.0.0.0.0: .*number"),
    "33 rows": (V1, dumped({"instances": np.zeros((1, 33, 32, 3)).tolist()}), 400, "at most 32"),
    "ragged": (V1, dumped({"instances": [[[[1, 2, 3]] * 32] * 31 + [[[1, 2, 3]] * 9]]}), 400, r"instances.0.31"),
    "grey": (V1, dumped({"instances": np.zeros((1, 32, 32, 1)).tolist()}), 400, "at least 3"),
    "below 0": (V1, dumped({"instances": (red() - 1).tolist()}), 400, "greater than or equal to 0"),
    "above 255": (V1, dumped({"instances": (red() + 1).tolist()}), 400, "less than or equal to 255"),
    "another input": (V1, dumped({"instances": [{"picture": red()[0].tolist()}]}), 400, "one input, images"),
    "mixed rows": (V1, dumped({"instances": [{"images": red()[0].tolist()}, 5]}), 400, "one input, images"),
    "17 rows": (V1, dumped({"instances": red(17).astype(int).tolist()}), 413, "up to 16"),
    "Keras's signature": (V1, dumped({"instances": red().tolist(), "signature_name": "serve"}), 400, "signature_name"),
    "another signature": (V1, dumped({"instances": red().tolist(), "signature_name": "x"}), 400, "signature_name"),
    "too large": (V1, dumped({"instances": "1" * 2_000_000}), 413, "JSON may have"),
    "no inputs": (V2, b'{"inputs": []}', 400, "wrong at inputs: .*at least 1"),
    "two inputs": (V2, dumped({"inputs": tensor(red())["inputs"] * 2}), 400, "wrong at inputs: .*at most 1"),
    "no shape": (V2, b'{"inputs": [{"name": "images", "datatype": "FP32", "data": []}]}', 400, "inputs.0.shape"),
    "another name": (V2, dumped(tensor(red(), name="x")), 400, "one input, images"),
    "another type": (V2, dumped(tensor(red(), datatype="UINT8")), 400, "takes FP32"),
    "another shape": (V2, dumped(tensor(red(), shape=[1, 3, 32, 32])), 400, "shape: the model takes"),
    "a huge shape": (V2, dumped(tensor(red(), shape=[10**9, 32, 32, 3])), 413, "up to 16"),
    "a negative shape": (V2, dumped(tensor(red(), shape=[-1, 32, 32, 3])), 400, "inputs.0.shape.0"),
    "a shape of its own": (V2, dumped(tensor(red(), shape=[2, 32, 32, 3])), 400, "its shape"),
    "a nested shape of its own": (V2, dumped(tensor(red(), shape=[2, 32, 32, 3], data=red().tolist())), 400, "says 2"),
    "no data": (V2, dumped(tensor(red(), data=[])), 400, "has 0 values"),
    "17 pictures": (V2, dumped(tensor(red(17).astype(int))), 413, "up to 16"),
    "another output": (V2, dumped({**tensor(red()), "outputs": [{"name": "logits"}]}), 400, "one output"),
    "an id that is none": (V2, dumped({**tensor(red()), "id": [1]}), 400, "wrong at id"),
    "another model": ("/v1/models/other:predict", dumped({"instances": []}), 404, "no model of that name"),
    "another version": ("/v1/models/airbench94/versions/2:predict", b"", 404, "version 1 only"),
    "no version": ("/v2/models/airbench94/versions/x/infer", b"", 404, "version 1 only"),
    "a path": ("/v2/models/..%2F..%2Fetc/infer", b"", 404, ""),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told(client, name):
    path, body, status, message = BAD[name]
    refused(client.post(path, data=body, headers={"content-type": "application/json"}), status, message)


def test_binary_tensors_are_told(client):
    refused(client.post(V2, data=b"{}", headers={"inference-header-content-length": "2"}), 400, "Binary tensors")


def test_both_protocols_and_predict_agree(client):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3))
    one = client.post(V1, json={"instances": images.tolist()}).json()["predictions"][0]
    two = client.post(V2, json=tensor(images)).json()["outputs"][0]["data"]
    assert one == two
    picture = png(tuple(int(each) for each in images[0, 0, 0]))
    flat = np.broadcast_to(images[:, :1, :1], images.shape)
    answers = client.post(V1, json={"instances": flat.tolist()}).json()["predictions"][0]
    calibrated = client.post("/predict", files=form(picture)).json()["predictions"][0]["probabilities"]
    expected = np.array(answers) ** (1 / 1.6)
    np.testing.assert_allclose(list(calibrated.values()), expected / expected.sum(), rtol=1e-5)


@pytest.mark.parametrize("path", ["/v1/models/airbench94/metadata", "/v1/models/airbench94/versions/1/metadata"])
def test_metadata_is_that_of_the_saved_model(client, path):
    answer = client.get(path).json()
    assert answer["model_spec"] == {"name": "airbench94", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    for tensor, shape in ((signature["inputs"]["images"], [-1, 32, 32, 3]),
                          (signature["outputs"]["probabilities"], [-1, 10])):  # fmt: skip
        assert tensor["dtype"] == "DT_FLOAT"
        assert [int(each["size"]) for each in tensor["tensor_shape"]["dim"]] == shape
