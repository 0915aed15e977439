"""Assemble the service: routes, error handlers, OpenAPI schema and middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp

from cifar10 import __version__
from cifar10.serving import open_inference, routes, tf_serving
from cifar10.serving.arrays import openapi_schemas
from cifar10.serving.limits import Limits
from cifar10.serving.middleware import DOCS_PATH, INTERNAL_ERROR, LimitsMiddleware
from cifar10.serving.repository import Repository
from cifar10.serving.service import ErrorResponse, Service

TITLE = "cifar10-serve"
VIEWER = bytes(
    get_swagger_ui_html(
        title=TITLE,  # the addresses are relative, because a proxy may serve them below a path
        openapi_url="openapi.json",
        swagger_js_url=f"{DOCS_PATH[1:]}/swagger-ui-bundle.js",
        swagger_css_url=f"{DOCS_PATH[1:]}/swagger-ui.css",
        swagger_favicon_url=f"{DOCS_PATH[1:]}/favicon.png",
    ).body
).decode()
VIEWER_FILES = ("fastapi_offline", "static")  # the package that brings Swagger UI, and its folder
ROUTING_ERRORS = {  # status code -> message, for requests that match no route
    404: "There is nothing at this path; GET /docs lists all routes.",
    405: "This method is not allowed here; the Allow header lists the allowed methods.",
}
ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"content": ERROR_CONTENT, "description": "The request is invalid; the message says why."},
    503: {
        "content": ERROR_CONTENT,
        "description": "No model is loaded, or the service is busy.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}},
    },
}


def create_app(repository: Repository, limits: Limits) -> ASGIApp:
    """Return the service as an ASGI application, which watches the repository while it runs."""
    service = Service(repository, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        repository.watch()
        yield
        repository.stop()
        service.executor.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title=TITLE,
        version=__version__,
        description="Image classification with an exported model.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERROR_RESPONSES,
        exception_handlers={
            RequestValidationError: _handle_invalid_parameter,
            HTTPException: _handle_http_error,
            StarletteHTTPException: _handle_routing_error,
            Exception: _handle_internal_error,
        },
    )
    app.state.service = service
    for router in (routes.router, tf_serving.router, open_inference.router):
        app.include_router(router)
    _add_documentation(app)
    return LimitsMiddleware(app, limits, service.metrics, routes.PAGE, VIEWER)


def _add_documentation(app: FastAPI) -> None:
    """Add the viewer, and the request bodies that routes parse themselves, which FastAPI cannot see, to the schema."""

    @app.get(DOCS_PATH, include_in_schema=False)
    async def get_viewer() -> HTMLResponse:
        return HTMLResponse(VIEWER)

    app.mount(DOCS_PATH, StaticFiles(packages=[VIEWER_FILES]))

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                servers=[{"url": "."}],
            )
            models = openapi_schemas(ErrorResponse, tf_serving.PredictRequest, open_inference.InferRequest)
            schema["components"]["schemas"].update(models)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


async def _handle_http_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _handle_routing_error(request: Request, error: Any) -> JSONResponse:
    """Handle errors that Starlette raises itself; the service raises FastAPI's subclass, but in tf_serving."""
    message = ROUTING_ERRORS.get(error.status_code, error.detail)
    return JSONResponse({"error": message}, error.status_code, error.headers)


async def _handle_invalid_parameter(request: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    return JSONResponse({"error": f"The parameter {first['loc'][-1]} is invalid: {first['msg']}."}, 422)


async def _handle_internal_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": INTERNAL_ERROR}, 500)
