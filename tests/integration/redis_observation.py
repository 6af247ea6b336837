"""How tests look at the Redis level: its counters, its contents, its waits, and the loop's."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import REGISTRY
from redis import Redis

from service.cache.redis import RedisBackend, RedisOptions
from tests.redis_server import RedisServer

COOL_DOWN = 0.1


def lookups(result: str) -> float:
    labels = {"level": "redis", "result": result}
    return REGISTRY.get_sample_value("response_cache_lookups_total", labels) or 0.0


def dropped() -> float:
    return REGISTRY.get_sample_value("response_cache_writes_dropped_total") or 0.0


def options(url: str, **changes: Any) -> RedisOptions:
    return RedisOptions(url, **{"cool_down": COOL_DOWN, "io_timeout": 1.0, **changes})


def inspected(server: RedisServer) -> "Redis":
    """Return a plain client of the same server, to look at and to tamper with what it holds."""
    return Redis(port=server.port, protocol=2)


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    patience = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < patience, "it does not come about"
        await asyncio.sleep(0.01)


async def stored(backend: RedisBackend, key: str, value: bytes) -> None:
    async def arrived() -> bool:
        await backend.set(key, value)
        return await backend.get(key) == value

    await eventually(arrived)


async def found(backend: RedisBackend, key: str) -> bytes | None:
    """Get what is known to be there. On a busy machine even that may miss at times."""
    for _ in range(1000):
        if (value := await backend.get(key)) is not None:
            return value
        await asyncio.sleep(0.01)
    return None


async def connected(backend: RedisBackend) -> None:
    async def all_ready() -> bool:
        return repr(backend).startswith("<RedisBackend 2 of 2 readers ready, breaker closed")

    await eventually(all_ready)


class LoopLag:
    """How late the loop itself was at worst. A busy machine is no fault of Redis or the cache."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.002
            await asyncio.sleep(0.002)
            self.worst = max(self.worst, time.perf_counter() - due)


@asynccontextmanager
async def measured_lag() -> AsyncIterator[LoopLag]:
    lag = LoopLag()
    watching = asyncio.create_task(lag.watch())
    try:
        yield lag
    finally:
        watching.cancel()


async def timed_get(backend: RedisBackend, key: str) -> tuple[bytes | None, float]:
    started = time.perf_counter()
    value = await backend.get(key)
    return value, time.perf_counter() - started


async def longest_wait(backend: RedisBackend, callers: int, seconds: float) -> float:
    """Return the longest that a `get` took, of many callers who ask all the time."""
    end = time.monotonic() + seconds
    waits: list[float] = []

    async def call(number: int) -> None:
        while time.monotonic() < end:
            value, waited = await timed_get(backend, f"key {number}")
            assert value is None
            waits.append(waited)
            await asyncio.sleep(0.003)

    await asyncio.gather(*(call(number) for number in range(callers)))
    return max(waits)
