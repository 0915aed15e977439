"""The REST interface of TensorFlow Serving, so that its clients work here unchanged, and this service's there.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, TypeAdapter

from cifar10.images import SIDE
from cifar10.serving.arrays import Picture, Pictures, checked, documented, images_of, read_json
from cifar10.serving.limits import Limits
from cifar10.serving.repository import INPUT, OUTPUT
from cifar10.serving.service import TheService

SIGNATURE = "serving_default"
EXAMPLE = {"instances": np.full((1, 32, 32, 3), 128).tolist()}


class InstanceRow(BaseModel):
    """A picture with the name of the input."""

    images: Picture


class Inputs(BaseModel):
    """All pictures with the name of the input."""

    images: Pictures


class PredictRequest(BaseModel):
    """Pictures in rows (`instances`) or in columns (`inputs`): one of both."""

    signature_name: str | None = None
    instances: list[Picture] | list[InstanceRow] | None = None
    inputs: Pictures | Inputs | None = None


class PredictResponse(BaseModel):
    """Ten probabilities of each picture: `predictions` of rows, `outputs` of columns."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class VersionStatus(BaseModel):
    """Of one version of a model."""

    version: str
    state: str
    status: dict[str, str]


class ModelStatus(BaseModel):
    """Of all versions that are served: one."""

    model_version_status: list[VersionStatus]


class Metadata(BaseModel):
    """What the model takes and gives, as its SavedModel says."""

    model_spec: dict[str, str]
    metadata: dict[str, Any]


class _Body(BaseModel):
    """The same with the pictures left for `images_of`, whose messages are shorter than those of a union."""

    signature_name: str | None = None
    instances: list[Any] | None = None
    inputs: list[Any] | dict[str, Any] | None = None


_BODY: TypeAdapter[_Body] = TypeAdapter(_Body)
router = APIRouter(prefix="/v1/models", tags=["TensorFlow Serving"])


@router.get("/{name}", response_model=ModelStatus)
@router.get("/{name}/versions/{version}", response_model=ModelStatus)
async def status(service: TheService, name: str, version: str | None = None) -> dict[str, Any]:
    """Which version is served."""
    model = service.model(name, version)
    available = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": str(model.version), "state": "AVAILABLE", "status": available}]}


@router.get("/{name}/metadata", response_model=Metadata)
@router.get("/{name}/versions/{version}/metadata", response_model=Metadata)
async def describe(service: TheService, name: str, version: str | None = None) -> dict[str, Any]:
    """The signature of the model."""
    model = service.model(name, version)
    signature = {
        "inputs": {INPUT: _tensor(SIDE, SIDE, 3)},
        "outputs": {OUTPUT: _tensor(len(model.card.class_names))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


@router.post("/{name}:predict", response_model=PredictResponse, openapi_extra=documented(PredictRequest, EXAMPLE))
@router.post(
    "/{name}/versions/{version}:predict",
    response_model=PredictResponse,
    openapi_extra=documented(PredictRequest, EXAMPLE),
)
async def predict(service: TheService, request: Request, name: str, version: str | None = None) -> Response:
    """The probabilities of pictures of 32 x 32 pixels, RGB of 0 to 255, as the network gives them: not calibrated."""
    model = service.model(name, version)
    body = await request.body()

    def answer() -> dict[str, Any]:
        images, key = _read(body, service.limits)
        return {key: model.probabilities(images).tolist()}

    return JSONResponse(await service.run(answer))


def _tensor(*sizes: int) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *sizes)]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dimensions, "unknown_rank": False}}


def _read(body: bytes, limits: Limits) -> tuple[np.ndarray, str]:
    """The pictures, and under which key their answer goes."""
    given: _Body = checked(_BODY, read_json(body, limits), "")
    if given.signature_name not in (None, SIGNATURE):
        raise HTTPException(400, f"There is no such signature_name; leave it out, or give {SIGNATURE}.")
    if (given.instances is None) == (given.inputs is None):
        raise HTTPException(400, "The body needs either instances, a list of pictures, or inputs.")
    if given.instances is not None:
        named = bool(given.instances) and isinstance(given.instances[0], dict)
        rows = [_named(row, "instances") for row in given.instances] if named else given.instances
        return images_of(rows, "instances", limits), "predictions"
    columns = _named(given.inputs, "inputs") if isinstance(given.inputs, dict) else given.inputs
    return images_of(columns, "inputs", limits), "outputs"


def _named(row: Any, where: str) -> Any:
    if not isinstance(row, dict) or row.keys() != {INPUT}:
        raise HTTPException(400, f"The body is wrong at {where}: the model has one input, {INPUT}, and no other.")
    return row[INPUT]
