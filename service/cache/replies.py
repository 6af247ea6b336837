"""What Redis answers, read with bounds: a broken or hostile server costs no memory and no time.

The commands used here (AUTH, CLIENT, SELECT, MGET, SET, EVALSHA, EVAL) have short replies: a line,
a value, or a flat list of values. Anything else breaks off the connection before memory is
allocated for it. The general parsers allocate what a reply announces: a list of 2 ** 31 items stops
the event loop for seconds.
"""

import re
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from typing import Final, TypeAlias

from redis._parsers.base import AsyncBaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

MAX_ITEMS: Final = 64
"""Values in one reply, and so the keys that may be looked up with one command."""
MAX_VALUE: Final = 4 << 20
"""Bytes of one value."""
MAX_REPLY: Final = 16 << 20
"""Bytes of all values of one reply. More would not arrive within a look-up's time anyway."""
MAX_LINE: Final = 1024
"""Bytes of a status, an error, a number or a length. Errors are shorter and are logged."""

Item: TypeAlias = bytes | int | ResponseError | None
Reply: TypeAlias = Item | list[Item]

_NUMBER: Final = re.compile(rb"-?[0-9]{1,19}")
_END: Final = b"\r\n"


class BoundedParser(AsyncBaseParser):
    """Reads replies of RESP2 from a connection's stream.

    After any exception but ResponseError the stream is at an unknown place, and the connection
    must be dropped.
    """

    def __init__(self, socket_read_size: int) -> None:
        """Make a parser without a connection; the size is of no use to it."""
        super().__init__(socket_read_size)
        self._connected: StreamReader | None = None

    def on_connect(self, connection: AbstractConnection) -> None:
        """Read from this connection from now on."""
        self._connected = connection._reader

    def on_disconnect(self) -> None:
        """Read no more."""
        self._connected = None

    async def can_read_destructive(self) -> bool:
        """Tell whether the server has closed the connection. Raises as `can_read` does."""
        return await self.can_read()

    async def can_read(self) -> bool:
        """Tell whether the server has closed the connection.

        Raises:
            InvalidResponse: it has sent data that was not requested.
            OSError: there is no connection.
        """
        if self._connected is None:
            raise OSError("not connected")
        if self._connected._buffer:  # type: ignore[attr-defined]  # there is no public way to ask
            raise InvalidResponse("data that was not asked for")
        return self._connected.at_eof()

    async def read_response(self, disable_decoding: bool = False) -> Reply:  # type: ignore[override]
        """Return the next reply; an error in place of a reply is returned, not raised.

        Raises:
            ConnectionError: of redis-py; the connection is closed, or the server refuses to serve.
            InvalidResponse: the reply is over a bound, or none that this service asks for.
        """
        kind, text = await self._line()
        if kind != b"*":
            return await self._item(kind, text, MAX_VALUE)
        count = _length(text, MAX_ITEMS, "values")
        if count is None:
            return None
        items: list[Item] = []
        room = MAX_REPLY
        for _ in range(count):
            item = await self._item(*await self._line(), min(room, MAX_VALUE))
            room -= len(item) if isinstance(item, bytes) else 0
            items.append(item)
        return items

    async def _item(self, kind: bytes, text: bytes, room: int) -> Item:
        match kind:
            case b"$":
                size = _length(text, room, "bytes")
                return None if size is None else await self._value(size)
            case b"+":
                return text
            case b":":
                return _number(text)
            case b"-":
                error = self.parse_error(text.decode("utf-8", "replace"))  # type: ignore[no-untyped-call]
                if isinstance(error, RedisConnectionError):
                    raise error
                return error  # type: ignore[no-any-return]
        raise InvalidResponse(f"a reply of the kind {kind!r}, which was not asked for")

    async def _line(self) -> tuple[bytes, bytes]:
        """Return the first byte of a line and the others, without its end."""
        try:
            line = await self._stream_or_raise().readuntil(_END)
        except LimitOverrunError as error:
            raise InvalidResponse("a line that does not end") from error
        except IncompleteReadError as error:
            raise RedisConnectionError("the server closed the connection") from error
        if len(line) > MAX_LINE:
            raise InvalidResponse(f"a line of {len(line)} bytes; at most {MAX_LINE} are read")
        return line[:1], line[1 : -len(_END)]

    async def _value(self, size: int) -> bytes:
        try:
            value = await self._stream_or_raise().readexactly(size + len(_END))
        except IncompleteReadError as error:
            raise RedisConnectionError("the server closed the connection") from error
        if not value.endswith(_END):
            raise InvalidResponse("a value that is longer than was said")
        return value[:size]

    def _stream_or_raise(self) -> StreamReader:
        if self._connected is None:
            raise RedisConnectionError("not connected")
        return self._connected


def _length(text: bytes, most: int, of: str) -> int | None:
    """Return an announced length, None for -1. Raises InvalidResponse if it is over `most`."""
    length = _number(text)
    if length == -1:
        return None
    if not 0 <= length <= most:
        raise InvalidResponse(f"a reply of {length} {of}; at most {most} are read")
    return length


def _number(text: bytes) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise InvalidResponse(f"not a number: {text[:20]!r}")
    return int(text)
