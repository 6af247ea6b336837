"""Connections that the supervisor accepts and hands over to workers."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from service.processes.records import NO_SLOT

SLOT_BYTES = 4
_UNKEPT = NO_SLOT.to_bytes(SLOT_BYTES)


class HandedOver(socket.socket):
    """A worker's end: to `service.api.listening.Acceptor` it looks like a listening socket.

    Its connections are those that `hand_over` sends. It closes them, or the transport does; either
    way `on_close` is called, and the supervisor gets the slot back.
    """

    address: Any = ("", 0)
    """Of the supervisor's listening socket."""
    on_listen: Callable[[], object] = staticmethod(lambda: None)
    """Called when connections can be received."""
    on_receive: Callable[[], object] = staticmethod(lambda: None)
    """Called for each connection."""
    on_close: Callable[[], object] = staticmethod(lambda: None)
    """Called when a connection is closed."""
    slots: dict[int, int]
    """File descriptors of connections whose protocol has yet to begin, and their slots."""
    _unsent = b""
    """Slots of closed connections, for the supervisor."""

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
        data, descriptors, _, _ = socket.recv_fds(self, SLOT_BYTES, 1)
        if not data:
            asyncio.get_running_loop().remove_reader(self)  # else the end would be read again
            raise BlockingIOError
        self.on_receive()
        if not descriptors:
            self._close(data)
            raise OSError("no file descriptor is left")
        connection = _Connection(fileno=descriptors[0])
        connection.on_close = partial(self._close, data)
        self.slots[connection.fileno()] = int.from_bytes(data)
        return connection, None

    def flush(self) -> None:
        """Tell the supervisor which connections are closed, as many as it reads now."""
        if self._unsent:
            with suppress(OSError):
                self._unsent = self._unsent[self.send(self._unsent) :]

    def _close(self, slot: bytes) -> None:
        self.on_close()
        if slot != _UNKEPT:
            self._unsent += slot
            self.flush()


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


def receiving(end: socket.socket, listener: socket.socket) -> HandedOver:
    """Return a worker's end for the connections of a listening socket."""
    handed_over = HandedOver(fileno=end.detach())
    handed_over.address = listener.getsockname()
    return handed_over


def hand_over(connection: socket.socket, slot: int, worker: socket.socket) -> None:
    """Send a connection and its slot to a worker. Raises OSError if it cannot receive one now."""
    socket.send_fds(worker, [slot.to_bytes(SLOT_BYTES)], [connection.fileno()])
