import pytest

from service.cache.memory import MemoryBackend, NullBackend, TieredBackend


def memory() -> MemoryBackend:
    return MemoryBackend(max_bytes=10_000, max_entries=10, ttl=60)


async def test_both_levels_are_written() -> None:
    near, far = memory(), memory()
    await TieredBackend(near, far).set("a", b"1")
    assert (await near.get("a"), await far.get("a")) == (b"1", b"1")


async def test_what_only_the_far_level_knew_is_near_afterwards() -> None:
    near, far = memory(), memory()
    await far.set("a", b"1")
    assert await TieredBackend(near, far).get("a") == b"1"
    assert await near.get("a") == b"1"


async def test_a_near_hit_does_not_ask_the_far_level() -> None:
    near, far = memory(), memory()
    await near.set("a", b"near")
    await far.set("a", b"far")
    assert await TieredBackend(near, far).get("a") == b"near"


async def test_a_miss_in_both_is_a_miss_and_leaves_nothing() -> None:
    near = memory()
    assert await TieredBackend(near, memory()).get("a") is None
    assert repr(near) == "<MemoryBackend 0 entries, 0 bytes>"


async def test_both_levels_are_closed_even_if_the_near_one_fails_to() -> None:
    class Stubborn(NullBackend):
        async def close(self) -> None:
            raise RuntimeError("no")

    far = memory()
    await far.set("a", b"1")
    with pytest.raises(RuntimeError):
        await TieredBackend(Stubborn(), far).close()
    assert await far.get("a") is None


def test_it_shows_both_levels() -> None:
    assert repr(TieredBackend(NullBackend(), NullBackend())) == (
        "<TieredBackend <NullBackend> over <NullBackend>>"
    )
