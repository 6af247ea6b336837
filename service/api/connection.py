"""One HTTP connection: uvicorn's protocol with bounds, and with an answer to every request."""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api import exchange
from service.api.errors import MalformedRequestError
from service.api.exchange import ClosingTransport, Cycle, Flow
from service.api.http_request import REFUSED, WHOLE_BODY
from service.api.request_heads import MOST_HEADERS, TOO_MANY_HEADERS, check_head, refusal_of
from service.errors import ServiceError

LINGER_SECONDS = 0.5
"""How long, at a stop, a connection without a request stays open for one that may be coming."""

_MOST_UNUSED_BYTES = 64 * 1024
"""Most bytes in a row that are neither a body nor the end of a request."""

_PIECE = 2048
"""Bytes parsed at once where they may hold many requests: the parser cannot be stopped between."""

_DISCARD_SECONDS, _DISCARD_BYTES = 5.0, 256 * 2**20
"""How long, and how much, a client may go on sending after the answer that ends its connection."""

_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.02, 0.5
"""How often to look whether a client that ended its side is gone: at first, and at the longest."""


class Protocol(HttpToolsProtocol):
    """One connection; bounds what uvicorn would collect, or wait for, without end.

    Requests that are not valid HTTP are given to the application too, marked by `REFUSED`: they
    are answered, counted and logged as any other, in their turn, and are the last of a connection.
    """

    flow: Flow
    head_since: float | None = None
    """Loop time from which the head of a request is awaited; None while none is."""
    _unused_bytes = 0
    _body_left = 0
    """Bytes of the body that are still to come, where its length is known."""
    _receives = False
    """Whether a request has begun to come and is not complete."""
    _is_deaf = False
    """Whether nothing more is parsed, after a refusal."""
    _discarded: int | None = None
    """Bytes read and dropped since the last answer; None while the connection is not closing."""
    _unread = 0, 0.0
    """Bytes that waited to be sent, and since when it was that many."""
    _answering: RequestResponseCycle | None = None
    """The request that the application is answering; uvicorn's `cycle` is the one received last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first head."""
        self.head_since = self.loop.time()
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self._closing = ClosingTransport(transport, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have what is being answered cancelled, and drop what waits."""
        if (cycle := self._answering) is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._drop_pipeline()
        self._closing.close = _nothing  # it refers to this connection, which refers to it
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while earlier requests or their answers wait."""
        if self._is_deaf:
            self._discard(len(data))
        elif self.flow.held or self.flow.must_wait:
            self.flow.hold(data)
        else:
            self._parse(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what was asked before the client ended its side; return whether there is any.

        Whether the client only waits, or has gone, shows when something is sent to it.
        """
        cycle = self._answering
        if self._discarded is not None:
            return False
        is_asked = bool(self.flow.held) if cycle is None else not cycle.more_body
        if not is_asked or exchange.tcp_state(self.transport) is None:
            return False
        self.flow.ending = self.flow.is_half_closed = True
        self._drop_incomplete()
        if isinstance(cycle, Cycle):
            cycle.begin()
        self._look_whether_gone(_FIRST_LOOK_SECONDS)
        return True

    def resume_writing(self) -> None:
        """Go on with what was held until the client read its answers."""
        super().resume_writing()
        self._go_on()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        self._unset_keepalive_if_required()
        self.head_since, self._receives = self.loop.time(), True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait no longer; have the answer sent our way."""
        method = self.parser.get_method().decode("ascii")
        length = check_head(self.parser.get_http_version(), method, self.headers)
        if self.parser.should_upgrade():
            return  # the parser will say so once more, and `_parse_without_offer` has it repeated
        self.head_since, self._body_left = None, length or 0
        waiting = len(self.pipeline)
        super().on_headers_complete()
        self.headers = []  # the scope has its own; trailers are not headers
        self.cycle.__class__ = Cycle  # uvicorn knows of no other; the answer has not begun
        self.cycle.transport = self._closing  # type: ignore[assignment]
        if len(self.pipeline) == waiting:
            self._answering = self.cycle
        else:
            self.flow.resume_reading()  # so as to see the client leave; what is held is bounded

    def on_body(self, body: bytes) -> None:
        """Leave the size of a body to the application."""
        self._unused_bytes = 0
        self._body_left -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew; tell that the body waits for no one."""
        self._unused_bytes = 0
        if self.parser.should_upgrade():
            return
        self._receives = False
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        super().on_message_complete()
        self.cycle.more_body = False
        self.cycle.keep_alive &= self.parser.should_keep_alive()  # a trailer may say so too

    def on_response_complete(self) -> None:
        """Go on with the next request, or close the connection once there can be none."""
        if self._discarded is not None:  # that was the last answer of this connection
            self.server_state.total_requests += 1
            self._drop_pipeline()
            return
        self._answering = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if self._receives:
            self._unset_keepalive_if_required()
        self._go_on()

    def shutdown(self) -> None:
        """End the connection with the next answer that can say so, or a while after the last."""
        self.flow.ending = True
        if self.is_idle():
            self._linger()

    def is_idle(self) -> bool:
        """Tell whether no request is being received or answered."""
        return self._answering is None and not self._receives and not self.flow.held

    def unread_since(self, now: float) -> float:
        """Return since when the client has taken nothing of what waits to be sent.

        Args:
            now: loop time; returned if nothing waits, or some was taken since the last call.
        """
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread[0]:
            self._unread = unread, now
        return self._unread[1]

    def _go_on(self) -> None:
        if self.transport.is_closing() or self._discarded is not None:
            return
        if self.flow.held and not self.flow.must_wait:
            data = bytes(self.flow.held)
            self.flow.held.clear()
            self._parse(data)
            self.flow.resume_reading()
            if self.flow.is_half_closed:
                self._drop_incomplete()
        if self.flow.ending and self._answering is None:
            if self.flow.is_half_closed:
                self.transport.close()
            elif self.is_idle():
                self._linger()

    def _drop_pipeline(self) -> None:
        for waiting, _ in self.pipeline:
            waiting.on_response = _nothing  # it refers to this connection, which refers to it
        self.pipeline.clear()
        self.flow.held.clear()
        self._answering = None

    def _drop_incomplete(self) -> None:
        """Drop a request whose body will never be complete, once nothing before it is held."""
        cycle = self.cycle
        if self.flow.held or not cycle.more_body or cycle.response_complete:
            return
        if self.pipeline:
            self.pipeline.popleft()
            cycle.on_response = _nothing
        else:
            self.transport.close()

    def _close(self) -> None:
        """Close the connection after an answer, but not while the client still sends.

        Closing a socket with unread bytes resets the connection, and the client may lose the
        answer (RFC 9112, 9.6). So the answer's end is told, and what still comes is dropped.
        """
        if not (self._receives or self._is_deaf) or self.flow.is_half_closed:
            self.transport.close()
        elif self._discarded is None:
            self._is_deaf, self._discarded, self.head_since = True, 0, None
            self._receives = False
            self.flow.held.clear()
            self.transport.write_eof()
            self.flow.resume_reading()
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                _DISCARD_SECONDS, self.timeout_keep_alive_handler
            )

    def _discard(self, size: int) -> None:
        """Count what is read after the last answer; close when it is too much."""
        if self._discarded is not None:
            self._discarded += size
            if self._discarded > _DISCARD_BYTES:
                self.transport.close()

    def _linger(self) -> None:
        """Leave the client some time for one more request, which may be on its way."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            LINGER_SECONDS, self.timeout_keep_alive_handler
        )

    def _look_whether_gone(self, delay: float) -> None:
        if self.transport.is_closing():
            return
        if exchange.tcp_state(self.transport) == exchange.TCP_CLOSE:
            self.transport.abort()
        else:
            self.loop.call_later(delay, self._look_whether_gone, min(2 * delay, _LOOK_SECONDS))

    def _parse(self, data: bytes) -> None:
        """Parse bytes, in pieces that hold few requests; keep the rest once requests wait."""
        if len(data) <= _PIECE:
            self._feed(data)
            return
        left = memoryview(data)
        while left and not self._is_deaf:
            if self.flow.must_wait:
                self.flow.hold(left)
                return
            size = max(_PIECE, self._body_left)
            self._feed(left[:size])
            left = left[size:]

    def _feed(self, data: bytes | memoryview) -> None:
        self._unused_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._parse_without_offer(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(*refusal_of(error))
        else:
            if self._unused_bytes > _MOST_UNUSED_BYTES:
                self._refuse(MalformedRequestError, "the head of the request is too long")
            elif len(self.headers) > MOST_HEADERS:  # of an incomplete head, or trailers
                self._refuse(MalformedRequestError, TOO_MANY_HEADERS)

    def _parse_without_offer(self, rest: bytes | memoryview) -> None:
        """Parse a head again without the header Upgrade, and then what follows it.

        The parser takes what follows an offered upgrade for another protocol's. No offer is
        taken here, and the request is to be answered as if it had made none (RFC 9110, 7.8).
        """
        lines = [
            b"%b %b HTTP/%b"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        # The one there was has come to its end, if the connection is to be closed.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([*lines, b"", bytes(rest)]))

    def _refuse(self, kind: type[ServiceError], detail: str) -> None:
        """Have the request that cannot be parsed refused, after those before it."""
        self._is_deaf, self._receives, self.head_since = True, False, None
        self.flow.ending = True
        self.flow.held.clear()
        if self.cycle is None or not self.cycle.more_body:
            self._start(exchange.refused_cycle(self, self._closing, (kind, detail)))
        elif self.cycle.response_started:
            self.transport.close()
        else:
            self.cycle.scope[REFUSED] = kind, detail  # type: ignore[literal-required]
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def _start(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        if self._answering is None:
            self._answering = cycle
            self._unset_keepalive_if_required()
            self._start_asgi_task(cycle, self.app)
        else:
            self.pipeline.appendleft((cycle, self.app))


def _nothing() -> None:
    """Take note that an answer nobody waits for is complete."""
