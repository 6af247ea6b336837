"""One request of a connection, its response in one write, and flow control."""

import asyncio
import socket
from collections.abc import Callable, Sized
from math import inf
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.api.http_request import REFUSED, WHOLE_BODY
from service.api.tls_transport import TlsTransport
from service.errors import ServiceError

_MOST_HELD = 64 * 1024
"""Bytes held for later requests above which the connection is not read."""

_END_OF_HEAD = b"\r\n\r\n"
"""It also ends a chunked body."""

_LEAST_PART, _MOST_PART = 48, 2048
"""Bytes parsed at once that may hold the ends of requests: the parser cannot stop between them."""

_TOO_MANY_REQUESTS = 429
_AGAIN_SECONDS = 1.0
"""The shortest Retry-After: a client that asks earlier after a refusal waits for the others."""

_TCP_CLOSE = 7
"""Linux's state of a connection that was reset."""

_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.02, 0.5
"""First and longest interval between checks whether a half-closed connection was reset."""

_BEGINNING = b"HTTP/1.1 "
"""First bytes of every response."""


class Cycle(RequestResponseCycle):
    """A request and its response. A head with Content-Length is sent together with its body.

    uvicorn writes head and body apart, which costs two system calls, and wakes the client for the
    head alone. It also checks each header for line ends; here they are checked all at once. Both
    cost a sixth of what the event loop does for a small request.
    """

    flow: "Flow"
    _held: "tuple[Any, int] | None" = None
    """A head that waits for its body, and the length of the body."""

    async def send(self, message: Any) -> None:
        """Send an ASGI message. Raises RuntimeError for one that cannot be sent."""
        if message["type"] == "http.response.start" and not self.response_started:
            self.flow.note(message["status"])
            if self.flow.ending and self.flow.is_last:
                self.keep_alive = False
            length = None if self.scope["method"] == "HEAD" else _length(message)
            if length is None:
                self._held = None
                await super().send(message)
            else:
                self._held = message, length
            return
        held, self._held = self._held, None
        if held is None:
            await super().send(message)
            return
        start, length = held
        body = message.get("body", b"")
        if message.get("more_body") or len(body) != length or self.flow.write_paused:
            await super().send(start)
            await super().send(message)
        elif not self.disconnected:
            self._send_whole(start, body)

    def probe(self) -> None:
        """Send bytes that change nothing: a client that is gone answers with a reset.

        Before the response it is what every response begins with. In a chunked response it is a
        zero before the size of the next chunk, which may have any number of them (RFC 9112, 7.1).
        """
        if self.flow.write_paused or self.response_complete:
            return
        if not self.response_started:
            self.waiting_for_100_continue = False
            self.transport.write(_BEGINNING)
            self.transport = _Begun(self.transport)  # type: ignore[assignment]
        elif self.chunked_encoding:
            self.transport.write(b"0")

    def _send_whole(self, start: Any, body: bytes) -> None:
        lines = [STATUS_LINE[start["status"]]]
        for header in (*self.default_headers, *start["headers"]):
            lines.append(b"%b: %b\r\n" % header)
            if header == (b"connection", b"close"):
                self.keep_alive = False
        if not self.keep_alive and b"connection: close\r\n" not in lines:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise RuntimeError("a header has the end of a line in it")
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"%b\r\n%b" % (head, body))
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class _Begun:
    """A transport on which the first bytes of the next response have been written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._skipped = len(_BEGINNING)

    def write(self, data: bytes) -> None:
        """Write all but the first bytes."""
        self._transport.write(data[self._skipped :])
        self._skipped = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class ClosingTransport:
    """A connection's transport for its cycles: `close` is the protocol's, which may wait."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport, self.write, self.close = transport, transport.write, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Flow(FlowControl):
    """Pauses and resumes reading; shared by the protocol and its cycles."""

    ending = False
    """Whether no request is expected after those that wait."""
    is_half_closed = False
    """Whether the client has closed its side."""
    _refused_at = -inf
    """Loop time of the last response, if it was a refusal for too much work."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline
        self.held = bytearray()
        """Received bytes that are parsed when earlier requests have been answered."""

    def note(self, status: int) -> None:
        """Note the status of a response."""
        is_refused = status == _TOO_MANY_REQUESTS
        self._refused_at = asyncio.get_running_loop().time() if is_refused else -inf

    @property
    def asks_too_soon(self) -> bool:
        """Return whether a request that begins now comes soon after a refusal."""
        return asyncio.get_running_loop().time() < self._refused_at + _AGAIN_SECONDS

    def resume_reading(self) -> None:
        """Resume reading, unless many bytes are held or the client has closed its side."""
        if len(self.held) <= _MOST_HELD and not self.is_half_closed:
            super().resume_reading()

    def pause_if_full(self) -> None:
        """Pause reading if many bytes are held."""
        if len(self.held) > _MOST_HELD and not self.is_half_closed:
            self.pause_reading()

    @property
    def must_wait(self) -> bool:
        """Return whether requests or responses wait, so that nothing more is parsed."""
        return bool(self._pipeline) or self.write_paused

    @property
    def is_last(self) -> bool:
        """Return whether the request being answered is the last of its connection."""
        return self.ending and not self._pipeline and not self.held


def is_one_part(data: bytes, body_left: int) -> bool:
    """Return whether received bytes can be parsed at once; they hold the end of one head at most.

    `body_left` is the number of bytes of a body that have yet to arrive.
    """
    return len(data) <= body_left or (len(data) <= _MOST_PART and data.count(_END_OF_HEAD) <= 1)


def end_of_part(held: bytearray, body_left: int) -> int:
    """Return how many bytes to parse at once: a body, or about a head."""
    if body_left:
        return body_left
    end = held.find(_END_OF_HEAD, _LEAST_PART, _MOST_PART)
    return _MOST_PART if end < 0 else end + len(_END_OF_HEAD)


def refused_cycle(
    protocol: HttpToolsProtocol,
    transport: ClosingTransport,
    refused: tuple[type[ServiceError], str],
) -> Cycle:
    """Return a request in place of one that could not be parsed, to be answered by a refusal.

    Args:
        protocol: the connection.
        transport: the connection's transport.
        refused: the kind of the error, and its detail.
    """
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "_other_",
        "path": "",
        "query_string": b"",
        "headers": [],
        "server": protocol.server,
        "client": protocol.client,
        "scheme": protocol.scheme,
        "root_path": protocol.root_path,
        "state": protocol.app_state.copy(),
        REFUSED: refused,
        WHOLE_BODY: True,
    }
    cycle = Cycle(
        scope=scope,  # type: ignore[arg-type]
        transport=transport,  # type: ignore[arg-type]
        flow=protocol.flow,
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=False,
        default_headers=protocol.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=False,
        on_response=protocol.on_response_complete,
    )
    cycle.more_body = False
    cycle.message_event.set()
    return cycle


def _length(start: Any) -> int | None:
    """Return the Content-Length of a head, if it has one."""
    for name, value in start["headers"]:
        if name == b"content-length":
            return int(value)
    return None


def nothing() -> None:
    """Ignore that the response of a dropped request is complete."""


def unread(transport: asyncio.Transport) -> int:
    """Return 0 if the client has read what was written, else a number that changes as it reads."""
    if isinstance(transport, TlsTransport):
        return transport.unread()
    return transport.get_write_buffer_size()


def tcp_state(transport: asyncio.Transport) -> int | None:
    """Return Linux's state of a TCP connection; None on other systems and over TLS."""
    if not transport.can_write_eof():
        return None
    try:
        of_socket = transport.get_extra_info("socket")
        return int(of_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])
    except (OSError, AttributeError):
        return None


def abort_when_reset(transport: asyncio.Transport, delay: float = _FIRST_LOOK_SECONDS) -> None:
    """Abort a half-closed connection once its client has reset it. Checks until it is closed."""
    if transport.is_closing():
        return
    if tcp_state(transport) == _TCP_CLOSE:
        transport.abort()
    else:
        later = asyncio.get_running_loop().call_later
        later(delay, abort_when_reset, transport, min(2 * delay, _LOOK_SECONDS))
