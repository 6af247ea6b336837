"""The HTTP server: uvicorn, with a stop that loses no request, and timeouts of silent clients."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import HANDLED_SIGNALS

from service.api.certificate import Certificate
from service.api.connection import LINGER_SECONDS, Protocol
from service.api.listening import Acceptor, AddressError
from service.api.turns import Turns
from service.runtime.stopping import THREAD_NAME

_log = logging.getLogger(__name__)


_UNIX = getattr(socket, "AF_UNIX", None)

_JOIN_SECONDS = 0.2
"""Time for idle threads to end by themselves."""

_LOG_SECONDS = 0.1
"""Time to write the last log line; its reader may be stuck."""

_ABANDONED = 1
"""Exit status of a process that ended with work left undone."""


def end_within(seconds: float) -> None:
    """End the process after `seconds` if it has not ended by then."""
    timer = threading.Timer(seconds, _abandon, ["the stop took too long"])
    timer.daemon = True
    timer.name = "end"
    timer.start()


def leave_threads_behind() -> None:
    """End the process if threads still compute; else return."""
    until = time.monotonic() + _JOIN_SECONDS
    for thread in _lasting():
        thread.join(max(0.0, until - time.monotonic()))
    if left := _lasting():
        _abandon(f"{len(left)} threads still compute")


def _lasting() -> list[threading.Thread]:
    """Return the threads that the interpreter would wait for or must not interrupt."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and (not thread.daemon or thread.name == THREAD_NAME)
    ]


def _abandon(why: str) -> None:
    event = "process ended with work left undone"
    writer = threading.Thread(
        target=_log.critical, args=(event,), kwargs={"extra": {"reason": why}}, daemon=True
    )
    writer.start()
    time.sleep(_LOG_SECONDS)  # also for the thread that writes the log
    os._exit(_ABANDONED)


_HEAD_SECONDS = 20.0
"""Time to send the head of a request, from the connection or from the first byte."""

_SWEEP_TICKS = 20
"""Ticks of 0.1 s between two checks for late clients."""

_UNREAD_SECONDS = 60.0
"""Time that a client may read nothing of a response."""

_CANCEL_SECONDS = 0.5
"""Time for cancelled requests to be answered, after the grace period."""

_LIFESPAN_SECONDS = 5.0
"""Time for the application to shut down."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Size of the backlog, timeouts in whole seconds, and TLS."""

    backlog: int
    keep_alive: int
    grace: int
    certificate: Certificate | None = None
    """Of connections over TCP; None means no TLS."""
    make_protocol: Callable[..., Protocol] = Protocol


async def _stop_nothing(seconds: float) -> None:
    """Stop no other server."""


class Server(uvicorn.Server):
    """On SIGTERM or SIGINT stops listening, finishes accepted requests, and returns."""

    def __init__(self, config: uvicorn.Config, before_last: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_last = before_last
        self.at_signal: Callable[[], object] = lambda: None
        """Called at the first signal."""
        self.stop_beside: Callable[[float], Awaitable[None]] = _stop_nothing
        """Stops the other server of the process within a number of seconds."""
        self.certificate: Certificate | None = None
        """TLS of connections over TCP."""
        self.make_protocol: Callable[..., Protocol] = Protocol
        self._acceptors: list[Acceptor] = []
        self._turns = Turns()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals; unlike uvicorn, do not raise them again after the stop."""
        previous = {
            number: signal.signal(number, self.handle_exit) for number in stopping_signals()
        }
        try:
            yield
        finally:
            for number, action in previous.items():
                signal.signal(number, action)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the stop."""
        if not self.should_exit:
            self.at_signal()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Also close connections whose client is late."""
        if counter % _SWEEP_TICKS == 0:
            self._close_late()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen on the bound sockets.

        Raises:
            AddressError: another process has begun to listen on one of the addresses.
            SystemExit: the application could not start.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.servers = []  # uvicorn's; ours are the acceptors
        try:
            for listener in sockets or []:
                backlog = self.config.backlog
                certificate = None if listener.family == _UNIX else self.certificate
                acceptor = Acceptor(listener, backlog, self._protocol, certificate)
                self._acceptors.append(acceptor)
                address = listener.getsockname()
                named = ("path",) if listener.family == _UNIX else ("host", "port")
                shown = (address,) if listener.family == _UNIX else address
                _log.info("listening", extra=dict(zip(named, shown, strict=False)))
        except AddressError:
            await self.lifespan.shutdown()
            raise
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, finish accepted requests, close all connections, stop the application.

        uvicorn would drop connections in the backlog and close idle ones at once, and so lose
        requests that are on their way. Here connections in the backlog are accepted, and Linux lets
        no new one begin. The last response of a connection has `Connection: close`; a connection
        whose last response had begun before stays open for `LINGER_SECONDS` for one more request.

        After the grace period all requests are cancelled, and `_CANCEL_SECONDS` later their
        connections are aborted.
        """
        now = asyncio.get_running_loop().time
        until = now() + max(self.config.timeout_graceful_shutdown or 0, LINGER_SECONDS)
        beside = asyncio.ensure_future(self.stop_beside(until - now()))
        acceptors, self._acceptors = self._acceptors, []
        await asyncio.gather(*(acceptor.close() for acceptor in acceptors))
        for connection in self._connections():
            connection.shutdown()
        await self._wait_for_end(until)
        await asyncio.wait([beside], timeout=max(0.0, until - now()))
        self._before_last()
        if tasks := list(self.server_state.tasks):
            _log.warning("requests cancelled at the stop", extra={"requests": len(tasks)})
            for task in tasks:
                task.cancel()
        await self._wait_for_end(now() + _CANCEL_SECONDS)
        for connection in self._connections():
            connection.transport.abort()
        try:
            await asyncio.wait_for(self.lifespan.shutdown(), _LIFESPAN_SECONDS)
        except TimeoutError:
            _log.error("application not stopped", extra={"seconds": _LIFESPAN_SECONDS})

    async def _wait_for_end(self, until: float) -> None:
        """Wait until no connection and no request is left, or until a loop time."""
        now = asyncio.get_running_loop().time
        state = self.server_state
        while (state.connections or state.tasks) and now() < until and not self.force_exit:  # noqa: ASYNC110 - uvicorn has no such event
            await asyncio.sleep(0.01)

    def _protocol(self) -> Protocol:
        protocol = self.make_protocol(self.config, self.server_state, self.lifespan.state)
        protocol.turns = self._turns
        return protocol

    def _connections(self) -> list[Protocol]:
        return [one for one in self.server_state.connections if isinstance(one, Protocol)]

    def _close_late(self) -> None:
        """Close connections whose client is late with a head or does not read its response."""
        now = asyncio.get_running_loop().time()
        for connection in self._connections():
            since = connection.head_since
            if since is not None and since < now - _HEAD_SECONDS:
                connection.transport.close()
            if connection.unread_since(now) < now - _UNREAD_SECONDS:
                connection.transport.abort()


def stopping_signals() -> list[int]:
    """Return the signals that stop the server.

    SIGHUP, the end of a terminal's session, would end the process at once. `nohup` ignores it.
    """
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN:
        return [*HANDLED_SIGNALS]
    return [*HANDLED_SIGNALS, hang_up]


def run_server(
    app: Callable[..., Any],
    listeners: list[socket.socket],
    options: ServerOptions,
    before_last: Callable[[], None],
    at_signal: Callable[[], object] = lambda: None,
    stop_beside: Callable[[float], Awaitable[None]] = _stop_nothing,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT.

    Args:
        app: the application.
        listeners: bound sockets.
        options: backlog and timeouts.
        before_last: called at a stop when the grace period is over or all requests are answered.
        at_signal: called when the stop begins.
        stop_beside: stops the other server of the process within a number of seconds.

    Raises:
        AddressError: another process listens on one of the addresses by now.
        SystemExit: the application could not start.
    """
    config = uvicorn.Config(
        app,
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
    server.at_signal, server.stop_beside = at_signal, stop_beside
    server.certificate, server.make_protocol = options.certificate, options.make_protocol
    server.run(listeners)
