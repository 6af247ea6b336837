"""The Redis level while its server is killed, stalled and restarted: no request notices."""

import asyncio
import time
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from service.cache.memory import MemoryBackend, TieredBackend
from service.cache.redis import LONGEST_GET, RedisBackend
from service.cache.responses import CacheMode, CacheOutcome, ResponseCache
from service.tasks import Classification, Label, Task
from tests.integration.redis_observation import (
    connected,
    dropped,
    eventually,
    found,
    longest_wait,
    lookups,
    measured_lag,
    options,
    stored,
    timed_get,
)
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.looptime(False), pytest.mark.redis]


async def test_with_redis_gone_a_request_takes_at_most_5_ms_more(
    redis_server: RedisServer,
) -> None:
    async def compute() -> Classification:
        return Classification(())

    async with RedisBackend(options(redis_server.url)) as redis:
        cache = ResponseCache(TieredBackend(MemoryBackend(10**6, 10, 60), redis))
        redis_server.kill()
        errors = lookups("error")
        async with measured_lag() as lag:
            waits = []
            for number in range(300):
                started = time.perf_counter()
                _, outcome = await cache.get_or_compute(
                    f"{number}", Task.CLASSIFY, compute, mode=CacheMode.USE, deadline=None
                )
                waits.append(time.perf_counter() - started)
                assert outcome is CacheOutcome.MISS
                await asyncio.sleep(0.001)
        # Two may meet another program that has the core.
        assert sorted(waits)[-3] < 0.005 + lag.worst
        assert sorted(waits)[150] < 0.001
        assert lookups("error") - errors == 300
        assert "breaker closed" not in repr(redis)
        assert REGISTRY.get_sample_value("response_cache_breaker_open") == 1


async def test_with_redis_stalled_no_request_waits_longer_than_50_ms(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        redis_server.stall()
        async with measured_lag() as lag:
            assert await longest_wait(backend, callers=50, seconds=1.0) < LONGEST_GET + lag.worst
        assert "0 of 2 readers ready, breaker" in repr(backend)
        redis_server.resume()

        await stored(backend, "key", b"value")


async def test_a_first_look_up_at_a_stalled_server_takes_the_budget_and_later_ones_nothing(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url, readers=1, cool_down=60.0)) as backend:
        redis_server.stall()
        async with measured_lag() as lag:
            _, first = await timed_get(backend, "key")
            await asyncio.sleep(0.05)
            _, later = await timed_get(backend, "key")
        assert 0.019 < first < 0.020 + 0.005 + lag.worst
        assert later < 0.005 + lag.worst
        redis_server.resume()


async def test_who_queued_behind_the_last_fault_does_not_wait_out_its_own_budget(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(
        options(redis_server.url, readers=1, get_timeout=LONGEST_GET)
    ) as backend:
        redis_server.stall()
        async with measured_lag() as lag:
            first = asyncio.create_task(timed_get(backend, "first"))
            await asyncio.sleep(0.03)
            _, waited = await timed_get(backend, "second")
        await first
        redis_server.resume()
        assert waited < 0.040 + lag.worst


async def test_a_server_restarted_and_then_stalled_takes_no_more_than_the_budget(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        redis_server.restart()
        redis_server.stall()
        await asyncio.sleep(0.05)  # the loop hears of the closed connections
        async with measured_lag() as lag:
            # its reader connects again meanwhile, which may take all of io_timeout
            _, waited = await timed_get(backend, "key")
        redis_server.resume()
        assert waited < LONGEST_GET + lag.worst


async def test_a_late_reply_is_never_taken_for_the_next_one(redis_server: RedisServer) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        for key in "abcd":
            await stored(backend, key, key.encode())
        for _ in range(5):
            redis_server.stall()
            await asyncio.gather(*(backend.get(key) for key in "abcd"))
            redis_server.resume()
            rejected = lookups("rejected")

            values = await asyncio.gather(*(found(backend, key) for key in "cdab"))
            assert values == [b"c", b"d", b"a", b"b"]
            assert lookups("rejected") == rejected


async def test_it_works_again_after_a_restart_by_itself(redis_server: RedisServer) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        await stored(backend, "key", b"value")
        redis_server.kill()
        for number in range(20):
            assert await backend.get("key") is None
            await backend.set(f"{number}", b"value")
            await asyncio.sleep(0.01)
        assert "breaker closed" not in repr(backend)
        lost = dropped()
        await backend.set("key", b"value")
        assert dropped() - lost == 1, "it does not pile up for later"
        redis_server.start()
        await stored(backend, "key", b"value again")
        await connected(backend)
        assert REGISTRY.get_sample_value("response_cache_breaker_open") == 0


async def test_a_restart_while_nobody_asks_costs_no_miss_and_no_write(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:

        async def restart_costs_nothing() -> bool:
            await connected(backend)
            redis_server.restart()
            await asyncio.sleep(0.05)  # the loop hears of the closed connections
            errors, lost = lookups("error"), dropped()
            await backend.set("key", b"value")
            for _ in range(4):
                await asyncio.gather(*(backend.get("key") for _ in range(10)))
            await stored(backend, "key", b"value")
            return (lookups("error"), dropped()) == (errors, lost)

        await eventually(restart_costs_nothing)  # not each time, if the machine is busy


class Load:
    """Callers who ask for the same few answers all the time, and check every one of them."""

    def __init__(self, cache: ResponseCache, seconds: float) -> None:
        self.outcomes: Counter[CacheOutcome] = Counter()
        self.longest_wait = 0.0
        """What the cache took at worst: the time of a request less that of its computation."""
        self._cache = cache
        self._end = time.monotonic() + seconds

    async def call(self, number: int) -> None:
        """Ask until the time is over, beginning with the answer of this number."""
        while time.monotonic() < self._end:
            await self._ask(f"key {number % 60}")
            number += 1

    async def _ask(self, key: str) -> None:
        computing = 0.0

        async def compute() -> Classification:
            nonlocal computing
            started = time.perf_counter()
            await asyncio.sleep(0.002)
            computing = time.perf_counter() - started
            return Classification((Label(key, 0.5),))

        started = time.perf_counter()
        answer, outcome = await self._cache.get_or_compute(
            key, Task.CLASSIFY, compute, mode=CacheMode.USE, deadline=None
        )
        if outcome is not CacheOutcome.SHARED:  # they wait for the computation of another
            waited = time.perf_counter() - started - computing
            self.longest_wait = max(self.longest_wait, waited)
        assert answer == Classification((Label(key, 0.5),))
        self.outcomes[outcome] += 1


async def mistreat(server: RedisServer) -> None:
    for mistreatment in (
        server.kill,
        server.start,
        server.stall,
        server.resume,
        server.restart,
        server.stall,
        server.kill,
        server.start,
    ):
        await asyncio.sleep(0.4)
        await asyncio.to_thread(mistreatment)


async def test_requests_survive_redis_being_killed_stalled_and_restarted_under_load(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url, io_timeout=0.5)) as redis:
        # so little memory that Redis is what counts
        cache = ResponseCache(TieredBackend(MemoryBackend(10**6, 2, 60), redis))
        load = Load(cache, seconds=4.0)
        async with measured_lag() as lag:
            callers = (load.call(number) for number in range(24))
            await asyncio.gather(mistreat(redis_server), *callers)
        assert load.longest_wait < LONGEST_GET + lag.worst
        assert min(load.outcomes[kind] for kind in (CacheOutcome.HIT, CacheOutcome.MISS)) > 10

        hits = lookups("hit")
        await stored(redis, "after", b"value")
        assert lookups("hit") > hits
        await connected(redis)
