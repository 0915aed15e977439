"""The service's own routes: the web page, the model, predictions, health and metrics."""

import base64
import io
import time
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from cifar10.confidence import classify, describe_unsure
from cifar10.errors import InputError
from cifar10.images import FormatError, SizeError, decode_image, to_network_input
from cifar10.serving.forms import IMAGE_FORMATS, OPENAPI_REQUEST_BODY, read_uploaded_images
from cifar10.serving.limits import Limits
from cifar10.serving.repository import Model
from cifar10.serving.service import ServiceDep

PAGE = files("cifar10.serving").joinpath("page.html").read_text(encoding="utf-8")


class ServedModel(BaseModel):
    """The model that made the predictions."""

    name: str
    version: int


class Prediction(BaseModel):
    """The prediction for one image: the most probable class and the calibrated probability of each class."""

    label: str
    probability: float
    unsure: bool = Field(description=f"Whether the model is {describe_unsure()}.")
    summary: str = Field(description="The prediction in words.")
    probabilities: dict[str, float]
    input_image: str | None = None


class Predictions(BaseModel):
    """The predictions in the order of the images, and the time to decode and classify them, without queueing."""

    model: ServedModel
    milliseconds: float
    predictions: list[Prediction]

    model_config = {
        "json_schema_extra": {
            "example": {
                "model": {"name": "airbench94", "version": 3},
                "milliseconds": 3.1,
                "predictions": [
                    {
                        "label": "cat",
                        "probability": 0.83,
                        "unsure": False,
                        "summary": "cat, 83.0%",
                        "probabilities": {"cat": 0.83, "dog": 0.17},
                    }
                ],
            }
        }
    }


class ModelDescription(BaseModel):
    """The served model, its test accuracy with a 95% confidence interval, and the request limits."""

    name: str
    version: int = Field(description="The number of the export.")
    training_version: str | None = Field(description="When it was trained: its version in `kedro models NAME`.")
    class_names: list[str]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    test_images: int
    parameters: int
    unsure_below: float = Field(description="The probability below which a prediction is marked as unsure.")
    unsure_share: float = Field(description="The share of the validation images with a lower probability than that.")
    unsure_means: str = Field(description="What the model is of an image if its prediction is unsure, in words.")
    samples: list[str]
    max_images: int
    max_body_bytes: int
    max_pixels: int


class Health(BaseModel):
    """The result of a health check."""

    status: str


router = APIRouter(tags=["Service"])


@router.get("/", response_class=HTMLResponse)
async def get_page() -> str:
    """Return the web page for trying the model."""
    return PAGE


@router.get("/model", response_model=ModelDescription)
async def get_model(service: ServiceDep) -> dict[str, Any]:
    """Return the served model and the request limits."""
    model, limits = service.model(), service.limits
    card = model.card
    return {
        "name": model.name,
        "version": model.version,
        "training_version": card.model_version,
        "class_names": card.class_names,
        "accuracy": card.metrics.accuracy,
        "accuracy_low": card.metrics.accuracy_low,
        "accuracy_high": card.metrics.accuracy_high,
        "test_images": card.metrics.test_examples,
        "parameters": card.parameters,
        "unsure_below": card.unsure_below,
        "unsure_share": card.unsure_share,
        "unsure_means": describe_unsure(card.unsure_share),
        "samples": [f"/samples/{index}" for index in model.samples],
        "max_images": limits.max_images,
        "max_body_bytes": limits.max_body_bytes,
        "max_pixels": limits.max_pixels,
    }


@router.get("/samples/{index}", responses={200: {"content": {"image/png": {}}}}, response_class=Response)
async def get_sample(service: ServiceDep, index: str) -> Response:
    """Return a sample image of the class with this index."""
    samples = service.model().samples
    if not index.isdecimal() or len(index) > 4 or int(index) not in samples:
        raise HTTPException(404, "There is no such sample; GET /model lists the available ones.")
    return Response(samples[int(index)], media_type="image/png")


@router.post("/predict", response_model=Predictions, openapi_extra=OPENAPI_REQUEST_BODY)
async def predict(
    service: ServiceDep,
    request: Request,
    input_image: Annotated[
        bool, Query(description="Also return each image as the network receives it, as a PNG data URI.")
    ] = False,
) -> Response:
    """Classify images, and return probabilities, calibrated unless the model was trained on the validation images, too.

    `unsure` is true if the model is less certain than for 95% of its validation images: the highest probability is
    below their 5% quantile. GET /model returns this threshold as `unsure_below`, and the share of validation images
    below it as `unsure_share`.
    """
    model = service.model()
    contents = await read_uploaded_images(request, service.limits)
    return JSONResponse(await service.run(lambda: _predict(model, contents, service.limits, input_image)))


@router.get("/health/live", response_model=Health)
async def is_live() -> dict[str, str]:
    """Return 200 while the service is running."""
    return {"status": "live"}


@router.get("/health/ready", response_model=Health)
async def is_ready(service: ServiceDep) -> dict[str, str]:
    """Return 200 if a model is loaded, 503 otherwise."""
    service.model()
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def get_metrics(service: ServiceDep) -> Response:
    """Return metrics in the Prometheus text format."""
    return Response(service.metrics.exposition(service.repository.model), media_type=CONTENT_TYPE_LATEST)


def _predict(model: Model, contents: list[bytes], limits: Limits, with_input_image: bool) -> dict[str, Any]:
    start = time.perf_counter()
    images = np.stack([_decode(content, f"File {number}", limits) for number, content in enumerate(contents, 1)])
    predictions = []
    for image, probabilities in zip(images, model.calibrated_probabilities(images), strict=True):
        found = classify(probabilities, model.card.class_names, model.card.unsure_below)
        by_class = dict(zip(model.card.class_names, probabilities.tolist(), strict=True))
        prediction = {**found._asdict(), "probabilities": by_class}
        predictions.append({**prediction, "input_image": _data_uri(image)} if with_input_image else prediction)
    milliseconds = round((time.perf_counter() - start) * 1000, 3)
    served_model = {"name": model.name, "version": model.version}
    return {"model": served_model, "milliseconds": milliseconds, "predictions": predictions}


def _decode(content: bytes, name: str, limits: Limits) -> np.ndarray:
    """Return an uploaded image as the network receives it, uint8 (32, 32, 3).

    Raises:
        HTTPException: 415 if its format is not supported, 413 if it has too many pixels, 400 if it is empty or damaged.
    """
    if not content:
        raise HTTPException(400, f"{name} is empty.")
    try:
        return to_network_input(decode_image(io.BytesIO(content), name, limits.max_pixels, IMAGE_FORMATS))
    except FormatError as error:
        raise HTTPException(415, str(error)) from None
    except SizeError as error:
        limit = f"The limit is {limits.max_pixels:,} pixels, and four times as many for a JPEG that is not progressive."
        raise HTTPException(413, f"{error} {limit}") from None
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
