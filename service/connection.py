"""One HTTP connection: uvicorn's protocol with bounds, and with answers that leave in one piece."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.api.call import WHOLE_BODY

_MOST_UNUSED_BYTES = 64 * 1024
"""Most bytes in a row that are neither a body nor the end of a request."""


class Cycle(RequestResponseCycle):
    """A request and its answer. A head that tells how long its body is leaves together with it.

    uvicorn writes the two apart: two system calls, and a client that is woken for a head alone.
    It also searches each header for what may not be in one; here all are searched at once. Both
    took a sixth of what the event loop does for a small request.
    """

    _held: "tuple[Any, int] | None" = None
    """A head that waits for its body, and the length it tells of it."""

    async def send(self, message: Any) -> None:
        """Take an ASGI message. Raises RuntimeError for one that cannot be sent."""
        if message["type"] == "http.response.start" and not self.response_started:
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


class Protocol(HttpToolsProtocol):
    """One connection; bounds what uvicorn would collect, or wait for, without end."""

    head_since: float | None = None
    """Loop time from which the head of a request is awaited; None while none is."""
    _unused_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first head."""
        self.head_since = self.loop.time()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse a head, or trailers, that have no end."""
        self._unused_bytes += len(data)
        super().data_received(data)
        if self._unused_bytes > _MOST_UNUSED_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        self.head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer; have the answer sent our way."""
        self.head_since = None
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not None and self.cycle is not before:
            self.cycle.__class__ = Cycle  # uvicorn knows of no other; the answer has not begun

    def on_body(self, body: bytes) -> None:
        """Leave the size of a body to the application."""
        self._unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew; tell that the body waits for no one."""
        self._unused_bytes = 0
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def is_idle(self) -> bool:
        """Tell whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete


def _length(start: Any) -> int | None:
    """Return what a head says of its body's length."""
    for name, value in start["headers"]:
        if name == b"content-length":
            return int(value)
    return None
