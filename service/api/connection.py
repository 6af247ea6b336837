"""One HTTP connection: uvicorn's protocol with limits, and a response to every request."""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api import exchange
from service.api.errors import MalformedRequestError
from service.api.exchange import ClosingTransport, Cycle, Flow, end_of_part, is_one_part
from service.api.http_request import REFUSED, WHOLE_BODY
from service.api.request_heads import MOST_HEADERS, TOO_MANY_HEADERS, check_head, refusal_of
from service.api.tls_transport import wrapped
from service.api.turns import Turns
from service.errors import ServiceError

LINGER_SECONDS = 0.5
"""Seconds that an idle connection stays open at a stop, for a request that may be on its way."""

_MOST_UNUSED_BYTES = 64 * 1024
"""Largest number of bytes in a row that are neither a body nor the end of a request."""

_MOST_PARTS = 256
"""Parts of a chunked body that are parsed before the event loop runs other callbacks."""

_DISCARD_SECONDS, _DISCARD_BYTES = 5.0, 256 * 2**20
"""Seconds and bytes that a client may still send after the last response of its connection."""


class Protocol(HttpToolsProtocol):
    """One connection. Limits what uvicorn would buffer or wait for without limit.

    Requests that are not valid HTTP are passed to the application too, marked by `REFUSED`: they
    are answered, counted and logged in order like any other, and end the connection.
    """

    flow: Flow
    turns: Turns
    """Shared by all connections of a server."""
    head_since: float | None = None
    """Loop time since which the head of a request is awaited; None if none is."""
    _unused_bytes = 0
    _body_left = 0
    """Bytes of the body that have not arrived, if its length is known."""
    _parts = 0
    """Parts of a body received since the event loop ran other callbacks."""
    _receives = False
    """Whether a request is being received."""
    _is_deaf = False
    """Whether to parse nothing more, after a refusal."""
    _discarded: int | None = None
    """Bytes read and discarded since the last response; None if the connection is not closing."""
    _unread = 0, 0.0
    """Bytes in the write buffer, and the loop time since which their number has not changed."""
    _answering: RequestResponseCycle | None = None
    """The request that the application is answering; uvicorn's `cycle` is the latest received."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request head."""
        self.head_since = self.loop.time()
        transport = wrapped(transport)
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self._closing = ClosingTransport(transport, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request being answered, and drop those that wait."""
        if (cycle := self._answering) is not None:
            cycle.disconnected = True
            cycle.message_event.set()
        self._drop_pipeline()
        self._closing.close = exchange.nothing  # they refer to one another
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or hold them while earlier requests, of any connection, wait."""
        held = self.flow.held
        if self._is_deaf:
            self._discard(len(data))
        elif self._may_parse(data):
            self._feed(data)
        else:
            if not held:  # else it has asked, or waits for a response
                self.turns.ask(self._continue, self.flow.asks_too_soon)
            held += data
            self.flow.pause_if_full()

    def _may_parse(self, data: bytes) -> bool:
        can = not (self.flow.held or self.flow.must_wait) and is_one_part(data, self._body_left)
        return can and (self._body_left > 0 or (not self.flow.asks_too_soon and self.turns.take()))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return whether requests are left to answer after the client closed its side."""
        cycle = self._answering
        is_asked = bool(self.flow.held) if cycle is None else not cycle.more_body
        is_asked = is_asked and self._discarded is None
        if not is_asked or exchange.tcp_state(self.transport) is None:
            return False
        self.flow.ending = self.flow.is_half_closed = True
        self._settle_half_closed()
        exchange.abort_when_reset(self.transport)
        return True

    def resume_writing(self) -> None:
        """Continue with the bytes held until the client read its responses."""
        super().resume_writing()
        self.turns.ask(self._continue)

    def on_message_begin(self) -> None:
        """Start the timeout of the rest of a head."""
        self._unset_keepalive_if_required()
        self.head_since, self._receives = self.loop.time(), True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timeout of the head, and send the response by `Cycle`."""
        method = self.parser.get_method().decode("ascii")
        length = check_head(self.parser.get_http_version(), method, self.headers)
        if self.parser.should_upgrade():
            return  # HttpParserUpgrade follows, and `_parse_without_offer` parses again
        self.head_since, self._body_left = None, length or 0
        waiting = len(self.pipeline)
        super().on_headers_complete()
        self.headers = []  # the scope has its own; trailers are not headers
        self.cycle.__class__ = Cycle  # uvicorn cannot be given a class; the response has not begun
        self.cycle.transport = self._closing  # type: ignore[assignment]
        if len(self.pipeline) == waiting:
            self._answering = self.cycle
        else:
            self.flow.resume_reading()  # to notice a disconnect; the held bytes are limited

    def on_body(self, body: bytes) -> None:
        """Count the body; the application limits its size."""
        self._unused_bytes = 0
        self._body_left = max(0, self._body_left - len(body))
        self._parts += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Reset the count, and mark the body as complete."""
        self._unused_bytes = 0
        if self.parser.should_upgrade():
            return
        self._receives = False
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        super().on_message_complete()
        self.cycle.more_body = False
        self.cycle.keep_alive &= self.parser.should_keep_alive()  # a trailer may say so too

    def on_response_complete(self) -> None:
        """Continue with the next request, or close the connection if there can be none."""
        if self._discarded is not None:  # the last response of this connection
            self.server_state.total_requests += 1
            self._drop_pipeline()
            return
        if self.pipeline or self.flow.held:
            self.server_state.total_requests += 1
            self._answering = self.pipeline[-1][0] if self.pipeline else None
            self.turns.ask(self._continue, self.flow.asks_too_soon)
            return
        self._answering = None
        super().on_response_complete()
        if self._receives:
            self._unset_keepalive_if_required()
        self._go_on()

    def shutdown(self) -> None:
        """Close the connection with a response that can say so, or soon after the last one."""
        self.flow.ending = True
        if self.is_idle():
            self._linger()

    def is_idle(self) -> bool:
        """Return whether no request is being received or answered."""
        return self._answering is None and not self._receives and not self.flow.held

    def unread_since(self, now: float) -> float:
        """Return the loop time since which the client has read nothing of what was written.

        Args:
            now: loop time; returned if nothing is unread or that has changed since the last call.
        """
        unread = exchange.unread(self.transport)
        if not unread or unread != self._unread[0]:
            self._unread = unread, now
        return self._unread[1]

    def _continue(self) -> None:
        """Start the request that has waited longest, and parse what is held."""
        if self.pipeline and self.pipeline[-1][0] is self._answering:
            self._start_asgi_task(*self.pipeline.pop())
        self._go_on()

    def _go_on(self) -> None:
        if self.transport.is_closing() or self._discarded is not None:
            return
        self._parse_held()
        self.flow.resume_reading()
        if self.flow.is_half_closed:
            self._settle_half_closed()
        if self.flow.ending and self._answering is None:
            if self.flow.is_half_closed and not self.flow.held:
                self.transport.close()
            elif self.is_idle():
                self._linger()

    def _drop_pipeline(self) -> None:
        for waiting, _ in self.pipeline:
            waiting.on_response = exchange.nothing  # it and this connection refer to one another
        self.pipeline.clear()
        self.flow.held.clear()
        self._answering = None

    def _settle_half_closed(self) -> None:
        """Drop a request whose body can no longer arrive; probe whether the client still reads."""
        cycle = self.cycle
        if self._answering and not self.flow.held and cycle.more_body:
            if self.pipeline:
                self.pipeline.popleft()
                cycle.on_response = exchange.nothing
            else:
                self.transport.close()
        if isinstance(self._answering, Cycle):
            self._answering.probe()

    def _close(self) -> None:
        """Close the connection after a response; while the client still sends, only our side.

        Closing a socket with unread bytes resets it: the response may be lost (RFC 9112, 9.6).
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
        """Count bytes after the last response; close the connection if there are too many."""
        if self._discarded is not None:
            self._discarded += size
            if self._discarded > _DISCARD_BYTES:
                self.transport.close()

    def _linger(self) -> None:
        """Close the connection soon, unless a request arrives that was on its way."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            LINGER_SECONDS, self.timeout_keep_alive_handler
        )

    def _parse_held(self) -> None:
        """Parse held bytes part by part, until requests wait or other callbacks must run."""
        held, self._parts = self.flow.held, 0
        while held and not self._is_deaf and not self.flow.must_wait:
            if self._parts >= _MOST_PARTS:
                self.turns.ask(self._continue)
                return
            end = end_of_part(held, self._body_left)
            part = held[:end]
            del held[:end]
            self._feed(part)

    def _feed(self, data: bytes | bytearray) -> None:
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

    def _parse_without_offer(self, rest: bytes | bytearray) -> None:
        """Parse a head again without the header Upgrade, which is ignored (RFC 9110, 7.8).

        The parser stops after that header, because another protocol may follow.
        """
        lines = [
            b"%b %b HTTP/%b"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        # The old parser accepts nothing more if the connection is to be closed.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"\r\n".join([*lines, b"", rest]))

    def _refuse(self, kind: type[ServiceError], detail: str) -> None:
        """Refuse a request that cannot be parsed, after those before it are answered."""
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
