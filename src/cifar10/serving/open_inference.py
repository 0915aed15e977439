"""The Open Inference Protocol, version 2, over HTTP and JSON, which Triton, KServe and others implement.

https://github.com/kserve/open-inference-protocol
"""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, TypeAdapter

from cifar10 import __version__
from cifar10.images import IMAGE_SIZE
from cifar10.serving.arrays import (
    FlatArray,
    ImageBatch,
    check_image_count,
    openapi_request_body,
    parse_flat_images,
    parse_images,
    parse_json,
    validate,
)
from cifar10.serving.limits import Limits
from cifar10.serving.repository import INPUT_NAME, OUTPUT_NAME, Model
from cifar10.serving.service import ServiceDep

DATATYPE = "FP32"
# Parameters of an output that ask for another form of it, which a client would look for in vain. Others may be ignored.
UNSUPPORTED_PARAMETERS = ("classification", "shared_memory_region")
EXAMPLE = {
    "inputs": [
        {
            "name": INPUT_NAME,
            "shape": [1, IMAGE_SIZE, IMAGE_SIZE, 3],
            "datatype": DATATYPE,
            "data": np.full(IMAGE_SIZE * IMAGE_SIZE * 3, 128).tolist(),
        }
    ]
}


class ServerMetadata(BaseModel):
    """Metadata of the service."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """Metadata of an input or output; a size of -1 means any number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """Metadata of the model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Live(BaseModel):
    """Whether the service is running."""

    live: bool


class Ready(BaseModel):
    """Whether a model is loaded."""

    ready: bool


class ModelReady(BaseModel):
    """Whether this model is ready for inference."""

    name: str
    ready: bool


class RequestInput(BaseModel):
    """Images with values from 0 to 255, flat or nested."""

    name: str
    shape: Annotated[list[Annotated[int, Field(strict=True, ge=0, lt=2**31)]], Field(max_length=8, fail_fast=True)]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: FlatArray | ImageBatch


class RequestOutput(BaseModel):
    """A requested output."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """One input, and the optional fields of the protocol."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[RequestOutput], Field(fail_fast=True)] | None = None


class ResponseOutput(BaseModel):
    """Class probabilities of shape [images, classes], flattened image by image."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class InferResponse(BaseModel):
    """The predictions of the model."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class _Input(RequestInput):
    """An input whose data is validated later, when its first value has shown whether it is flat or nested."""

    data: list[Any]


class _Body(InferRequest):
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]  # type: ignore[assignment]


_BODY: TypeAdapter[_Body] = TypeAdapter(_Body)
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


@router.get("", response_model=ServerMetadata)
async def get_server_metadata() -> dict[str, Any]:
    """Return the name and version of the service."""
    return {"name": "cifar10-serve", "version": __version__, "extensions": []}


@router.get("/health/live", response_model=Live)
async def is_live() -> dict[str, bool]:
    """Return 200 while the service is running."""
    return {"live": True}


@router.get("/health/ready", response_model=Ready)
async def is_ready(service: ServiceDep) -> dict[str, bool]:
    """Return 200 if a model is loaded, 503 otherwise."""
    service.model()
    return {"ready": True}


@router.get("/models/{name}", response_model=ModelMetadata)
@router.get("/models/{name}/versions/{version}", response_model=ModelMetadata)
async def get_model_metadata(service: ServiceDep, name: str, version: str | None = None) -> dict[str, Any]:
    """Return the inputs and outputs of the model."""
    model = service.model(name, version)
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT_NAME, "datatype": DATATYPE, "shape": [-1, IMAGE_SIZE, IMAGE_SIZE, 3]}],
        "outputs": [{"name": OUTPUT_NAME, "datatype": DATATYPE, "shape": [-1, len(model.card.class_names)]}],
    }


@router.get("/models/{name}/ready", response_model=ModelReady)
@router.get("/models/{name}/versions/{version}/ready", response_model=ModelReady)
async def is_model_ready(service: ServiceDep, name: str, version: str | None = None) -> dict[str, Any]:
    """Return 200 if this model is loaded, 404 if another one is, 503 if none is."""
    return {"name": service.model(name, version).name, "ready": True}


REQUEST_BODY = openapi_request_body(InferRequest, EXAMPLE)


@router.post("/models/{name}/infer", response_model=InferResponse, openapi_extra=REQUEST_BODY)
@router.post("/models/{name}/versions/{version}/infer", response_model=InferResponse, openapi_extra=REQUEST_BODY)
async def infer(service: ServiceDep, request: Request, name: str, version: str | None = None) -> Response:
    """Return the class probabilities of 32x32 RGB images with values from 0 to 255.

    The probabilities are the raw outputs of the network. Those of POST /predict are calibrated where that was possible.
    """
    model = service.model(name, version)
    if "inference-header-content-length" in request.headers:
        raise HTTPException(400, "Binary tensors are not supported; send the data as JSON (binary_data=False).")
    body = await request.body()
    return JSONResponse(await service.run(lambda: _infer(model, body, service.limits)))


def _infer(model: Model, body: bytes, limits: Limits) -> dict[str, Any]:
    parsed: _Body = validate(_BODY, parse_json(body, limits), "")
    for index, output in enumerate(parsed.outputs or ()):
        if output.name != OUTPUT_NAME:
            raise HTTPException(400, f"The body is invalid at outputs: the model's only output is {OUTPUT_NAME}.")
        for name in UNSUPPORTED_PARAMETERS:
            if (output.parameters or {}).get(name):
                raise HTTPException(
                    400,
                    f"The body is invalid at outputs.{index}.parameters: {name} is not supported; omit it, and read "
                    "the probabilities of all classes.",
                )
    probabilities = model.probabilities(_parse_input(parsed.inputs[0], limits))
    return {
        "model_name": model.name,
        "model_version": str(model.version),
        **({} if parsed.id is None else {"id": parsed.id}),
        "outputs": [
            {
                "name": OUTPUT_NAME,
                "datatype": DATATYPE,
                "shape": list(probabilities.shape),
                "data": probabilities.ravel().tolist(),
            }
        ],
    }


def _parse_input(tensor: _Input, limits: Limits) -> np.ndarray:
    if tensor.name != INPUT_NAME:
        raise HTTPException(400, f"The body is invalid at inputs.0.name: the model's only input is {INPUT_NAME}.")
    if tensor.datatype != DATATYPE:  # other servers too accept whole numbers only as FP32, not as UINT8
        raise HTTPException(400, f"The body is invalid at inputs.0.datatype: the model expects {DATATYPE}.")
    if tensor.shape[1:] != [IMAGE_SIZE, IMAGE_SIZE, 3] or tensor.shape[0] < 1:
        raise HTTPException(
            400, f"The body is invalid at inputs.0.shape: the model expects [n, {IMAGE_SIZE}, {IMAGE_SIZE}, 3]."
        )
    count = tensor.shape[0]
    check_image_count(count, limits)
    if not tensor.data or not isinstance(tensor.data[0], list):
        return parse_flat_images(tensor.data, count, "inputs.0.data")
    images = parse_images(tensor.data, "inputs.0.data", limits)
    if len(images) != count:
        raise HTTPException(
            400, f"inputs.0.data has length {len(images)}, which does not match its shape {tensor.shape}."
        )
    return images
