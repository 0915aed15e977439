"""The Open Inference Protocol, version 2, over HTTP and JSON, as Triton, KServe and others speak it.

https://github.com/kserve/open-inference-protocol
"""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, TypeAdapter

from cifar10 import __version__
from cifar10.images import SIDE
from cifar10.serving.arrays import (
    Flat,
    Pictures,
    check_count,
    checked,
    documented,
    flat_images_of,
    images_of,
    read_json,
)
from cifar10.serving.limits import Limits
from cifar10.serving.repository import INPUT, OUTPUT, Model
from cifar10.serving.service import TheService

DATATYPE = "FP32"
EXAMPLE = {
    "inputs": [
        {
            "name": INPUT,
            "shape": [1, SIDE, SIDE, 3],
            "datatype": DATATYPE,
            "data": np.full(SIDE * SIDE * 3, 128).tolist(),
        }
    ]
}


class ServerMetadata(BaseModel):
    """Of the service itself."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """Of an input or an output; -1 stands for any number of pictures."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """Of the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(BaseModel):
    """The service answers."""

    live: bool


class Ready(BaseModel):
    """The service has a model."""

    ready: bool


class ModelReady(BaseModel):
    """The model answers."""

    name: str
    ready: bool


class RequestInput(BaseModel):
    """Pictures of 0 to 255, flat or nested."""

    name: str
    shape: Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=2**31)]], Field(max_length=8, fail_fast=True)]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Flat | Pictures


class RequestOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """One input, and whatever the protocol allows beside it."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestOutput], Field(fail_fast=True)] | None = None


class ResponseOutput(BaseModel):
    """Probabilities, flat: ten of the first picture, then ten of the next."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class InferResponse(BaseModel):
    """What the network says."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class _Input(RequestInput):
    """With the data left for later, for whether they are flat is seen by the first."""

    data: list[Any]


class _Body(InferRequest):
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]  # type: ignore[assignment]


_BODY: TypeAdapter[_Body] = TypeAdapter(_Body)
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


@router.get("", response_model=ServerMetadata)
async def server() -> dict[str, Any]:
    """Name and version of the service."""
    return {"name": "cifar10-serve", "version": __version__, "extensions": []}


@router.get("/health/live", response_model=Live)
async def live() -> dict[str, bool]:
    """The service answers."""
    return {"live": True}


@router.get("/health/ready", response_model=Ready)
async def ready(service: TheService) -> dict[str, bool]:
    """The service has a model; 503 while it has none."""
    service.model()
    return {"ready": True}


@router.get("/models/{name}", response_model=ModelMetadata)
@router.get("/models/{name}/versions/{version}", response_model=ModelMetadata)
async def metadata(service: TheService, name: str, version: str | None = None) -> dict[str, Any]:
    """What the model takes and gives."""
    model = service.model(name, version)
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1, SIDE, SIDE, 3]}],
        "outputs": [{"name": OUTPUT, "datatype": DATATYPE, "shape": [-1, len(model.card.class_names)]}],
    }


@router.get("/models/{name}/ready", response_model=ModelReady)
@router.get("/models/{name}/versions/{version}/ready", response_model=ModelReady)
async def model_ready(service: TheService, name: str, version: str | None = None) -> dict[str, Any]:
    """The model answers."""
    return {"name": service.model(name, version).name, "ready": True}


@router.post("/models/{name}/infer", response_model=InferResponse, openapi_extra=documented(InferRequest, EXAMPLE))
@router.post(
    "/models/{name}/versions/{version}/infer",
    response_model=InferResponse,
    openapi_extra=documented(InferRequest, EXAMPLE),
)
async def infer(service: TheService, request: Request, name: str, version: str | None = None) -> Response:
    """The probabilities of pictures of 32 x 32 pixels, RGB of 0 to 255, as the network gives them: not calibrated."""
    model = service.model(name, version)
    if "inference-header-content-length" in request.headers:
        raise HTTPException(400, "Binary tensors are not taken here; send the data as JSON (binary_data=False).")
    body = await request.body()
    return JSONResponse(await service.run(lambda: _answer(model, body, service.limits)))


def _answer(model: Model, body: bytes, limits: Limits) -> dict[str, Any]:
    given: _Body = checked(_BODY, read_json(body, limits), "")
    for output in given.outputs or ():
        if output.name != OUTPUT:
            raise HTTPException(400, f"The body is wrong at outputs: the model has one output, {OUTPUT}, and no other.")
    probabilities = model.probabilities(_images(given.inputs[0], limits))
    return {
        "model_name": model.name,
        "model_version": str(model.version),
        **({} if given.id is None else {"id": given.id}),
        "outputs": [
            {
                "name": OUTPUT,
                "datatype": DATATYPE,
                "shape": list(probabilities.shape),
                "data": probabilities.ravel().tolist(),
            }
        ],
    }


def _images(given: _Input, limits: Limits) -> np.ndarray:
    if given.name != INPUT:
        raise HTTPException(400, f"The body is wrong at inputs.0.name: the model has one input, {INPUT}, and no other.")
    if given.datatype != DATATYPE:  # whole numbers too are sent as such: so do the other servers want it
        raise HTTPException(400, f"The body is wrong at inputs.0.datatype: the model takes {DATATYPE}.")
    if given.shape[1:] != [SIDE, SIDE, 3] or given.shape[0] < 1:
        raise HTTPException(400, f"The body is wrong at inputs.0.shape: the model takes [n, {SIDE}, {SIDE}, 3].")
    count = given.shape[0]
    check_count(count, limits)
    if not given.data or not isinstance(given.data[0], list):
        return flat_images_of(given.data, count, "inputs.0.data")
    images = images_of(given.data, "inputs.0.data", limits)
    if len(images) != count:
        raise HTTPException(400, f"inputs.0.data has {len(images)} pictures, but its shape says {count}.")
    return images
