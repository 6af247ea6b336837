"""What every cache backend promises, checked on each of them; Redis is a real server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import get_args

import pytest

from service.cache.memory import CacheBackend, MemoryBackend, NullBackend, TieredBackend
from service.cache.redis import RedisBackend, RedisOptions
from service.settings.sections import CacheKind
from tests.redis_server import RedisServer

pytestmark = pytest.mark.looptime(False)  # a real server does not wait for a virtual clock


@dataclass
class Subject:
    """A backend, and how to take away what it depends on."""

    backend: CacheBackend
    break_down: Callable[[], None] = lambda: None

    async def store(self, key: str, value: bytes) -> None:
        """Set, and wait until it is there (a backend may write behind)."""
        patience = time.monotonic() + 60
        await self.backend.set(key, value)
        while await self.backend.get(key) != value:
            assert time.monotonic() < patience, "what was set does not arrive"
            await asyncio.sleep(0.01)
            await self.backend.set(key, value)

    async def find(self, key: str) -> bytes | None:
        """Get what is known to be there. On a busy machine even that may miss at times."""
        for _ in range(1000):
            if (value := await self.backend.get(key)) is not None:
                return value
            await asyncio.sleep(0.01)
        return None


def memory() -> MemoryBackend:
    return MemoryBackend(max_bytes=100_000, max_entries=100, ttl=60)


def subject_of(kind: str, request: pytest.FixtureRequest) -> Subject:
    """Return the backend of a kind that the settings know, or the tiers that are made of two."""
    match kind:
        case "none":
            return Subject(NullBackend())
        case "memory":
            return Subject(memory())
        case "redis" | "tiered":
            server: RedisServer = request.getfixturevalue("redis_server")
            redis = RedisBackend(RedisOptions(server.url, cool_down=0.1))
            return Subject(
                redis if kind == "redis" else TieredBackend(memory(), redis), server.kill
            )
        case _:
            pytest.fail(f"the cache backend {kind} needs a case here")


def marked(kind: str) -> object:
    on_a_server = kind in ("redis", "tiered")
    return pytest.param(kind, marks=pytest.mark.redis) if on_a_server else kind


KINDS = (*get_args(CacheKind), "tiered")


@pytest.fixture(params=map(marked, KINDS))
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    made = subject_of(request.param, request)
    await made.backend.open()
    yield made
    await made.backend.close()


on_those_that_store = pytest.mark.parametrize(
    "subject", [marked(kind) for kind in KINDS if kind != "none"], indirect=True
)


async def test_an_unknown_key_is_a_miss(subject: Subject) -> None:
    assert await subject.backend.get("unknown") is None


async def test_the_null_backend_forgets() -> None:
    backend = NullBackend()
    await backend.set("key", b"value")
    assert await backend.get("key") is None


@on_those_that_store
@pytest.mark.parametrize("value", [b"", b"\0\xff" * 3, bytes(50_000)], ids=len)
async def test_what_was_set_is_returned(subject: Subject, value: bytes) -> None:
    await subject.store("key", value)
    assert await subject.find("key") == value


@on_those_that_store
async def test_keys_do_not_touch_each_other(subject: Subject) -> None:
    await subject.store("key", b"value")
    await subject.store("key2", b"other")
    assert await subject.find("key") == b"value"


@on_those_that_store
async def test_setting_again_overwrites(subject: Subject) -> None:
    await subject.store("key", b"old")
    await subject.store("key", b"new")
    assert await subject.find("key") == b"new"


@on_those_that_store
async def test_many_at_once_get_their_own(subject: Subject) -> None:
    keys = [str(number) for number in range(90)]
    await asyncio.gather(*(subject.store(key, key.encode()) for key in keys))
    values = await asyncio.gather(*(subject.find(key) for key in keys))
    assert values == [key.encode() for key in keys]


async def test_a_fault_is_a_miss_and_never_an_error(subject: Subject) -> None:
    await asyncio.to_thread(subject.break_down)
    for number in range(20):
        assert await subject.backend.get(f"unknown {number}") is None
        await subject.backend.set(f"other {number}", b"value")


async def test_closed_it_misses_and_may_be_closed_again(subject: Subject) -> None:
    await subject.backend.set("key", b"value")
    await subject.backend.close()
    assert await subject.backend.get("key") is None
    await subject.backend.set("key", b"value")
    assert await subject.backend.get("key") is None
    await subject.backend.close()


async def test_closing_after_a_fault_is_no_error(subject: Subject) -> None:
    await asyncio.to_thread(subject.break_down)
    await subject.backend.set("key", b"value")
    await subject.backend.close()


async def test_it_shows_itself(subject: Subject) -> None:
    assert repr(subject.backend).startswith(f"<{type(subject.backend).__name__}")
