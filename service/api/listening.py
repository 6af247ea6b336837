"""Listening sockets: bind, accept connections, and stop without losing any."""

import asyncio
import ctypes
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from service.api.certificate import Certificate
from service.telemetry.request_metrics import HTTP_ACCEPTS_HELD_BACK, TLS_HANDSHAKES_FAILED

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 64
"""Connections accepted before the event loop runs other callbacks."""

_RESERVED = 16
"""File descriptors reserved for models, logs and the cache."""

_PAUSE_SECONDS = 0.1
"""Seconds without accepting when file descriptors have run out."""

_LOG_SECONDS = 10.0
"""Shortest time between two log lines about it."""

_HANDSHAKE_SECONDS = 0.1
"""Time for connections in the handshake to be established at a stop."""

_TLS_SECONDS = 10.0
"""Time for a TLS handshake."""

_TLS_PATIENCE = 2.0
"""Seconds after which an unfinished handshake makes room for others, and which a stop waits."""

_MOST_HANDSHAKES = 1024
"""TLS handshakes at once. More connections wait to be accepted."""

_CLOSE_SECONDS = 600.0
"""Time to close a connection over TLS; `TlsTransport` ends it before, unless the client reads."""

_SO_ATTACH_FILTER = 26
"""Linux socket option; the socket module does not name it."""

_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte of the TCP header that holds its flags
        (0x45, 0, 1, 0x02),  # if SYN is not among them, skip the next
        (0x06, 0, 0, 0),  # drop the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )
)
"""Classic BPF packet filter: blocks new connections, lets established ones continue."""


class AddressError(Exception):
    """The server cannot listen on an address."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host; none listens yet.

    `::` accepts IPv4 too, whatever the default of the system is.

    Raises:
        AddressError: the host has no address, or an address is in use or not local.
    """
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = listeners[0].getsockname()[1] if listeners else port  # 0 takes a free one
            listeners.append(_bound(family, (address[0], chosen, *address[2:])))
    except OSError as error:
        for one in listeners:
            one.close()
        raise _cannot_listen(host, port, error) from None
    return listeners


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def listen(listener: socket.socket, backlog: int) -> None:
    """Begin to listen. Raises AddressError."""
    try:
        listener.listen(backlog)
    except OSError as error:
        host, port = listener.getsockname()[:2]
        raise _cannot_listen(host, port, error) from None


def _cannot_listen(host: str, port: int, error: OSError) -> AddressError:
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    reason = error.strerror or str(error)
    return AddressError(f"cannot listen on {shown}: {reason.lower()}")


class Acceptor:
    """Accepts the connections of one listener while file descriptors are left.

    asyncio's server would close connections for which it has no descriptor. Here clients wait in
    the backlog until others disconnect.
    """

    _logged = -_LOG_SECONDS
    """Loop time of the last log line about exhausted descriptors."""
    _pause: asyncio.TimerHandle | None = None

    def __init__(
        self,
        listener: socket.socket,
        backlog: int,
        protocol: Callable[[], asyncio.Protocol],
        certificate: Certificate | None = None,
    ) -> None:
        """Begin to listen, within a running event loop.

        Args:
            listener: a bound socket.
            backlog: how many connections the system holds until they are accepted.
            protocol: makes the protocol of a connection.
            certificate: of TLS; None means none.

        Raises:
            AddressError: another process listens on the address since the socket was bound.
        """
        listen(listener, backlog)
        self.listener = listener
        self._protocol, self._certificate = protocol, certificate
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[asyncio.Task[Any], float] = {}
        """Connections without a protocol yet, and the loop time when they were accepted."""
        self._most = most_descriptors()
        listener.setblocking(False)
        self._resume()

    async def close(self) -> None:
        """Block new connections, accept those in the backlog, and stop listening.

        Closing a listener resets connections in its backlog, so they are accepted first. There is
        no await between the last of them and the close.
        """
        block_new_connections(self.listener)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.listener)
        with self.listener, suppress(OSError):  # BlockingIOError: the backlog is empty
            while True:
                self._connect(self.listener.accept()[0])
        if self._connecting:
            _, late = await asyncio.wait(self._connecting, timeout=_TLS_PATIENCE)
            for connecting in late:
                connecting.cancel()

    def _resume(self) -> None:
        """Accept if a file descriptor is free that is not reserved."""
        try:
            number = os.dup(self.listener.fileno())
        except OSError:
            number = self._most
        else:
            os.close(number)
        if number < self._most:
            self._pause = None
            self._loop.add_reader(self.listener, self._accept)
        else:
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)

    def _accept(self) -> None:
        for _ in range(_MOST_AT_ONCE):
            if len(self._connecting) >= _MOST_HANDSHAKES and not self._drop_oldest():
                self._hold_back("many TLS handshakes are in progress")
                return
            try:
                connection, _ = self.listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._hold_back(error.strerror)
                return
            number = connection.fileno()
            self._connect(connection)
            if number >= self._most:
                self._hold_back("few file descriptors are left")
                return

    def _connect(self, connection: socket.socket) -> None:
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {
                "ssl": self._certificate.current.context,
                "ssl_handshake_timeout": _TLS_SECONDS,
                "ssl_shutdown_timeout": _CLOSE_SECONDS,
            }
        connecting = self._loop.create_task(
            self._loop.connect_accepted_socket(self._protocol, connection, **tls)
        )
        self._connecting[connecting] = self._loop.time()
        connecting.add_done_callback(self._connected)

    def _connected(self, connecting: asyncio.Task[Any]) -> None:
        self._connecting.pop(connecting, None)
        has_failed = connecting.cancelled() or connecting.exception() is not None
        if has_failed and self._certificate is not None:  # else the client has disconnected
            TLS_HANDSHAKES_FAILED.inc()

    def _drop_oldest(self) -> bool:
        """Break off the handshake that has lasted longest, if it has lasted long."""
        connecting, since = next(iter(self._connecting.items()))
        if since > self._loop.time() - _TLS_PATIENCE:
            return False
        del self._connecting[connecting]
        connecting.cancel()
        return True

    def _hold_back(self, reason: str | None) -> None:
        HTTP_ACCEPTS_HELD_BACK.inc()
        self._loop.remove_reader(self.listener)
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
        if self._loop.time() >= self._logged + _LOG_SECONDS:
            self._logged = self._loop.time()
            _log.error("connections wait to be accepted", extra={"reason": reason})


def most_descriptors() -> int:
    """Return the first file descriptor number that is reserved."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource  # noqa: PLC0415 - not everywhere

    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if most == resource.RLIM_INFINITY else most - min(_RESERVED, most // 8)


def block_new_connections(listener: socket.socket) -> None:
    """Make Linux drop the first packet of new connections; handshakes in progress may finish.

    A client tries again after a second, and is refused if the listener is closed by then. Without
    the filter, a connection between the last accept and the close would be reset. This can happen
    on systems without such filters.
    """
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    filter_of_packets = struct.pack("HP", len(_NO_SYN) // 8, ctypes.addressof(program))
    if sys.platform == "linux" and listener.family != socket.AF_UNIX:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_of_packets)
