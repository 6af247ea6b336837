"""A connection's transport over TLS, which shows whether the client reads, and closes without it.

The library's transport passes all that is written to the one below, whose buffer cannot be seen.
Its `close` waits for the client's close_notify, which a client with an idle connection does not
send, and drops what is unsent if none comes in time.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any, cast

_ANSWER_SECONDS = 1.0
"""Time for the client's close_notify."""

_TCP_INFO = struct.Struct("=24xI92xQ16xI")
"""Of Linux: segments that are not acknowledged, acknowledged bytes, bytes that are not sent."""


class TlsTransport:
    """Wraps the library's transport; what is not defined here is the library's."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._is_ending = False

    def unread(self) -> int:
        """Return 0 if the client has received everything, else a number that grows as it does."""
        with suppress(OSError, AttributeError, struct.error):
            below = self._transport.get_extra_info("socket")
            info = below.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            flying, received, waiting = _TCP_INFO.unpack(info)
            return 1 + received if flying or waiting else 0
        return self._transport.get_write_buffer_size()

    def write_eof(self) -> None:
        """Do nothing: TLS connections are closed on both sides at once."""

    def close(self) -> None:
        """Send what was written, then close the connection. The client need not answer."""
        self._transport.close()
        if not self._is_ending:
            self._is_ending = True
            self._end_later()

    def _end_later(self) -> None:
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._end)

    def _end(self) -> None:
        """Read the end of the stream: the library then closes the connection once all is sent."""
        below = self._transport.get_extra_info("socket")
        if below is None:
            return  # it is closed
        if self._transport.get_write_buffer_size():
            self._end_later()  # the server aborts it if the client reads nothing
            return
        with below.dup() as one, suppress(OSError):  # the client has reset the connection
            one.shutdown(socket.SHUT_RD)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def wrapped(transport: asyncio.Transport) -> asyncio.Transport:
    """Return the transport of a connection, wrapped if it is one over TLS."""
    if transport.get_extra_info("sslcontext") is None:
        return transport
    return cast("asyncio.Transport", TlsTransport(transport))
