"""The HTTP server: uvicorn, with a stop that loses nothing and bounds on who says nothing."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from service.connection import Protocol

_log = logging.getLogger(__name__)

_HEAD_SECONDS = 20.0
"""How long a client may take to send the head of a request, from the connection or its start."""

_SWEEP_TICKS = 20
"""Ticks (of 0.1 s) between two looks for clients that are late."""

_HANDSHAKE_SECONDS = 0.1
"""How long, at a stop, connections that have begun may take to be established."""

_LINGER_SECONDS = 0.5
"""How long, at a stop, idle connections stay open for a request that may be on its way."""

_SO_ATTACH_FILTER = 26
"""Linux's option of a socket; the module has no name for it."""

_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the TCP header that holds its flags
        (0x45, 0, 1, 0x02),  # if SYN is not among them, skip the next
        (0x06, 0, 0, 0),  # drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )
)
"""A filter of packets in Linux's classic BPF: no connection begins, all others go on."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where to listen, and how long to wait for whom. Times are in whole seconds."""

    host: str
    port: int
    backlog: int
    keep_alive: int
    grace: int


class Server(uvicorn.Server):
    """Obeys SIGTERM and SIGINT: stops listening, finishes what was accepted, returns."""

    def __init__(self, config: uvicorn.Config, before_last: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_last = before_last
        self.at_signal: Callable[[], object] = lambda: None
        """Called at the first signal that it obeys."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Obey signals; unlike uvicorn, do not die of them once they have been obeyed."""
        previous = {number: signal.signal(number, self.handle_exit) for number in HANDLED_SIGNALS}
        try:
            yield
        finally:
            for number, action in previous.items():
                signal.signal(number, action)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        if not self.should_exit:
            self.at_signal()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Also close connections whose client is late with the head of a request."""
        if counter % _SWEEP_TICKS == 0:
            self._close_late()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[Any] | None = None) -> None:
        """Stop listening, tell every client that its connection ends, finish, stop the app.

        uvicorn would drop connections that the system has accepted and the process has not, and
        close idle ones at once, and so lose requests that were already on their way. Here the
        former are taken over, on Linux no other can begin meanwhile, every answer says
        `Connection: close`, and an idle connection gets `_LINGER_SECONDS` to send one more request.
        """
        await self._stop_listening()
        self.server_state.default_headers.append((b"connection", b"close"))
        for connection in self._connections():
            if not connection.is_idle():
                connection.shutdown()  # its answer will say so, then it closes
        now = asyncio.get_running_loop().time
        until = now() + _LINGER_SECONDS
        while self._connections() and now() < until:  # noqa: ASYNC110 - uvicorn has no such event
            await asyncio.sleep(0.01)
        self._before_last()
        await super().shutdown(sockets)

    async def _stop_listening(self) -> None:
        # Closing the last descriptor of a listener resets who waits in its backlog. With a second
        # one they can be accepted first, and between the last of them and the end is no await.
        listeners = [_second(one) for server in self.servers for one in server.sockets]
        for listener in listeners:
            _let_nobody_begin(listener)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        waiting = [connection for one in listeners for connection in _accept_all(one)]
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with suppress(OSError):  # that client has left meanwhile
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)

    def _connections(self) -> list[Protocol]:
        return [one for one in self.server_state.connections if isinstance(one, Protocol)]

    def _close_late(self) -> None:
        oldest = asyncio.get_running_loop().time() - _HEAD_SECONDS
        for connection in self._connections():
            since = connection.head_since
            if since is not None and since < oldest:
                connection.transport.close()


def _second(listener: socket.socket) -> socket.socket:
    return socket.socket(listener.family, listener.type, fileno=os.dup(listener.fileno()))


def _let_nobody_begin(listener: socket.socket) -> None:
    """Make the system ignore who begins to connect from now on; who has begun may end.

    A client tries again a second later, and is refused if the listener is closed by then. Without
    this, who connects between the last accept and the close would be reset. Where the system has
    no such filters, that can happen.
    """
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    filter_of_packets = struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    if sys.platform == "linux":
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_of_packets)


def _accept_all(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept who waits, and close the listener as soon as nobody does."""
    with listener, suppress(OSError):  # BlockingIOError: nobody waits
        listener.setblocking(False)
        while True:
            yield listener.accept()[0]


def run_server(
    app: Callable[..., Any],
    options: ServerOptions,
    before_last: Callable[[], None],
    at_signal: Callable[[], object] = lambda: None,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT.

    Args:
        app: the application; its lifespan encloses everything.
        options: where and how.
        before_last: called at a stop when only what was accepted is left to be finished.
        at_signal: called when the stop begins.

    Raises:
        SystemExit: the application could not start, or the address cannot be listened on.
    """
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        backlog=options.backlog,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,  # the process has its own
        access_log=False,  # the application has its own
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=options.keep_alive,
        timeout_graceful_shutdown=options.grace,
    )
    server = Server(config, before_last)
    server.at_signal = at_signal
    server.run()
