"""Messages between the supervisor and a worker: JSON, each after its length in four bytes."""

import socket
from collections.abc import Iterator
from typing import Any, TypeAlias

import orjson

Message: TypeAlias = dict[str, Any]

LENGTH_BYTES = 4
MOST_BYTES = 64 * 2**20
"""Largest message, and most bytes that wait to be sent to a worker."""

_PART_BYTES = 256 * 1024


class ChannelError(Exception):
    """The other end is gone, or does not read what it is sent."""


def encoded(message: Message) -> bytes:
    """Return the bytes of a message."""
    body = orjson.dumps(message, option=orjson.OPT_NON_STR_KEYS)
    return len(body).to_bytes(LENGTH_BYTES) + body


class Channel:
    """The supervisor's end, which never waits."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self._received = bytearray()
        self._unsent = bytearray()

    @property
    def has_unsent(self) -> bool:
        """Tell whether bytes wait until the worker reads."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Send a message, or as much of it as fits now. Raises ChannelError."""
        self._unsent += encoded(message)
        if len(self._unsent) > MOST_BYTES:
            raise ChannelError("the worker does not read")
        self.flush()

    def flush(self) -> None:
        """Send more of what waits. Raises ChannelError."""
        while self._unsent:
            try:
                sent = self.connection.send(self._unsent[:_PART_BYTES])
            except BlockingIOError:
                return
            except OSError as error:
                raise ChannelError("the worker is gone") from error
            del self._unsent[:sent]

    def receive(self) -> Iterator[Message]:
        """Yield the messages that have arrived. Raises ChannelError when the worker is gone."""
        try:
            data = self.connection.recv(_PART_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise ChannelError("the worker is gone") from error
        if not data:
            raise ChannelError("the worker is gone")
        self._received += data
        while (end := self._end_of_first()) is not None:
            body = bytes(self._received[LENGTH_BYTES:end])
            del self._received[:end]
            yield orjson.loads(body)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _end_of_first(self) -> int | None:
        if len(self._received) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES])
        return end if len(self._received) >= end else None
