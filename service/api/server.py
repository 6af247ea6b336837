"""The HTTP server: uvicorn, with a stop that loses nothing and bounds on who says nothing."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.server import HANDLED_SIGNALS

from service.api.connection import LINGER_SECONDS, Protocol
from service.api.listening import Acceptor, AddressError
from service.runtime.stopping import THREAD_NAME

_log = logging.getLogger(__name__)


_JOIN_SECONDS = 0.2
"""How long idle threads may take to end by themselves."""

_LOG_SECONDS = 0.1
"""How long the last line may take to be written; its reader may be stuck."""

_ABANDONED = 1
"""Exit status where something had to be abandoned."""


def end_within(seconds: float) -> None:
    """End the process after so many seconds, if it has not ended by then."""
    timer = threading.Timer(seconds, _abandon, ["the stop took too long"])
    timer.daemon = True
    timer.name = "end"
    timer.start()


def leave_threads_behind() -> None:
    """End the process at once if threads are left that compute; else return."""
    until = time.monotonic() + _JOIN_SECONDS
    for thread in _lasting():
        thread.join(max(0.0, until - time.monotonic()))
    if left := _lasting():
        _abandon(f"{len(left)} threads still compute")


def _lasting() -> list[threading.Thread]:
    """Return the threads whose end the interpreter would wait for, or must not interrupt."""
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
        and (not thread.daemon or thread.name == THREAD_NAME)
    ]


def _abandon(why: str) -> None:
    event = "process ended with work left undone"
    said = threading.Thread(
        target=_log.critical, args=(event,), kwargs={"extra": {"reason": why}}, daemon=True
    )
    said.start()
    time.sleep(_LOG_SECONDS)  # also for the thread that writes the log
    os._exit(_ABANDONED)


_HEAD_SECONDS = 20.0
"""How long a client may take to send the head of a request, from the connection or its start."""

_SWEEP_TICKS = 20
"""Ticks (of 0.1 s) between two looks for clients that are late."""

_UNREAD_SECONDS = 60.0
"""How long a client may take nothing of an answer that waits to be sent."""

_CANCEL_SECONDS = 0.5
"""How long, after the grace, requests may take to be cancelled and answered."""

_LIFESPAN_SECONDS = 5.0
"""How long the application may take to close what it holds."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How many connections may wait, and how long to wait for whom, in whole seconds."""

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
        self._acceptors: list[Acceptor] = []

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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen on the bound sockets.

        Raises:
            AddressError: another process listens on one of the addresses by now.
            SystemExit: the application could not start.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self.servers = []  # uvicorn's; ours are the acceptors
        try:
            for listener in sockets or []:
                backlog = self.config.backlog
                self._acceptors.append(Acceptor(listener, backlog, self._protocol))
                host, port = listener.getsockname()[:2]
                _log.info("listening", extra={"host": host, "port": port})
        except AddressError:
            await self.lifespan.shutdown()
            raise
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, have every connection end, finish what was asked, stop the app.

        uvicorn would drop connections that the system has accepted and the process has not, and
        close idle ones at once, and so lose requests that were already on their way. Here the
        former are taken over, on Linux no other can begin meanwhile, the last answer of a
        connection says `Connection: close`, and a connection whose last answer could not say so,
        since it had begun, stays open for `LINGER_SECONDS` for one more request.

        Nothing is waited for without end: after the grace what is left is cancelled, and cut off
        `_CANCEL_SECONDS` later.
        """
        now = asyncio.get_running_loop().time
        until = now() + max(self.config.timeout_graceful_shutdown or 0, LINGER_SECONDS)
        acceptors, self._acceptors = self._acceptors, []
        await asyncio.gather(*(acceptor.close() for acceptor in acceptors))
        for connection in self._connections():
            connection.shutdown()
        await self._wait_for_end(until)
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
        """Wait until no connection and no request is left, but no longer than a loop time."""
        now = asyncio.get_running_loop().time
        state = self.server_state
        while (state.connections or state.tasks) and now() < until and not self.force_exit:  # noqa: ASYNC110 - uvicorn has no such event
            await asyncio.sleep(0.01)

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)

    def _connections(self) -> list[Protocol]:
        return [one for one in self.server_state.connections if isinstance(one, Protocol)]

    def _close_late(self) -> None:
        """Cut off clients that are late with a head, or do not read their answer."""
        now = asyncio.get_running_loop().time()
        for connection in self._connections():
            since = connection.head_since
            if since is not None and since < now - _HEAD_SECONDS:
                connection.transport.close()
            if connection.unread_since(now) < now - _UNREAD_SECONDS:
                connection.transport.abort()


def run_server(
    app: Callable[..., Any],
    listeners: list[socket.socket],
    options: ServerOptions,
    before_last: Callable[[], None],
    at_signal: Callable[[], object] = lambda: None,
) -> None:
    """Serve an ASGI application until SIGTERM or SIGINT.

    Args:
        app: the application; its lifespan encloses everything.
        listeners: bound sockets, to listen on.
        options: how.
        before_last: called at a stop when only what was accepted is left to be finished.
        at_signal: called when the stop begins.

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
    server.at_signal = at_signal
    server.run(listeners)
