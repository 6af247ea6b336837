"""The shared level: Redis.

A request never talks to Redis itself. It gives its key to a reader and waits for the value at
most `get_timeout`; it gives a value to be stored to a writer and does not wait. Each reader and
the writer own one connection, and do on their own task what may take long: resolve the name,
connect, authenticate, give up on a stalled server. While no reader is connected, every look-up is
a miss.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Self, TypeAlias, TypeVar

from redis.asyncio import ConnectionPool
from redis.maint_notifications import MaintNotificationsConfig
from typing_extensions import override

from service.cache.codec import MAX_SECRET, seal, unseal
from service.cache.link import Breaker, Link, LinkError, NameLookup
from service.cache.memory import CacheBackend
from service.cache.replies import MAX_ITEMS, MAX_VALUE, BoundedParser
from service.cache.script import RedisScript
from service.telemetry.metrics import (
    RESPONSE_CACHE_LOOKUPS,
    RESPONSE_CACHE_REDIS_SECONDS,
    RESPONSE_CACHE_WRITES_DROPPED,
)

_log = logging.getLogger(__name__)
_HITS = RESPONSE_CACHE_LOOKUPS.labels("redis", "hit")
_MISSES = RESPONSE_CACHE_LOOKUPS.labels("redis", "miss")
_ERRORS = RESPONSE_CACHE_LOOKUPS.labels("redis", "error")
_REJECTED = RESPONSE_CACHE_LOOKUPS.labels("redis", "rejected")

LONGEST_GET: Final = 0.050
"""Seconds. No configuration makes a request wait longer for Redis."""

_BATCH = MAX_ITEMS
"""Commands sent together at most: a round trip is shared, and no reply gets long."""

_LONGEST_STORED = MAX_VALUE - 1024
"""Bytes of an answer; its envelope takes a few more."""

_TTL_JITTER = 0.1
"""Share of its time to live that an entry may lose, so that a burst does not expire at once."""

_POSITIVE = (
    "ttl",
    "io_timeout",
    "readers",
    "max_pending_gets",
    "max_queued_writes",
    "max_faults",
    "cool_down",
)

EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """Where Redis is and what it may cost. Times are in seconds."""

    url: str = field(repr=False)
    """redis://, rediss:// or unix://; it may hold a password."""
    prefix: str = "quartet:"
    """Put before every key."""
    ttl: float = 86_400.0
    """How long an answer is kept, less up to a tenth."""
    get_timeout: float = 0.020
    """How long a request waits for a look-up; at most `LONGEST_GET`."""
    io_timeout: float = 0.5
    """How long connecting, or writing a batch, may take. No request waits for either."""
    readers: int = 2
    """Connections that look up; one more writes."""
    max_pending_gets: int = 1024
    """Look-ups that may wait for a reader; more are misses at once."""
    max_queued_writes: int = 1024
    """Answers that may wait for the writer; more are dropped."""
    max_faults: int = 3
    """Faults in a row after which Redis is left alone."""
    cool_down: float = 1.0
    """How long it is left alone before it is tried again."""
    secret: bytes = field(default=b"", repr=False)
    """If set, only values sealed with it are believed. Every replica needs the same."""

    def __post_init__(self) -> None:
        if not 0 < self.get_timeout <= LONGEST_GET:
            raise ValueError(f"get_timeout must be above 0 and at most {LONGEST_GET} s")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
        if len(self.secret) > MAX_SECRET:
            raise ValueError(f"secret must be at most {MAX_SECRET} bytes long")


class _Fault(Enum):
    UNREACHABLE = "unreachable"


_Found: TypeAlias = bytes | _Fault | None


class _Ask(NamedTuple):
    key: str
    found: asyncio.Future[_Found]

    def answer(self, found: _Found) -> None:
        if not self.found.done():  # or who asked has left
            self.found.set_result(found)


class RedisBackend(CacheBackend):
    """Shared by every replica of the service. Any fault of the server is a miss."""

    def __init__(self, options: RedisOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a backend that is not connected: every `get` misses until `open`.

        Raises:
            ValueError: the URL is not one of Redis.
        """
        pool = ConnectionPool.from_url(
            options.url,
            socket_connect_timeout=options.io_timeout,
            socket_timeout=None,  # a link puts one timeout around each whole exchange
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        # Set here since a URL may hold options, too, and those would win. Version 2 takes one
        # round trip less to connect, and has all that is used here.
        pool.connection_kwargs.update(protocol=2, parser_class=BoundedParser)
        self._options = options
        self._names = NameLookup(pool.connection_kwargs)
        self._breaker = Breaker(options.max_faults, options.cool_down, clock)
        self._pool = pool
        self._writer, *self._readers = (self._new_link() for _ in range(options.readers + 1))
        self._asks = asyncio.Queue[_Ask](options.max_pending_gets)
        self._writes = asyncio.Queue[tuple[str, bytes]](options.max_queued_writes)
        self._tasks: list[asyncio.Task[None]] = []
        self._refused = False

    def _new_link(self) -> Link:
        options = self._options
        return Link(
            self._pool.make_connection(),  # type: ignore[no-untyped-call]
            self._names,
            self._breaker,
            options.prefix,
            (options.get_timeout, options.io_timeout),
        )

    def script(self, text: str) -> RedisScript:
        """Return a Lua script to run on a further connection that shares the breaker."""
        return RedisScript(self._new_link(), text, self._options.get_timeout)

    @override
    async def open(self) -> None:
        """Start connecting, and wait for it at most `io_timeout`."""
        self._tasks = [asyncio.create_task(self._write(self._writer))]
        self._tasks += [asyncio.create_task(self._read(link)) for link in self._readers]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.io_timeout):
                for link in (self._writer, *self._readers):
                    await link.wait_ready()

    @override
    async def get(self, key: str) -> bytes | None:
        """Return the stored bytes; None on a miss, a fault, or after `get_timeout`."""
        started = time.perf_counter()
        found = await self._ask(key)
        RESPONSE_CACHE_REDIS_SECONDS.observe(time.perf_counter() - started)
        if found is None:
            _MISSES.inc()
            return None
        if found is _Fault.UNREACHABLE:
            _ERRORS.inc()
            return None
        value = unseal(key, found, self._options.secret)
        (_HITS if value is not None else _REJECTED).inc()
        return value

    @override
    async def set(self, key: str, value: bytes) -> None:
        """Queue it for the writer.

        It is dropped if the queue is full, the writer is not connected, or the value is too long
        to be read back.
        """
        try:
            if self._writer.is_ready and len(value) <= _LONGEST_STORED:
                self._writes.put_nowait((key, value))
                return
        except asyncio.QueueFull:
            pass
        RESPONSE_CACHE_WRITES_DROPPED.inc()

    @override
    async def close(self) -> None:
        """Write what is queued, for at most `io_timeout`, then disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.io_timeout):
                if self._writer.is_ready:
                    await self._writes.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in (self._writer, *self._readers):
            await link.close()
        self._names.close()
        while not self._writes.empty():
            self._writes.get_nowait()
            RESPONSE_CACHE_WRITES_DROPPED.inc()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        ready = sum(link.is_ready for link in self._readers)
        return (
            f"<RedisBackend {ready} of {len(self._readers)} readers ready, breaker"
            f" {self._breaker.state}, {self._asks.qsize()} asked, {self._writes.qsize()} to write>"
        )

    async def _ask(self, key: str) -> _Found:
        if not self._can_read():
            return _Fault.UNREACHABLE
        ask = _Ask(key, asyncio.get_running_loop().create_future())
        try:
            self._asks.put_nowait(ask)
            async with asyncio.timeout(self._options.get_timeout):
                return await ask.found
        except (TimeoutError, asyncio.QueueFull):
            return _Fault.UNREACHABLE

    def _can_read(self) -> bool:
        return any(link.is_ready for link in self._readers)

    async def _read(self, link: Link) -> None:
        while True:
            await link.connect()
            asks = await _take(self._asks)
            await self._fetch(link, [ask for ask in asks if not ask.found.done()])
            if not self._can_read():
                self._release_asks()

    async def _fetch(self, link: Link, asks: list[_Ask]) -> None:
        if not asks:
            return
        values: list[bytes | None] | list[_Fault] = [_Fault.UNREACHABLE] * len(asks)
        try:
            values = await link.fetch([self._options.prefix + ask.key for ask in asks])
        except LinkError:
            pass
        finally:  # also when this task is cancelled, so that no request waits for it
            for ask, value in zip(asks, values, strict=True):
                ask.answer(value)

    def _release_asks(self) -> None:
        while not self._asks.empty():
            self._asks.get_nowait().answer(_Fault.UNREACHABLE)

    async def _write(self, link: Link) -> None:
        while True:
            await link.connect()
            entries = await _take(self._writes)
            dropped = len(entries)
            try:
                dropped = await self._store(link, entries)
            except LinkError:
                pass
            finally:
                RESPONSE_CACHE_WRITES_DROPPED.inc(dropped)
                for _ in entries:
                    self._writes.task_done()

    async def _store(self, link: Link, entries: list[tuple[str, bytes]]) -> int:
        options = self._options
        sealed = [
            (options.prefix + key, seal(key, value, options.secret)) for key, value in entries
        ]
        refused = await link.store(sealed, [_jittered_ms(options.ttl) for _ in sealed])
        if refused and not self._refused:
            _log.warning("redis refuses to store answers; is it full, or read only?")
        self._refused = refused > 0
        return refused


async def _take(queue: "asyncio.Queue[EntryT]") -> list[EntryT]:
    """Wait for one entry, then take all that are there, up to a batch."""
    taken = [await queue.get()]
    while len(taken) < _BATCH and not queue.empty():
        taken.append(queue.get_nowait())
    return taken


def _jittered_ms(seconds: float) -> int:
    share = 1.0 - _TTL_JITTER * random.random()  # noqa: S311 - it spreads load, guards nothing
    return max(1, int(seconds * 1000 * share))
