"""The Redis level against a real server: what is stored, what is believed, what is bounded."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from service.cache.redis import RedisBackend, RedisOptions
from service.cache.responses import CacheMode, CacheOutcome, ResponseCache
from service.tasks import Classification, Label, Task
from tests.integration.redis_observation import (
    dropped,
    eventually,
    found,
    inspected,
    lookups,
    measured_lag,
    options,
    stored,
    timed_get,
)
from tests.redis_server import RedisServer
from tests.sentences import sentence

pytestmark = [pytest.mark.looptime(False), pytest.mark.redis]


async def test_replicas_share_what_one_of_them_stored(redis_server: RedisServer) -> None:
    async with (
        RedisBackend(options(redis_server.url)) as one,
        RedisBackend(options(redis_server.url)) as other,
    ):
        await stored(one, "key", b"value")
        assert await found(other, "key") == b"value"


async def test_every_key_has_the_prefix_and_expires_but_not_all_at_once(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(
        options(redis_server.url, prefix="ours:", ttl=100.0, io_timeout=5.0)
    ) as backend:
        for number in range(40):
            await backend.set(f"{number}", b"value")
    with inspected(redis_server) as client:
        keys = client.keys()
        assert {key.decode() for key in keys} == {f"ours:{number}" for number in range(40)}
        left = [client.pttl(key) for key in keys]
    assert 85_000 < min(left) <= max(left) <= 100_000
    assert max(left) - min(left) > 2_000


async def test_two_services_with_different_prefixes_do_not_meet(
    redis_server: RedisServer,
) -> None:
    async with (
        RedisBackend(options(redis_server.url, prefix="a:")) as one,
        RedisBackend(options(redis_server.url, prefix="b:")) as other,
    ):
        await stored(one, "key", b"value")
        assert await other.get("key") is None


def swapped(client: "Redis") -> None:
    client.set("quartet:key", client.get("quartet:other"))


def truncated(client: "Redis") -> None:
    client.set("quartet:key", client.get("quartet:key")[:-1])


def damaged(client: "Redis") -> None:
    client.setrange("quartet:key", client.strlen("quartet:key") - 1, b"X")


def another_schema(client: "Redis") -> None:
    client.setrange("quartet:key", 4, b"\xfe")


def foreign(client: "Redis") -> None:
    client.set("quartet:key", b'[["fake",1.0]]')


def empty(client: "Redis") -> None:
    client.set("quartet:key", b"")


@pytest.mark.parametrize("tamper", [swapped, truncated, damaged, another_schema, foreign, empty])
async def test_a_poisoned_value_is_a_miss_and_counted_as_rejected(
    redis_server: RedisServer, tamper: Callable[["Redis"], None]
) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        await stored(backend, "key", b"value")
        await stored(backend, "other", b"other")
        rejected, hits = lookups("rejected"), lookups("hit")
        with inspected(redis_server) as client:
            tamper(client)

        async def was_rejected() -> bool:
            assert await backend.get("key") is None
            return lookups("rejected") > rejected

        await eventually(was_rejected)
        assert lookups("hit") == hits


async def test_a_key_that_holds_no_string_is_a_miss(redis_server: RedisServer) -> None:
    with inspected(redis_server) as client:
        client.rpush("quartet:key", b"value")
    async with RedisBackend(options(redis_server.url)) as backend:
        assert await backend.get("key") is None
        await stored(backend, "key", b"value")


async def test_values_sealed_with_another_secret_are_rejected(redis_server: RedisServer) -> None:
    async with (
        RedisBackend(options(redis_server.url, secret=b"ours")) as ours,
        RedisBackend(options(redis_server.url)) as theirs,
    ):
        await stored(theirs, "key", b"forged")
        assert await ours.get("key") is None


async def test_a_poisoned_answer_is_computed_anew_and_replaced(redis_server: RedisServer) -> None:
    real = Classification((Label("real", 0.75),))

    async def compute() -> Classification:
        return real

    async def ask(cache: ResponseCache) -> tuple[Classification, CacheOutcome]:
        return await cache.get_or_compute(
            "key", Task.CLASSIFY, compute, mode=CacheMode.USE, deadline=None
        )

    async with RedisBackend(options(redis_server.url)) as backend:
        with inspected(redis_server) as client:
            foreign(client)
            assert await ask(ResponseCache(backend)) == (real, CacheOutcome.MISS)

            async def replaced() -> bool:
                return client.get("quartet:key") != b'[["fake",1.0]]'

            await eventually(replaced)

        async def hit() -> bool:
            return await ask(ResponseCache(backend)) == (real, CacheOutcome.HIT)

        await eventually(hit)


async def test_lookups_are_counted(redis_server: RedisServer) -> None:
    async with RedisBackend(options(redis_server.url)) as backend:
        await stored(backend, "key", b"value")
        hits, misses = lookups("hit"), lookups("miss")
        await found(backend, "key")
        assert (lookups("hit") - hits, lookups("miss") - misses) == (1, 0)

        async def missed() -> bool:
            await backend.get("unknown")
            return lookups("miss") > misses

        await eventually(missed)
        errors = lookups("error")
    await backend.get("key")
    assert lookups("error") - errors == 1


async def test_more_lookups_than_may_wait_are_misses_at_once(redis_server: RedisServer) -> None:
    async with RedisBackend(options(redis_server.url, max_pending_gets=4, readers=1)) as backend:
        redis_server.stall()
        async with measured_lag() as lag:
            results = await asyncio.gather(*(timed_get(backend, f"{n}") for n in range(20)))
        waits = sorted(waited for _, waited in results)
        assert all(value is None for value, _ in results)
        assert waits[15] < 0.005 + lag.worst, "16 of 20 did not wait"
        assert waits[16] > 0.019
        redis_server.resume()


async def test_more_writes_than_may_wait_are_dropped_and_counted(
    redis_server: RedisServer,
) -> None:
    async with RedisBackend(options(redis_server.url, max_queued_writes=4)) as backend:
        redis_server.stall()
        lost = dropped()
        started = time.perf_counter()
        for number in range(20):
            await backend.set(f"{number}", b"value")
        assert time.perf_counter() - started < 0.05
        assert dropped() - lost == 16
        redis_server.resume()


async def test_closing_writes_what_is_queued(redis_server: RedisServer) -> None:
    async with RedisBackend(options(redis_server.url, io_timeout=5.0)) as backend:
        for number in range(300):
            await backend.set(f"{number}", b"value")
    with inspected(redis_server) as client:
        assert client.dbsize() == 300


async def test_closing_does_not_wait_for_a_stalled_server(redis_server: RedisServer) -> None:
    backend = RedisBackend(options(redis_server.url, io_timeout=0.1))
    await backend.open()
    redis_server.stall()
    lost = dropped()
    for number in range(100):
        await backend.set(f"{number}", b"value")
    started = time.perf_counter()
    asking = asyncio.create_task(backend.get("key"))
    await backend.close()
    assert time.perf_counter() - started < 0.5
    assert await asking is None
    assert dropped() - lost == 100
    redis_server.resume()


async def test_opening_does_not_wait_long_for_a_stalled_server(redis_server: RedisServer) -> None:
    redis_server.stall()
    started = time.perf_counter()
    async with RedisBackend(options(redis_server.url, io_timeout=0.1)) as backend:
        assert time.perf_counter() - started < 0.3
        assert await backend.get("key") is None
    redis_server.resume()


@pytest.mark.parametrize(
    "changes",
    [
        {"get_timeout": 0.051},
        {"get_timeout": 0.0},
        {"ttl": 0.0},
        {"io_timeout": 0.0},
        {"cool_down": 0.0},
        {"readers": 0},
        {"max_pending_gets": 0},
        {"max_queued_writes": 0},
        {"max_faults": 0},
        {"secret": bytes(65)},
    ],
    ids=str,
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, check=sentence):
        RedisOptions("redis://localhost", **changes)


def test_a_url_that_is_not_of_redis_is_refused() -> None:
    with pytest.raises(ValueError, check=sentence):
        RedisBackend(RedisOptions("http://localhost"))
