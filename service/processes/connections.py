"""Connections that the supervisor accepts and hands over to workers."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any


class HandedOver(socket.socket):
    """A worker's end: to `service.api.listening.Acceptor` it looks like a listening socket.

    Its connections are those that `hand_over` sends. It closes them, or the transport does; either
    way `on_close` is called.
    """

    address: Any = ("", 0)
    """Of the supervisor's listening socket."""
    on_listen: Callable[[], object] = staticmethod(lambda: None)
    """Called when connections can be received."""
    on_receive: Callable[[], object] = staticmethod(lambda: None)
    """Called for each connection."""
    on_close: Callable[[], object] = staticmethod(lambda: None)
    """Called when a connection is closed."""

    @property
    def family(self) -> socket.AddressFamily:
        """Return the family of the connections."""
        if isinstance(self.address, str):
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in str(self.address[0]) else socket.AF_INET

    def getsockname(self) -> Any:
        """Return the address that clients connect to."""
        return self.address

    def setsockopt(self, *option: Any) -> None:
        """Do nothing: the supervisor's socket has the options."""

    def listen(self, backlog: int = 0) -> None:
        """Begin to receive."""
        self.on_listen()

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Raises:
            BlockingIOError: there is none now, or there will be none any more.
            OSError: the system has no file descriptor left for it; it is lost.
        """
        data, descriptors, _, _ = socket.recv_fds(self, 1, 1)
        if not data:
            asyncio.get_running_loop().remove_reader(self)  # else the end would be read again
            raise BlockingIOError
        self.on_receive()
        if not descriptors:
            self.on_close()
            raise OSError("no file descriptor is left")
        connection = _Connection(fileno=descriptors[0])
        connection.on_close = self.on_close
        return connection, None


class _Connection(socket.socket):
    on_close: Callable[[], object] | None = None

    def close(self) -> None:
        """Close it, and count it once."""
        self._count()
        super().close()

    def __del__(self) -> None:
        self._count()

    def _count(self) -> None:
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()


def hand_over(connection: socket.socket, worker: socket.socket) -> None:
    """Send a connection to a worker. Raises OSError if it cannot receive one now."""
    socket.send_fds(worker, [b"\0"], [connection.fileno()])
