"""Enforce the request limits, add security headers, and record metrics, before and after the routes."""

import asyncio
import base64
import hashlib
import json
import logging
import re
import time
from collections.abc import Iterable
from contextlib import suppress

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cifar10.serving.limits import Limits
from cifar10.serving.metrics import Metrics
from cifar10.serving.service import RETRY_AFTER

logger = logging.getLogger(__name__)

INTERNAL_ERROR = "Internal server error; see the log of the service."
DISCARD_SECONDS = 2.0  # many clients read a response only after they have sent their whole request
GZIP = b"\x1f\x8b"  # with which a compressed body begins, and neither a form nor JSON
DOCS_PATH = "/docs"
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class _DisconnectError(Exception):
    """The client disconnected before its request was complete."""


class LimitsMiddleware:
    """Reads the request body before the routes run, and rejects requests that exceed the limits.

    GET and HEAD requests without a body do not count as concurrent, so that health checks and metrics work under any
    load. HEAD is handled as GET, and the server drops the body. Unexpected errors are logged, and the client gets no
    details.

    Args:
        app: the application with the routes.
        limits: limits of requests.
        metrics: records every response.
        page: HTML whose inline script and style the content security policy allows.
        viewer: likewise, of `DOCS_PATH`, whose policy also allows scripts and styles that are files of this service.
    """

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, page: str, viewer: str) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._policy = content_security_policy(page)
        self._viewer_policy = content_security_policy(viewer, "'self'")
        self._concurrent_requests = 0
        self._buffered_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request; other ASGI events go to the application unchanged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        start, status, body_ended = time.perf_counter(), 0, False
        policy = self._viewer_policy if scope["path"] == DOCS_PATH else self._policy
        extra_headers = [*SECURITY_HEADERS, (b"content-security-policy", policy.encode())]

        async def receive_until_the_end() -> Message:
            nonlocal body_ended
            message = await receive()
            body_ended = not message.get("more_body", False)
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *extra_headers]}
            await send(message)

        self._metrics.request_started()
        try:
            await self._limited(scope, receive_until_the_end, send_with_headers)
        except HTTPException as error:
            await _send_error(error, None if body_ended else receive, send_with_headers)
        except _DisconnectError:
            status = 499  # nginx's status for a closed connection; it only appears in the metrics
        except Exception:
            logger.exception("A request to %s failed.", _route_template(scope))
            if not status:
                failure = HTTPException(500, INTERNAL_ERROR)
                await _send_error(failure, None if body_ended else receive, send_with_headers)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.request_finished(scope["method"], _route_template(scope), status, seconds)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, with the whole body read in advance if there is one."""
        if scope["method"] == "GET" and _has_no_body(scope["headers"]):
            await self._app(scope, receive, send)
            return
        if self._concurrent_requests >= self._limits.max_concurrent_requests:
            raise HTTPException(503, "Too many concurrent requests; retry shortly.", RETRY_AFTER)
        chunk_sizes: list[int] = []
        self._concurrent_requests += 1
        try:
            body = [await self._read_body(scope, receive, chunk_sizes)]
            encoding = dict(scope["headers"]).get(b"content-encoding", b"identity").strip().lower()
            if encoding not in (b"", b"identity") or body[0].startswith(GZIP):
                raise HTTPException(
                    415, "The request body is compressed; send it uncompressed.", {"Accept-Encoding": "identity"}
                )

            async def receive_body() -> Message:
                if body:
                    return {"type": "http.request", "body": body.pop(), "more_body": False}
                return await receive()

            await self._app(scope, receive_body, send)
        finally:
            self._concurrent_requests -= 1
            self._buffered_bytes -= sum(chunk_sizes)

    async def _read_body(self, scope: Scope, receive: Receive, chunk_sizes: list[int]) -> bytes:
        """Return the whole body, and append the size of each received chunk to `chunk_sizes`.

        Raises:
            HTTPException: 413 if it is too large, 408 if it is too slow, 503 if too many bytes are buffered.
            _DisconnectError: the client disconnected.
        """
        max_bytes = self._limits.max_body_bytes
        too_large = HTTPException(413, f"The request body is too large: the limit is {max_bytes:,} bytes.")
        if _content_length(scope["headers"]) > max_bytes:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _DisconnectError
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > max_bytes:
                        raise too_large
                    chunk_sizes.append(len(chunk))
                    self._buffered_bytes += len(chunk)
                    if self._buffered_bytes > max(self._limits.max_buffered_bytes, max_bytes):
                        raise HTTPException(503, "Too much data is being uploaded; retry shortly.", RETRY_AFTER)
                    body += chunk
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise HTTPException(
                408, f"The request body did not arrive within {self._limits.timeout_seconds:g} seconds."
            ) from None


def content_security_policy(page: str, *files: str) -> str:
    """Return a policy that allows the inline style and script of this page, and requests to this service.

    Args:
        page: HTML.
        files: sources of other scripts and styles.
    """
    return "; ".join(
        [
            "default-src 'none'",
            " ".join(["script-src", *files, *_content_hashes(page, "script")]),
            " ".join(["style-src", *files, *_content_hashes(page, "style")]),
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _content_hashes(page: str, tag: str) -> list[str]:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in contents]


def _has_no_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    fields = dict(headers)
    return fields.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in fields


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the content length, or 0 if it is missing or invalid: the received bytes are counted in any case."""
    length = dict(headers).get(b"content-length", b"0")
    return int(length) if length.isdigit() and len(length) < 20 else 0


def _route_template(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "none")


async def _send_error(error: HTTPException, receive: Receive | None, send: Send) -> None:
    """Send an error response and close the connection, after reading and discarding what is left of the request.

    Args:
        error: its status, message and headers.
        receive: receives what is left, which is read for a while; None if the request has been received completely.
        send: sends the response.
    """
    content = json.dumps({"error": error.detail}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
        *((name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()),
    ]
    await send({"type": "http.response.start", "status": error.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": receive is not None})
    if receive is None:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
