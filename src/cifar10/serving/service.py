"""What all routes share: the model, the limits, and the thread that computes predictions."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel

from cifar10.serving.limits import Limits
from cifar10.serving.metrics import Metrics
from cifar10.serving.repository import Model, Repository

RETRY_AFTER = {"Retry-After": "1"}
Result = TypeVar("Result")


class ErrorResponse(BaseModel):
    """The body of every error response."""

    error: str


@dataclass(frozen=True)
class Service:
    """The state of the service.

    A single thread decodes images and runs the model, so that memory stays bounded and the event loop stays free.
    """

    repository: Repository
    limits: Limits
    metrics: Metrics = field(default_factory=Metrics)
    executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "predict"))

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """Return the served model.

        Raises:
            HTTPException: 503 if no model is loaded, 404 if another name or version is requested.
        """
        model = self.repository.model
        if model is None:
            raise HTTPException(503, "No model is loaded: the service has not found its export yet.", RETRY_AFTER)
        if name is not None and name != model.name:
            raise HTTPException(404, f"There is no model with this name; this service serves {model.name}.")
        if version is not None and version != str(model.version):
            raise HTTPException(404, f"{model.name} has only version {model.version} here.")
        return model

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run a function in the prediction thread, after the functions that were submitted before.

        Raises:
            HTTPException: 503 if it does not finish within the timeout.
        """
        try:
            async with asyncio.timeout(self.limits.timeout_seconds):
                return await asyncio.get_running_loop().run_in_executor(self.executor, work)
        except TimeoutError:
            raise HTTPException(
                503, "The service is busy and the request timed out; retry shortly.", RETRY_AFTER
            ) from None


async def _get_service(request: Request) -> Service:  # async, because FastAPI runs other dependencies in a thread
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(_get_service)]
