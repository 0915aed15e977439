"""HTTP/1.1 connections with limits that uvicorn does not offer, and with support for declined upgrade requests."""

import asyncio
import json

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64_000
HEADER_TIMEOUT = 10.0  # seconds for the headers of a request, the first ones of a new connection included
WRITE_TIMEOUT = 10.0  # seconds for a client to read, once the write buffer of its connection is full
MAX_PIPELINED_REQUESTS = 16  # requests of a connection that wait for the response to an earlier one


class BoundedConnection(HttpToolsProtocol):
    """A uvicorn connection that limits the request headers, pipelined requests and unread responses.

    Everything in a request except its body counts as headers: also the trailers, and the chunk sizes of a chunked body,
    which may take as many bytes as the body itself. Invalid HTTP gets a JSON response.

    Requests to upgrade to another protocol are declined and answered as plain HTTP/1.1 (RFC 9110, section 7.8): Java's
    HTTP client offers HTTP/2 in its first request. After an upgrade request, httptools would ignore the body.

    This class depends on internals of uvicorn and was tested with uvicorn 0.54.0 and httptools 0.9.0. The tests in
    tests/serving/test_connection.py must pass before either is updated.
    """

    _requests_started = 0
    _headers_received = 0  # number of requests whose headers are complete
    _in_headers = True
    _header_bytes = 0  # of the current request
    _body_bytes = 0  # of the current request
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first headers."""
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts."""
        self._cancel_header_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read its responses."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the timeout for a client that does not read its responses."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def data_received(self, data: bytes) -> None:
        """Parse the data, count its header bytes, and start the timeout for incomplete headers."""
        in_headers, headers_received = self._in_headers, self._headers_received
        requests_started, body_bytes = self._requests_started, self._body_bytes
        self._unset_keepalive_if_required()
        self._parse(data)
        if self.transport.is_closing():
            return
        if in_headers and headers_received == self._headers_received:
            self._start_header_timer()
        if requests_started == self._requests_started:  # no new request has begun within this data
            self._header_bytes += len(data) - (self._body_bytes - body_bytes)
        if self._header_bytes <= MAX_HEADER_BYTES + self._body_bytes:
            return
        if self._in_headers:
            self._reject(f"The request headers are too large: the limit is {MAX_HEADER_BYTES:,} bytes.")
        else:
            self.transport.close()  # the response may have started

    def _parse(self, data: bytes) -> None:
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    self._decline_upgrade()
                    data = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            self._reject("Invalid HTTP request received.")

    def _reject(self, message: str) -> None:
        """Close the connection, after an error response unless the client would take it for that to another request."""
        if self._earlier_response_is_pending():
            self.transport.close()  # the client must retry requests that got no response (RFC 9112, section 9.3.2)
        else:
            self.send_400_response(message)

    def _earlier_response_is_pending(self) -> bool:
        """Return whether a request before the one that is being received has no complete response yet."""
        if not self._in_headers:  # `cycle` is of the request that is being received
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def _decline_upgrade(self) -> None:
        """Parse the headers of the current request again without the upgrade, with a new parser."""
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError
        request_line = b"%b %b HTTP/%b" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
        )
        headers = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        self.parser.feed_data(b"\r\n".join([request_line, *headers, b"", b""]))

    def on_message_begin(self) -> None:
        """Reset the counters for a new request."""
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            raise asyncio.QueueFull
        super().on_message_begin()
        self._requests_started += 1
        self._header_bytes = self._body_bytes = 0

    def on_headers_complete(self) -> None:
        """Cancel the header timeout."""
        if self.parser.should_upgrade():
            return  # `_decline_upgrade` parses the headers again
        super().on_headers_complete()  # raises for an invalid URL
        self._in_headers = False
        self._headers_received += 1
        self._cancel_header_timer()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the headers of another request; uvicorn's keep-alive timeout applies until they begin."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._in_headers = True

    def send_400_response(self, msg: str) -> None:
        """Send an error response to a request that did not reach the application, and close the connection."""
        content = json.dumps({"error": msg}).encode()
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(HEADER_TIMEOUT, self._end_header_timer)

    def _end_header_timer(self) -> None:
        self._header_timer = None
        if self._earlier_response_is_pending():
            self._start_header_timer()
        else:
            self.transport.close()

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
