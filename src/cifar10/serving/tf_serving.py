"""The REST API of TensorFlow Serving, so that its clients work with this service unchanged.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException as RoutingError

from cifar10.images import IMAGE_SIZE
from cifar10.serving.arrays import ImageArray, ImageBatch, openapi_request_body, parse_images, parse_json, validate
from cifar10.serving.limits import Limits
from cifar10.serving.repository import INPUT_NAME, OUTPUT_NAME
from cifar10.serving.service import ServiceDep

SIGNATURE = "serving_default"
EXAMPLE = {"instances": np.full((1, IMAGE_SIZE, IMAGE_SIZE, 3), 128).tolist()}


class InstanceRow(BaseModel):
    """One image, under the name of the model's input."""

    images: ImageArray


class Inputs(BaseModel):
    """All images, under the name of the model's input."""

    images: ImageBatch


class PredictRequest(BaseModel):
    """Images in row format (`instances`) or in columnar format (`inputs`); exactly one of them is required."""

    signature_name: str | None = None
    instances: list[ImageArray] | list[InstanceRow] | None = None
    inputs: ImageBatch | Inputs | None = None


class PredictResponse(BaseModel):
    """The class probabilities of each image: `predictions` for row format, `outputs` for columnar format."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class VersionStatus(BaseModel):
    """The status of one version of the model."""

    version: str
    state: str
    status: dict[str, str]


class ModelStatus(BaseModel):
    """The status of all served versions; this service serves one."""

    model_version_status: list[VersionStatus]


class Metadata(BaseModel):
    """The signature of the model, as its SavedModel declares it."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


class _Body(BaseModel):
    """A request whose images are validated later: the errors of `parse_images` are shorter than those of a union."""

    signature_name: str | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, Any] | None = None


_BODY: TypeAdapter[_Body] = TypeAdapter(_Body)
router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])


@router.get("/{name}", response_model=ModelStatus)
@router.get("/{name}/versions/{version}", response_model=ModelStatus)
async def get_status(service: ServiceDep, name: str, version: str | None = None) -> dict[str, Any]:
    """Return the status of the served version."""
    if (version or name).endswith(":predict"):
        raise RoutingError(405, headers={"Allow": "POST"})
    model = service.model(name, version)
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": str(model.version), "state": "AVAILABLE", "status": status}]}


@router.get("/{name}/metadata", response_model=Metadata)
@router.get("/{name}/versions/{version}/metadata", response_model=Metadata)
async def get_metadata(service: ServiceDep, name: str, version: str | None = None) -> dict[str, Any]:
    """Return the signature of the model."""
    model = service.model(name, version)
    signature = {
        "inputs": {INPUT_NAME: _tensor_info(IMAGE_SIZE, IMAGE_SIZE, 3)},
        "outputs": {OUTPUT_NAME: _tensor_info(len(model.card.class_names))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


REQUEST_BODY = openapi_request_body(PredictRequest, EXAMPLE)


@router.post("/{name}:predict", response_model=PredictResponse, openapi_extra=REQUEST_BODY)
@router.post("/{name}/versions/{version}:predict", response_model=PredictResponse, openapi_extra=REQUEST_BODY)
async def predict(service: ServiceDep, request: Request, name: str, version: str | None = None) -> Response:
    """Return the class probabilities of 32x32 RGB images with values from 0 to 255.

    The probabilities are the raw outputs of the network. Those of POST /predict are calibrated where that was possible.
    """
    model = service.model(name, version)
    body = await request.body()

    def run() -> dict[str, Any]:
        images, key = _parse_body(body, service.limits)
        return {key: model.probabilities(images).tolist()}

    return JSONResponse(await service.run(run))


def _tensor_info(*sizes: int) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *sizes)]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dimensions, "unknown_rank": False}}


def _parse_body(body: bytes, limits: Limits) -> tuple[np.ndarray, str]:
    """Return the images, and the key of the response for their format."""
    parsed: _Body = validate(_BODY, parse_json(body, limits), "")
    if parsed.signature_name not in (None, "", SIGNATURE):  # empty: the default one, as in TF Serving
        raise HTTPException(400, f"This signature_name does not exist; omit it or use {SIGNATURE}.")
    if (parsed.instances is None) == (parsed.inputs is None):
        raise HTTPException(400, "The body must contain either instances or inputs, but not both.")
    if parsed.instances is not None:
        has_names = bool(parsed.instances) and isinstance(parsed.instances[0], dict)
        rows = [_named_input(row, "instances") for row in parsed.instances] if has_names else parsed.instances
        return parse_images(rows, "instances", limits), "predictions"
    columns = _named_input(parsed.inputs, "inputs") if isinstance(parsed.inputs, dict) else parsed.inputs
    return parse_images(columns, "inputs", limits), "outputs"


def _named_input(values: Any, location: str) -> Any:
    if not isinstance(values, dict) or values.keys() != {INPUT_NAME}:
        raise HTTPException(400, f"The body is invalid at {location}: the model's only input is {INPUT_NAME}.")
    return values[INPUT_NAME]
