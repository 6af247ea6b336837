"""A RESP server with configurable faults: silent, slow, truncated, wrong or huge replies."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from drills.http1 import ADDRESS

_READ_BYTES = 1 << 16
_HUGE = 64 << 20


@dataclass(eq=False)
class Session:
    """One connection from the service."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    lookups: int = 0
    """Look-ups received."""

    async def commands(self) -> AsyncIterator[list[bytes]]:
        """Yield the commands as they arrive."""
        while (line := await self.reader.readline()).startswith(b"*"):
            words = []
            for _ in range(int(line[1:])):
                size = int((await self.reader.readline())[1:])
                words.append((await self.reader.readexactly(size + 2))[:-2])
            self.lookups += _is_lookup(words)
            yield words

    async def say(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()


def right(words: list[bytes]) -> bytes:
    """Return what an empty Redis that keeps nothing answers."""
    command = words[0].upper()
    if command == b"MGET":
        return b"*%d\r\n" % (len(words) - 1) + b"$-1\r\n" * (len(words) - 1)
    if command == b"GET":
        return b"$-1\r\n"
    if command == b"PING":
        return b"+PONG\r\n"
    if command == b"HELLO":
        return b"-ERR unknown command 'HELLO'\r\n"
    return b"+OK\r\n"


def _is_lookup(words: list[bytes]) -> bool:
    return words[0].upper() in {b"MGET", b"GET"}


Behaviour = Callable[[Session], Awaitable[None]]


def _replies(reply: bytes, *, lookups_alone: bool = True) -> Behaviour:
    """Give this reply to look-ups, or to every command; `%d` is the number of keys."""

    async def behave(session: Session) -> None:
        async for words in session.commands():
            if _is_lookup(words) or not lookups_alone:
                count = str(len(words) - 1).encode()
                await session.say(reply.replace(b"%d", count))
            else:
                await session.say(right(words))

    return behave


async def _right(session: Session) -> None:
    async for words in session.commands():
        await session.say(right(words))


async def _silent(session: Session) -> None:
    while await session.reader.read(_READ_BYTES):
        pass


async def _silent_at_lookups(session: Session) -> None:
    async for words in session.commands():
        if not _is_lookup(words):
            await session.say(right(words))


async def _closes(session: Session) -> None:
    session.writer.close()


async def _closes_at_lookups(session: Session) -> None:
    async for words in session.commands():
        if _is_lookup(words):
            session.writer.close()
            return
        await session.say(right(words))


async def _resets_within_a_reply(session: Session) -> None:
    async for words in session.commands():
        if _is_lookup(words):
            await session.say(b"*%d\r\n$100\r\nabc" % (len(words) - 1))
            session.reset()
            return
        await session.say(right(words))


async def _late(session: Session) -> None:
    async for words in session.commands():
        await asyncio.sleep(0.2)
        await session.say(right(words))


async def _trickles(session: Session) -> None:
    async for words in session.commands():
        for byte in right(words):
            await session.say(bytes([byte]))
            await asyncio.sleep(0.03)


async def _huge_value(session: Session) -> None:
    async for words in session.commands():
        if not _is_lookup(words):
            await session.say(right(words))
            continue
        await session.say(b"*%d\r\n$%d\r\n" % (len(words) - 1, _HUGE))
        for _ in range(_HUGE >> 20):
            await session.say(bytes(1 << 20))
        await session.say(b"\r\n" + b"$-1\r\n" * (len(words) - 2))


async def _endless(session: Session) -> None:
    async for words in session.commands():
        if not _is_lookup(words):
            await session.say(right(words))
            continue
        while True:
            await session.say(b"x" * 65536)
            await asyncio.sleep(0.001)


BEHAVIOURS: Mapping[str, Behaviour] = {
    "right": _right,
    "silent": _silent,
    "silent at look-ups": _silent_at_lookups,
    "closes at once": _closes,
    "closes at look-ups": _closes_at_lookups,
    "resets within a reply": _resets_within_a_reply,
    "200 ms late": _late,
    "a byte every 30 ms": _trickles,
    "a value of 64 MB": _huge_value,
    "a line without an end": _endless,
    "HTTP": _replies(b"HTTP/1.1 400 Bad Request\r\n\r\n", lookups_alone=False),
    "noise": _replies(b"\x00\xff\xfe\r\n\x80" * 20, lookups_alone=False),
    "empty lines": _replies(b"\r\n\r\n\r\n"),
    "a number": _replies(b":1\r\n"),
    "a word": _replies(b"+OK\r\n"),
    "nothing found, as one": _replies(b"$-1\r\n"),
    "an empty array": _replies(b"*0\r\n"),
    "too many values": _replies(b"*1000\r\n" + b"$1\r\nx\r\n" * 1000),
    "numbers for values": _replies(b"*%d\r\n" + b":7\r\n" * 64),
    "foreign values": _replies(b"*%d\r\n" + b"$9\r\nnot yours\r\n" * 64),
    "an array of 2,147,483,647": _replies(b"*2147483647\r\n"),
    "an array of 100,000,000": _replies(b"*100000000\r\n"),
    "an array of -5": _replies(b"*-5\r\n"),
    "a value of 2^62 bytes": _replies(b"*%d\r\n$4611686018427387904\r\nabc"),
    "a length that is no number": _replies(b"*%d\r\n$abc\r\n"),
    "arrays in arrays": _replies(b"*1\r\n" * 5000),
    "a map of 2^31": _replies(b"%2147483647\r\n"),
    "pushes": _replies(b">2\r\n+invalidate\r\n$1\r\nx\r\n"),
    "NOAUTH": _replies(b"-NOAUTH Authentication required.\r\n", lookups_alone=False),
    "WRONGPASS": _replies(b"-WRONGPASS invalid username-password pair\r\n", lookups_alone=False),
    "READONLY": _replies(b"-READONLY You can't write against a read only replica.\r\n"),
    "LOADING": _replies(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "MOVED": _replies(b"-MOVED 3999 127.0.0.1:6381\r\n"),
    "CLUSTERDOWN": _replies(b"-CLUSTERDOWN The cluster is down\r\n"),
    "MASTERDOWN": _replies(b"-MASTERDOWN Link with MASTER is down\r\n"),
    "OOM": _replies(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"),
    "BUSY": _replies(b"-BUSY Redis is busy running a script.\r\n"),
    "an error of 1 MB": _replies(b"-ERR " + b"x" * 1_000_000 + b"\r\n"),
}
REFUSES = "refuses connections"
_AT_ONCE = {"silent", "closes at once", "HTTP", "noise", "NOAUTH", "WRONGPASS", "200 ms late",
            "a byte every 30 ms"}  # fmt: skip
"""Faults that are met when a connection is made; the others are met by a look-up."""


@dataclass
class FakeRedis:
    """Listens on one port; what it does with a connection can be changed at any time."""

    behaviour: str = "right"
    port: int = 0
    _server: asyncio.Server | None = None
    _sessions: set[Session] = field(default_factory=set)
    _since: list[Session] = field(default_factory=list)

    @property
    def is_met(self) -> bool:
        """Return whether the service has met the present behaviour."""
        if self.behaviour == REFUSES:
            return True
        at_once = self.behaviour in _AT_ONCE
        return any(at_once or session.lookups for session in self._since)

    async def become(self, behaviour: str) -> None:
        """Behave otherwise from now on; present connections are reset."""
        self.behaviour = behaviour
        if self._server is not None and behaviour == REFUSES:
            self._server.close()
            self._server = None
        elif self._server is None and behaviour != REFUSES:
            self._server = await asyncio.start_server(
                self._serve, ADDRESS, self.port, reuse_address=True, family=socket.AF_INET
            )
            self.port = self._server.sockets[0].getsockname()[1]
        self._since = []
        for session in list(self._sessions):
            session.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        self._sessions.add(session)
        self._since.append(session)
        try:
            with suppress(OSError, ValueError, asyncio.IncompleteReadError):
                await BEHAVIOURS[self.behaviour](session)
        finally:
            self._sessions.discard(session)
            writer.close()


@asynccontextmanager
async def fake_redis() -> AsyncIterator[FakeRedis]:
    """Run a fake Redis until the end of the block."""
    fake = FakeRedis()
    await fake.become("right")
    try:
        yield fake
    finally:
        await fake.become(REFUSES)
