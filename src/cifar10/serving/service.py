"""What the routes share: the model, the limits, and the one thread that decodes pictures and asks the network."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel

from cifar10.serving.limits import Limits
from cifar10.serving.repository import Model, Repository

RETRY = {"Retry-After": "1"}
Answer = TypeVar("Answer")


class Error(BaseModel):
    """The body of every answer that is no success."""

    error: str


@dataclass(frozen=True)
class Service:
    """What answers. One thread, so that pictures are decoded one at a time and the event loop stays free."""

    repository: Repository
    limits: Limits
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "predict"))

    def model(self, name: str | None = None, version: str | None = None) -> Model:
        """The one that serves.

        Raises:
            HTTPException: 503 while there is none, 404 where another name or version is asked for.
        """
        model = self.repository.model
        if model is None:
            raise HTTPException(503, "There is no model yet: none has been exported to this service's folder.", RETRY)
        if name is not None and name != model.name:
            raise HTTPException(404, f"There is no model of that name here; the one that is served is {model.name}.")
        if version is not None and version != str(model.version):
            raise HTTPException(404, f"{model.name} is served in version {model.version} only.")
        return model

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Do it in the thread, after what came before.

        Raises:
            HTTPException: 503 where it was not done in time.
        """
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await asyncio.get_running_loop().run_in_executor(self.thread, work)
        except TimeoutError:
            raise HTTPException(503, "The service is too busy to answer in time; try again shortly.", RETRY) from None


async def _service(request: Request) -> Service:
    return request.app.state.service


TheService = Annotated[Service, Depends(_service)]
