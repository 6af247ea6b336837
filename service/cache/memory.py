"""The in-process level: least recently used, bounded by bytes and by entries."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from typing_extensions import override

from service.telemetry.metrics import (
    RESPONSE_CACHE_BYTES,
    RESPONSE_CACHE_ENTRIES,
    RESPONSE_CACHE_LOOKUPS,
)


class CacheBackend(Protocol):
    """Bytes by key. An unreachable backend is a miss, never an error.

    Its `repr` says how it is doing, for logs and tests.
    """

    async def open(self) -> None:
        """Connect, without waiting long for it. Never raises; called once, before all else."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Return the stored bytes, or None on a miss or a fault. Never raises."""
        ...

    async def set(self, key: str, value: bytes) -> None:
        """Store as well as it can be done without waiting for anything. Never raises."""
        ...

    async def close(self) -> None:
        """Give everything back. Afterwards every `get` misses; closing twice is allowed."""
        ...


class NullBackend(CacheBackend):
    """Always misses."""

    @override
    async def open(self) -> None:
        pass

    @override
    async def get(self, key: str) -> bytes | None:
        return None

    @override
    async def set(self, key: str, value: bytes) -> None:
        pass

    @override
    async def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<NullBackend>"


class TieredBackend(CacheBackend):
    """Memory first, then Redis. A hit in Redis is copied to memory; writes go to both."""

    def __init__(self, near: CacheBackend, far: CacheBackend) -> None:
        self._near, self._far = near, far

    @property
    def far(self) -> CacheBackend:
        """Return the level behind memory."""
        return self._far

    @override
    async def open(self) -> None:
        await self._near.open()
        await self._far.open()

    @override
    async def get(self, key: str) -> bytes | None:
        if (value := await self._near.get(key)) is not None:
            return value
        if (value := await self._far.get(key)) is not None:
            await self._near.set(key, value)
        return value

    @override
    async def set(self, key: str, value: bytes) -> None:
        await self._near.set(key, value)
        await self._far.set(key, value)

    @override
    async def close(self) -> None:
        try:
            await self._near.close()
        finally:
            await self._far.close()

    def __repr__(self) -> str:
        return f"<TieredBackend {self._near!r} over {self._far!r}>"


_HITS = RESPONSE_CACHE_LOOKUPS.labels("memory", "hit")
_MISSES = RESPONSE_CACHE_LOOKUPS.labels("memory", "miss")

ENTRY_OVERHEAD = 260
"""Bytes of an entry besides its key and value: object headers, the expiry and its place in the
table. A test measures it."""


class MemoryBackend(CacheBackend):
    """Private to one process. Reading and writing take about a microsecond and never suspend."""

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        ttl: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an empty cache.

        Args:
            max_bytes: what all entries together may take, bookkeeping included.
            max_entries: how many there may be.
            ttl: seconds after which an entry is no longer returned.
            clock: seconds that never go back.

        Raises:
            ValueError: a limit is not positive.
        """
        if max_bytes <= 0 or max_entries <= 0 or ttl <= 0:
            raise ValueError("max_bytes, max_entries and ttl must be positive")
        self._max_bytes, self._max_entries = max_bytes, max_entries
        self._ttl, self._clock = ttl, clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._bytes = 0
        # read when they are scraped: setting them at every write took a third of its time
        RESPONSE_CACHE_ENTRIES.set_function(self._entries.__len__)
        RESPONSE_CACHE_BYTES.set_function(lambda: self._bytes)

    @override
    async def open(self) -> None:
        pass

    @override
    async def get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            _MISSES.inc()
            return None
        value, expires = entry
        if self._clock() >= expires:
            self._remove(key)
            _MISSES.inc()
            return None
        self._entries.move_to_end(key)
        _HITS.inc()
        return value

    @override
    async def set(self, key: str, value: bytes) -> None:
        """Store, and drop the least recently used entries. A value over the limit is not stored."""
        if key in self._entries:
            self._remove(key)
        if _size(key, value) <= self._max_bytes:
            self._entries[key] = (value, self._clock() + self._ttl)
            self._bytes += _size(key, value)
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._remove(next(iter(self._entries)))

    @override
    async def close(self) -> None:
        self._entries.clear()
        self._bytes = 0
        self._max_entries = 0

    def __repr__(self) -> str:
        return f"<MemoryBackend {len(self._entries)} entries, {self._bytes} bytes>"

    def _remove(self, key: str) -> None:
        value, _ = self._entries.pop(key)
        self._bytes -= _size(key, value)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD
