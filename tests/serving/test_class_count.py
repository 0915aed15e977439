"""Exports with a number of classes other than ten, through every route."""

import numpy as np
import pytest

from tests.serving.conftest import form, png, serving, write_export
from tests.serving.test_protocols import V1, V2, infer_request, red


@pytest.fixture(scope="module", params=[3, 20])
def class_names(request):
    return [f"class {index}" for index in range(request.param)]


@pytest.fixture(scope="module")
def client(class_names, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_export(models, class_names=class_names, temperature=1.0, unsure_below=0.8)
    with serving(models) as client:
        yield client


def expected(class_names, logit=255 * 0.02):
    powers = np.exp([logit] + [0.0] * (len(class_names) - 1))
    return powers / powers.sum()


def test_predict(client, class_names):
    response = client.post("/predict", files=form(png((255, 0, 0)), png((0, 0, 255)), png((50, 0, 0))))
    assert response.status_code == 200, response.text
    predictions = response.json()["predictions"]
    assert [each["label"] for each in predictions] == ["class 0", "class 2", "class 0"]
    assert [each["unsure"] for each in predictions] == [False, False, True]
    for prediction in predictions:
        assert list(prediction["probabilities"]) == class_names
    np.testing.assert_allclose(list(predictions[0]["probabilities"].values()), expected(class_names), rtol=1e-5)


def test_model_and_samples_for_the_page(client, class_names):
    model = client.get("/model").json()
    assert model["class_names"] == class_names
    assert model["samples"] == [f"/samples/{index}" for index in range(len(class_names))]
    for index, path in enumerate(model["samples"]):
        assert client.get(path).content == png((12 * index, 0, 0))
    assert client.get(f"/samples/{len(class_names)}").status_code == 404


def test_tensorflow_serving(client, class_names):
    response = client.post(V1, json={"instances": red(2).tolist()})
    assert response.status_code == 200, response.text
    np.testing.assert_allclose(response.json()["predictions"], np.tile(expected(class_names), (2, 1)), rtol=1e-5)
    metadata = client.get("/v1/models/airbench94/metadata").json()["metadata"]["signature_def"]["signature_def"]
    output = metadata["serving_default"]["outputs"]["probabilities"]
    assert [each["size"] for each in output["tensor_shape"]["dim"]] == ["-1", str(len(class_names))]


def test_open_inference(client, class_names):
    response = client.post(V2, json=infer_request(red(2)))
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    assert output["shape"] == [2, len(class_names)]
    np.testing.assert_allclose(output["data"], np.tile(expected(class_names), 2), rtol=1e-5)
    (metadata,) = client.get("/v2/models/airbench94").json()["outputs"]
    assert metadata["shape"] == [-1, len(class_names)]
