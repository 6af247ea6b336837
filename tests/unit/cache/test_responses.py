"""The response cache over a real memory level, on a virtual clock."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import REGISTRY

from service.cache.memory import CacheBackend, MemoryBackend, NullBackend
from service.cache.responses import CacheMode, CacheOutcome, ResponseCache
from service.errors import DeadlineExceededError, InferenceError
from service.tasks import Classification, Label, Task

USE, REFRESH, BYPASS = CacheMode.USE, CacheMode.REFRESH, CacheMode.BYPASS
HIT, MISS, SHARED = CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.SHARED


class Model:
    """Takes 1 s an answer; each answer says which run it came from."""

    def __init__(self, score: float = 0.5) -> None:
        self.runs = 0
        self._score = score

    async def __call__(self) -> Classification:
        self.runs += 1
        run = self.runs
        await asyncio.sleep(1)
        return answer(run, self._score)


class Slow(NullBackend):
    """A backend that takes its time, 0.02 s, and then misses."""

    async def get(self, key: str) -> bytes | None:
        await asyncio.sleep(0.02)
        return None


def answer(run: int, score: float = 0.5) -> Classification:
    return Classification((Label(f"run {run}", score),))


def memory() -> MemoryBackend:
    return MemoryBackend(max_bytes=100_000, max_entries=100, ttl=60)


async def ask(
    cache: ResponseCache,
    compute: Callable[[], Awaitable[Classification]],
    mode: CacheMode = USE,
    deadline: float | None = None,
    key: str = "key",
) -> tuple[Classification, CacheOutcome]:
    return await cache.get_or_compute(key, Task.CLASSIFY, compute, mode=mode, deadline=deadline)


def sampled(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_the_second_request_is_a_hit(looptime) -> None:
    cache, model = ResponseCache(memory()), Model()
    assert await ask(cache, model) == (answer(1), MISS)
    assert await ask(cache, model) == (answer(1), HIT)
    assert looptime == 1


async def test_another_key_is_a_miss() -> None:
    cache, model = ResponseCache(memory()), Model()
    await ask(cache, model, key="a")
    assert await ask(cache, model, key="b") == (answer(2), MISS)


async def test_a_hit_makes_no_task_and_does_not_let_others_run() -> None:
    cache, model = ResponseCache(memory()), Model()
    await ask(cache, model)
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "something else")
    before = asyncio.all_tasks()
    assert await ask(cache, model) == (answer(1), HIT)
    assert not ran
    assert asyncio.all_tasks() == before


async def test_identical_requests_share_one_run() -> None:
    cache, model = ResponseCache(memory()), Model()
    shared = sampled("single_flight_shared_total")
    results = await asyncio.gather(*(ask(cache, model) for _ in range(4)))
    assert results == [(answer(1), MISS), *[(answer(1), SHARED)] * 3]
    assert model.runs == 1
    assert sampled("single_flight_shared_total") - shared == 3


async def test_identical_requests_share_one_lookup_too() -> None:
    class Counting(Slow):
        lookups = 0

        async def get(self, key: str) -> bytes | None:
            self.lookups += 1
            return await super().get(key)

    backend = Counting()
    cache = ResponseCache(backend)
    await asyncio.gather(*(ask(cache, Model()) for _ in range(4)))
    assert backend.lookups == 1


async def test_who_waits_for_a_lookup_that_hits_has_a_hit() -> None:
    class Far(Slow):
        async def get(self, key: str) -> bytes | None:
            await super().get(key)
            return await stored.get(key)

    stored, model = memory(), Model()
    await ask(ResponseCache(stored), model)
    shared = sampled("single_flight_shared_total")
    cache = ResponseCache(Far())
    results = await asyncio.gather(*(ask(cache, model) for _ in range(3)))
    assert results == [(answer(1), HIT)] * 3
    assert sampled("single_flight_shared_total") == shared


async def test_what_a_run_stored_is_there_before_the_next_request_can_miss_it() -> None:
    cache, model = ResponseCache(memory()), Model()
    first = asyncio.create_task(ask(cache, model))

    async def ask_all_the_time() -> None:
        while not first.done():
            await asyncio.sleep(0.01)
            await ask(cache, model)

    await asyncio.gather(first, ask_all_the_time())
    assert model.runs == 1


async def test_refresh_computes_although_an_answer_is_stored_and_stores_the_new_one() -> None:
    cache, model = ResponseCache(memory()), Model()
    await ask(cache, model)
    assert await ask(cache, model, REFRESH) == (answer(2), MISS)
    assert await ask(cache, model) == (answer(2), HIT)


async def test_refresh_does_not_share_a_run() -> None:
    cache, model = ResponseCache(memory()), Model()
    results = await asyncio.gather(ask(cache, model), ask(cache, model, REFRESH))
    assert results == [(answer(1), MISS), (answer(2), MISS)]


async def test_bypass_neither_reads_nor_stores_nor_shares() -> None:
    cache, model = ResponseCache(memory()), Model()
    results = await asyncio.gather(*(ask(cache, model, BYPASS) for _ in range(2)))
    assert results == [(answer(1), CacheOutcome.BYPASS), (answer(2), CacheOutcome.BYPASS)]
    assert await ask(cache, model) == (answer(3), MISS)
    assert await ask(cache, model, BYPASS) == (answer(4), CacheOutcome.BYPASS)
    assert await ask(cache, model) == (answer(3), HIT)


async def test_disabled_it_remembers_nothing_but_still_shares() -> None:
    backend = memory()
    cache, model = ResponseCache(backend, enabled=False), Model()
    results = await asyncio.gather(*(ask(cache, model) for _ in range(3)))
    assert results == [(answer(1), CacheOutcome.BYPASS), *[(answer(1), SHARED)] * 2]
    assert await ask(cache, model) == (answer(2), CacheOutcome.BYPASS)
    assert await ask(cache, model, REFRESH) == (answer(3), CacheOutcome.BYPASS)
    assert repr(backend) == "<MemoryBackend 0 entries, 0 bytes>"


async def test_sharing_can_be_switched_off_by_itself() -> None:
    cache, model = ResponseCache(memory(), single_flight=False), Model()
    results = await asyncio.gather(*(ask(cache, model) for _ in range(2)))
    assert results == [(answer(1), MISS), (answer(2), MISS)]
    assert (await ask(cache, model))[1] is HIT


async def test_a_failure_is_not_stored() -> None:
    async def broken() -> Classification:
        raise InferenceError("broken")

    cache, model = ResponseCache(memory()), Model()
    with pytest.raises(InferenceError):
        await ask(cache, broken)
    assert await ask(cache, model) == (answer(1), MISS)


async def test_a_leader_who_leaves_during_the_lookup_is_replaced() -> None:
    cache, model = ResponseCache(Slow()), Model()
    leader, heir = (asyncio.create_task(ask(cache, model)) for _ in range(2))
    await asyncio.sleep(0.01)
    leader.cancel()
    assert await heir == (answer(1), MISS)


async def test_a_follower_keeps_its_deadline(looptime) -> None:
    cache, model = ResponseCache(memory()), Model()
    leader = asyncio.create_task(ask(cache, model))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceededError):
        await ask(cache, model, deadline=0.25)
    assert looptime == 0.25
    await leader


async def test_stored_bytes_that_are_no_answer_are_a_miss_and_are_replaced() -> None:
    backend, model = memory(), Model()
    await backend.set("key", b"[[1, 2]]")
    cache = ResponseCache(backend)
    rejected = sampled("response_cache_lookups_total", level="codec", result="rejected")
    assert await ask(cache, model) == (answer(1), MISS)
    counted = sampled("response_cache_lookups_total", level="codec", result="rejected")
    assert counted - rejected == 1
    assert await ask(cache, model) == (answer(1), HIT)


async def test_an_answer_that_cannot_be_stored_is_still_given(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache, model = ResponseCache(memory()), Model(score=math.nan)
    with caplog.at_level(logging.WARNING):
        given, outcome = await ask(cache, model)
    assert math.isnan(given.labels[0].score)
    assert outcome is MISS
    assert "not stored" in caplog.text
    assert (await ask(cache, model))[1] is MISS


@pytest.mark.parametrize("backend", [NullBackend(), memory()])
async def test_it_shows_what_it_is_made_of(backend: CacheBackend) -> None:
    assert repr(ResponseCache(backend)) == (
        f"<ResponseCache {backend!r}, <SingleFlight 0 running, 0 waiting>>"
    )
    assert "disabled" in repr(ResponseCache(backend, enabled=False))
