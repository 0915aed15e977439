"""uvicorn's connections, with bounds that it has none of with httptools, and bodies where it would take none."""

import asyncio
import json

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64_000
HEAD_SECONDS = 10.0  # for a head to arrive, and the first one of a connection to begin
ANSWER_SECONDS = 10.0  # for a client to take what has piled up of its answers
MOST_PIPELINED = 16  # requests of a connection that come before the one ahead of them is answered


class BoundedConnection(HttpToolsProtocol):
    """Closes where a head does not end, where requests or answers pile up, and answers in JSON what is no HTTP.

    What is no body counts as head: trailers after a body too, and the marks around its chunks, which may take as much
    as the body itself. Offers to go over to another protocol, as Java's clients make them with their first request,
    are not taken up, and what they come with is answered as HTTP/1.1 (RFC 9110, 7.8).
    """

    _requests = 0  # that have begun
    _heads = 0  # that have come whole
    _in_head = True
    _head_bytes = 0  # of the request that is coming
    _body_bytes = 0
    _deadline: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None  # the clock for the client to read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the clock for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Set the clock for a client that does not read."""
        super().pause_writing()
        self._reader = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop it."""
        super().resume_writing()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and set the clock for one that is not whole."""
        in_head, heads, requests, body_bytes = self._in_head, self._heads, self._requests, self._body_bytes
        self._unset_keepalive_if_required()
        self._parse(data)
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

    def _parse(self, data: bytes) -> None:
        try:
            while True:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as offer:
                    self._decline()
                    data = data[offer.args[0] :]
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, asyncio.QueueFull):
                self.transport.close()  # its client is to send again what has no answer (RFC 9112, 9.3.2)
            else:
                self.send_400_response("Invalid HTTP request received.")

    def _decline(self) -> None:
        """Begin a request anew without its offer of an upgrade, after which httptools would take no body."""
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserError
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        others = [b"%b: %b" % line for line in self.headers if line[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parser.feed_data(b"\r\n".join([first, *others, b"", b""]))

    def on_message_begin(self) -> None:
        """Count anew."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise asyncio.QueueFull
        super().on_message_begin()
        self._requests += 1
        self._head_bytes = self._body_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        if self.parser.should_upgrade():
            return  # it will come again without that
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
        if self.parser.should_upgrade():
            return
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
