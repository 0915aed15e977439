"""uvicorn's connections, with bounds on the head of a request, which it has none of with httptools."""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64_000
HEAD_SECONDS = 10.0  # for a head to arrive, and the first one of a connection to begin


class BoundedConnection(HttpToolsProtocol):
    """Closes where a head does not end, and answers in JSON what is no HTTP.

    What is no body counts as head: trailers after a body too, and the marks around its chunks, which may take as much
    as the body itself.
    """

    _requests = 0  # that have begun
    _heads = 0  # that have come whole
    _in_head = True
    _head_bytes = 0  # of the request that is coming
    _body_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the clock for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and set the clock for one that is not whole."""
        in_head, heads, requests, body_bytes = self._in_head, self._heads, self._requests, self._body_bytes
        super().data_received(data)
        if self.transport.is_closing():
            return
        if in_head and heads == self._heads:
            self._wait_for_head()
        if requests == self._requests:  # all of it belongs to one
            self._head_bytes += len(data) - (self._body_bytes - body_bytes)
        if self._head_bytes <= MOST_HEAD_BYTES + self._body_bytes:
            return
        if self._in_head:
            self.send_400_response(f"The head of a request may have up to {MOST_HEAD_BYTES:,} bytes.")
        else:
            self.transport.close()  # an answer may have begun

    def on_message_begin(self) -> None:
        """Count anew."""
        super().on_message_begin()
        self._requests += 1
        self._head_bytes = self._body_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._in_head = False
        self._heads += 1
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count it."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin anew; until more comes it is uvicorn's clock for idle connections that runs."""
        super().on_message_complete()
        self._in_head = True

    def send_400_response(self, msg: str) -> None:
        """Answer what no route has seen, and close."""
        content = json.dumps({"error": msg}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
