"""What stands before the routes: every byte of a request and every header of an answer passes here."""

import asyncio
import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterable

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cifar10.serving.limits import Limits
from cifar10.serving.metrics import Metrics
from cifar10.serving.service import RETRY

logger = logging.getLogger(__name__)

LINGER = 2.0  # seconds; a client that is still sending has its answer only if it is not cut off at once
DOCS = "/docs"  # FastAPI's viewer comes from the net, which the policy of all else forbids
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class _GoneError(Exception):
    """The client left before its request was whole."""


class Gate:
    """Collects a request's body before the routes see it, and answers by itself what is too large, slow or much.

    Requests that only read do not count as waiting, so that health and metrics are answered whatever the load; HEAD is
    answered as GET, of which the server sends the head alone. What the routes did not foresee is logged, and answered
    without a word of it.

    Args:
        app: the routes.
        limits: on bodies.
        metrics: are told of every answer.
        page: the HTML whose one script and one style the content security policy lets run.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, page: str) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._policy = (b"content-security-policy", content_security_policy(page).encode())
        self._waiting = 0
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the rest of ASGI is the routes'."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        begun, status = time.perf_counter(), 0
        headers = HEADERS if scope["path"] == DOCS else [*HEADERS, self._policy]

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        self._metrics.begun()
        try:
            await self._let_through(scope, receive, send_safely)
        except HTTPException as refusal:
            await _refuse(refusal, receive, send_safely)
        except _GoneError:
            status = 499  # nginx's number for it; nobody is there to read it
        except Exception:
            logger.exception("A request to %s failed.", _template(scope))
            if not status:
                await _refuse(HTTPException(500, "Something went wrong here; the log has it."), receive, send_safely)
        finally:
            self._metrics.answered(scope["method"], _template(scope), status, time.perf_counter() - begun)

    async def _let_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and _has_no_body(scope["headers"]):
            await self._app(scope, receive, send)
            return
        if self._waiting >= self._limits.most_waiting:
            raise HTTPException(503, "Too many requests are waiting already; try again shortly.", RETRY)
        held: list[int] = []
        self._waiting += 1
        try:
            body = [await self._collect(scope, receive, held)]

            async def replay() -> Message:
                if body:
                    return {"type": "http.request", "body": body.pop(), "more_body": False}
                return await receive()

            await self._app(scope, replay, send)
        finally:
            self._waiting -= 1
            self._held -= sum(held)

    async def _collect(self, scope: Scope, receive: Receive, held: list[int]) -> bytes:
        """The whole body; `held` is told of every piece of it.

        Raises:
            HTTPException: 413, it is too large; 408, it is too slow; 503, there are too many at once.
            _GoneError: the client left.
        """
        most = self._limits.most_bytes
        too_large = HTTPException(413, f"The request is too large: it may have up to {most:,} bytes.")
        if _announced(scope["headers"]) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    piece = message.get("body", b"")
                    if len(body) + len(piece) > most:
                        raise too_large
                    held.append(len(piece))
                    self._held += len(piece)
                    if self._held > max(self._limits.most_held_bytes, most):
                        raise HTTPException(503, "Too much has been sent here at once; try again shortly.", RETRY)
                    body += piece
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise HTTPException(
                408, f"The request did not arrive whole within {self._limits.seconds:g} seconds."
            ) from None


def content_security_policy(page: str) -> str:
    """Nothing but the style and the script that stand in that page, and what comes from this service."""
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {_hashes(page, 'script')}",
            f"style-src {_hashes(page, 'style')}",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashes(page: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"


def _has_no_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    given = dict(headers)
    return given.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in given


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The length that the head of a request announces; 0 where it says none, for then the bytes are counted."""
    length = dict(headers).get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _template(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")


async def _refuse(refusal: HTTPException, receive: Receive, send: Send) -> None:
    """Answer and close the connection, but take in a while what is still being sent: a client reads only then."""
    content = json.dumps({"error": refusal.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in (refusal.headers or {}).items()),
    ]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    try:
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
