"""The routes of the service."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from pydantic import BaseModel
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import ASGIApp

from cifar10 import __version__
from cifar10.errors import InputError
from cifar10.images import FormatError, SizeError, decode_image, to_network_input
from cifar10.serving import arrays, metrics, open_inference, tf_serving
from cifar10.serving.gate import DOCS, Gate
from cifar10.serving.limits import Limits
from cifar10.serving.repository import Model, Repository
from cifar10.serving.service import Error, Service, TheService

PIECE = 65536  # bytes
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {
                            "type": "array",
                            "description": f"Pictures of any size: {', '.join(FORMATS)}. Repeat the field for several.",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "maxItems": Limits.most_pictures,
                        }
                    },
                }
            }
        },
    }
}
SENTENCES = {  # for what the framework says of requests that meet no route
    "Not Found": "There is nothing here; GET /docs shows what there is.",
    "Method Not Allowed": "This method is not for here; the header Allow names those that are.",
}
IN_JSON = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"content": IN_JSON, "description": "The request is wrong; the sentence says where."},
    503: {
        "content": IN_JSON,
        "description": "There is no model yet, or the service is busy.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}},
    },
}


class ServedModel(BaseModel):
    """Which model has answered."""

    name: str
    version: int


class Prediction(BaseModel):
    """What the model says of one picture."""

    answer: str
    probability: float
    unsure: bool
    probabilities: dict[str, float]
    seen: str | None = None


class Predictions(BaseModel):
    """Of all pictures, in their order. Milliseconds are those of decoding and answering, without waiting."""

    model: ServedModel
    milliseconds: float
    predictions: list[Prediction]

    model_config = {
        "json_schema_extra": {
            "example": {
                "model": {"name": "airbench94", "version": 3},
                "milliseconds": 3.1,
                "predictions": [
                    {"answer": "cat", "probability": 0.83, "unsure": False, "probabilities": {"cat": 0.83, "dog": 0.17}}
                ],
            }
        }
    }


class ModelDescription(BaseModel):
    """The model that serves, how good it is on the test pictures, and what a request may have."""

    name: str
    version: int
    class_names: list[str]
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    test_pictures: int
    parameters: int
    unsure_below: float
    unsure_share: float
    samples: list[str]
    most_pictures: int
    most_bytes: int
    most_pixels: int


class Health(BaseModel):
    """What a probe asks for."""

    status: str


def create_app(repository: Repository, limits: Limits) -> ASGIApp:
    """The service as an ASGI application, which looks for exports from its start to its end."""
    page = files("cifar10.serving").joinpath("page.html").read_text(encoding="utf-8")
    measured = metrics.Metrics()
    service = Service(repository, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        repository.watch()
        yield
        repository.stop()
        service.thread.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="cifar10-serve",
        version=__version__,
        description="Says which of ten classes a picture shows.",
        lifespan=lifespan,
        docs_url=DOCS,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        responses=ERRORS,
    )
    app.state.service = service
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    app.include_router(tf_serving.router)
    app.include_router(open_inference.router)

    @app.get("/", response_class=HTMLResponse)
    async def read_page() -> str:
        """The page to try it on."""
        return page

    @app.get("/model", response_model=ModelDescription)
    async def describe(service: TheService) -> dict[str, Any]:
        """The model that serves."""
        return _description(service.model(), limits)

    @app.get("/samples/{index}", responses={200: {"content": {"image/png": {}}}}, response_class=Response)
    async def sample(service: TheService, index: str) -> Response:
        """A picture to try, of the class with that index."""
        samples = service.model().samples
        if not index.isdecimal() or len(index) > 4 or int(index) not in samples:
            raise HTTPException(404, "There is no such sample; GET /model lists those that there are.")
        return Response(samples[int(index)], media_type="image/png")

    @app.post("/predict", response_model=Predictions, response_model_exclude_none=True, openapi_extra=FORM)
    async def predict(
        service: TheService,
        request: Request,
        seen: Annotated[bool, Query(description="Give back each picture as the network sees it, too.")] = False,
    ) -> Response:
        """The classes of pictures, with calibrated probabilities.

        `unsure` is true where the best probability is so low as that of few validation pictures: the picture is unlike
        those that the model was trained on. GET /model has the bound, and the share of the validation pictures below.
        """
        model = service.model()
        files = await _files(request, limits)
        return JSONResponse(await service.run(lambda: _predict(model, files, limits, seen)))

    @app.get("/health/live", response_model=Health)
    async def live() -> dict[str, str]:
        """The service answers."""
        return {"status": "live"}

    @app.get("/health/ready", response_model=Health)
    async def ready(service: TheService) -> dict[str, str]:
        """The service has a model; 503 while it has none."""
        service.model()
        return {"status": "ready"}

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """What Prometheus collects."""
        return Response(measured.text(repository.model), media_type=metrics.CONTENT_TYPE)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            bodies = arrays.schemas(Error, tf_serving.PredictRequest, open_inference.InferRequest)
            document["components"]["schemas"].update(bodies)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return Gate(app, limits, measured, page)


def _description(model: Model, limits: Limits) -> dict[str, Any]:
    card = model.card
    return {
        "name": model.name,
        "version": model.version,
        "class_names": card.class_names,
        **card.metrics.model_dump(),
        "parameters": card.parameters,
        "unsure_below": card.unsure_below,
        "unsure_share": card.unsure_share,
        "samples": [f"/samples/{index}" for index in model.samples],
        "most_pictures": limits.most_pictures,
        "most_bytes": limits.most_bytes,
        "most_pixels": limits.most_pixels,
    }


class _Form(MultiPartParser):
    """Keeps files in memory, for the gate has bounded them, and knows whether the form has come to its end."""

    spool_max_size = 0  # no bound, so that nothing is written to the disk
    whole = False

    def on_end(self) -> None:
        self.whole = True


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """A body in pieces, between which others have their turn: a form of nothing but boundaries takes a second."""
    async for chunk in request.stream():
        for start in range(0, len(chunk), PIECE):
            yield chunk[start : start + PIECE]
            await asyncio.sleep(0)


async def _files(request: Request, limits: Limits) -> list[bytes]:
    """The pictures of a form.

    Raises:
        HTTPException: 415, it is no form; 400, it has none or is damaged; 413, it has too many.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise HTTPException(415, "Send the pictures as multipart/form-data, in the field images.")
    # Of the options only the boundary: a charset would be looked up among Python's codecs.
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if '"' in boundary or "\\" in boundary:  # it could end the quotes below, and bring one along
        raise HTTPException(400, "The form's boundary has a quotation mark or a backslash, which none may have.")
    headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})
    form = _Form(headers, _pieces(request), max_files=limits.most_pictures, max_fields=limits.most_pictures)
    try:
        fields: FormData = await form.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise HTTPException(
                413, f"The form has too many pictures: a request may have up to {limits.most_pictures}."
            ) from None
        raise HTTPException(400, f"The form cannot be read: {error.message}") from None
    if not form.whole:
        raise HTTPException(400, "The form is cut off: its last boundary is missing.")
    images = fields.getlist("images")
    if not images:
        raise HTTPException(400, "The form has no field images; send one or more pictures in it.")
    contents = [image.file.read() for image in images if isinstance(image, UploadFile)]
    if len(contents) != len(images):
        raise HTTPException(400, "A field images of the form is text; send it as a file, with a file name.")
    return contents


def _predict(model: Model, files: list[bytes], limits: Limits, with_seen: bool) -> dict[str, Any]:
    begun = time.perf_counter()
    seen = np.stack([_seen(content, f"Picture {number}", limits) for number, content in enumerate(files, 1)])
    predictions = []
    for image, probabilities in zip(seen, model.calibrated(seen), strict=True):
        named = dict(zip(model.card.class_names, probabilities.tolist(), strict=True))
        answer = max(named, key=named.__getitem__)
        prediction = {
            "answer": answer,
            "probability": named[answer],
            "unsure": named[answer] < model.card.unsure_below,
            "probabilities": named,
        }
        predictions.append({**prediction, "seen": _data_uri(image)} if with_seen else prediction)
    milliseconds = round((time.perf_counter() - begun) * 1000, 3)
    served = {"name": model.name, "version": model.version}
    return {"model": served, "milliseconds": milliseconds, "predictions": predictions}


def _seen(content: bytes, name: str, limits: Limits) -> np.ndarray:
    """A picture as the network sees it, uint8 (32, 32, 3).

    Raises:
        HTTPException: 415, its format is not taken; 413, it has too many pixels; 400, it is empty or damaged.
    """
    if not content:
        raise HTTPException(400, f"{name} is empty.")
    try:
        return to_network_input(decode_image(io.BytesIO(content), name, limits.most_pixels, FORMATS))
    except FormatError as error:
        raise HTTPException(415, str(error)) from None
    except SizeError as error:
        raise HTTPException(413, f"{error} It may have up to {limits.most_pixels:,}.") from None
    except InputError as error:
        raise HTTPException(400, str(error)) from None


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def _refused(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": SENTENCES.get(error.detail, error.detail)}, error.status_code, error.headers)


async def _wrong_parameter(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    return JSONResponse({"error": f"The parameter {first['loc'][-1]} is wrong: {first['msg']}."}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "Something went wrong here; the log has it."}, 500)
