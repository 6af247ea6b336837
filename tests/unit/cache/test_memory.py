import tracemalloc

import pytest
from prometheus_client import REGISTRY

from service.cache.memory import ENTRY_OVERHEAD, MemoryBackend


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counted(result: str) -> float:
    labels = {"level": "memory", "result": result}
    return REGISTRY.get_sample_value("response_cache_lookups_total", labels) or 0.0


async def test_the_entry_unused_for_longest_makes_room() -> None:
    cache = MemoryBackend(max_bytes=10_000, max_entries=2, ttl=60)
    await cache.set("a", b"1")
    await cache.set("b", b"2")
    await cache.get("a")
    await cache.set("c", b"3")
    assert [await cache.get(key) for key in "abc"] == [b"1", None, b"3"]


async def test_bytes_are_bounded_too() -> None:
    room_for_two = 2 * (ENTRY_OVERHEAD + 1 + 100)
    cache = MemoryBackend(max_bytes=room_for_two, max_entries=100, ttl=60)
    for key in "abc":
        await cache.set(key, bytes(100))
    assert [await cache.get(key) for key in "abc"] == [None, bytes(100), bytes(100)]
    assert repr(cache) == f"<MemoryBackend 2 entries, {room_for_two} bytes>"


async def test_a_value_over_the_limit_is_not_stored_and_drives_nothing_out() -> None:
    cache = MemoryBackend(max_bytes=1_000, max_entries=10, ttl=60)
    await cache.set("a", b"1")
    await cache.set("b", bytes(1_001))
    assert [await cache.get(key) for key in "ab"] == [b"1", None]


async def test_a_value_over_the_limit_does_not_leave_its_predecessor_behind() -> None:
    cache = MemoryBackend(max_bytes=1_000, max_entries=10, ttl=60)
    await cache.set("a", b"old")
    await cache.set("a", bytes(1_001))
    assert await cache.get("a") is None


async def test_an_overwritten_entry_is_counted_once() -> None:
    cache = MemoryBackend(max_bytes=10_000, max_entries=10, ttl=60)
    for _ in range(5):
        await cache.set("a", bytes(50))
    await cache.set("a", bytes(10))
    assert repr(cache) == f"<MemoryBackend 1 entries, {ENTRY_OVERHEAD + 1 + 10} bytes>"


async def test_an_entry_expires_when_its_time_is_over() -> None:
    clock = Clock()
    cache = MemoryBackend(max_bytes=10_000, max_entries=10, ttl=60, clock=clock)
    await cache.set("a", b"1")
    clock.now = 59.9
    assert await cache.get("a") == b"1"
    clock.now = 60.0
    assert await cache.get("a") is None
    assert repr(cache) == "<MemoryBackend 0 entries, 0 bytes>"


async def test_writing_again_renews_the_time_but_reading_does_not() -> None:
    clock = Clock()
    cache = MemoryBackend(max_bytes=10_000, max_entries=10, ttl=60, clock=clock)
    await cache.set("written", b"1")
    await cache.set("read", b"1")
    clock.now = 50.0
    await cache.set("written", b"2")
    await cache.get("read")
    clock.now = 70.0
    assert await cache.get("written") == b"2"
    assert await cache.get("read") is None


async def test_lookups_and_contents_are_counted() -> None:
    hits, misses = counted("hit"), counted("miss")
    cache = MemoryBackend(max_bytes=10_000, max_entries=10, ttl=60)
    await cache.set("a", b"1")
    await cache.get("a")
    await cache.get("b")
    assert (counted("hit") - hits, counted("miss") - misses) == (1, 1)
    assert REGISTRY.get_sample_value("response_cache_entries") == 1
    assert REGISTRY.get_sample_value("response_cache_bytes") == ENTRY_OVERHEAD + 2
    await cache.close()
    assert REGISTRY.get_sample_value("response_cache_entries") == 0
    assert REGISTRY.get_sample_value("response_cache_bytes") == 0


async def test_the_byte_limit_is_about_what_the_process_really_takes() -> None:
    cache = MemoryBackend(max_bytes=10**9, max_entries=10**6, ttl=60)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20_000):
            await cache.set(f"{number:032x}", bytes(100))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = cache._bytes
    assert 0.85 < (after - before) / told < 1.05


@pytest.mark.parametrize("limits", [(0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0)])
def test_limits_that_make_no_sense_are_refused(limits: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        MemoryBackend(*limits)
