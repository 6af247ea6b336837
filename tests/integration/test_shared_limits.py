"""Limits that processes share through Redis, and what happens when it is gone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY
from redis import Redis

from service.access.access import Access
from service.access.caller import Caller
from service.access.keys_file import digest_of
from service.access.shared import TAKE, RedisCounts
from service.cache.redis import RedisBackend
from service.errors import QuotaExceededError, RateLimitedError
from service.tasks import EmbedItem, Task, Text
from tests.integration.real_service import real_service
from tests.integration.redis_observation import COOL_DOWN, eventually, inspected, options
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.redis, pytest.mark.integration, pytest.mark.looptime(False)]

ITEM = EmbedItem(Text("four"))
LONGEST = 0.05


def keys_file(folder: Path, *lines: str) -> Path:
    path = folder / "keys.toml"
    digest = digest_of(b"secret").hex()
    path.write_text("\n".join(["[keys.a]", f'sha256 = "{digest}"', *lines]))
    return path


@asynccontextmanager
async def process(server: RedisServer, file: Path) -> AsyncIterator[Caller]:
    """Yield the caller as one more process has it, with a connection of its own."""
    backend = RedisBackend(options(server.url, get_timeout=LONGEST))
    counts = RedisCounts(backend.script(TAKE), "test:")
    counts.open()
    link = counts._script._link

    async def connected() -> bool:
        return link.is_ready

    await eventually(connected, 60)
    try:
        yield Access(file, None, counts).caller("secret")
    finally:
        await counts.close()
        await backend.close()


def local_decisions() -> float:
    return REGISTRY.get_sample_value("access_local_decisions_total") or 0.0


async def accepted(callers: list[Caller], requests: int) -> int:
    """Return how many requests are accepted of those that all processes send at the same time."""

    async def ask(caller: Caller) -> bool:
        try:
            await caller.spend(Task.EMBED, ["m"], [ITEM])
        except (RateLimitedError, QuotaExceededError):
            return False
        return True

    answers = await asyncio.gather(*(ask(callers[n % len(callers)]) for n in range(requests)))
    return sum(answers)


async def test_two_processes_share_every_limit_exactly(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    file = keys_file(tmp_path, "items_per_day = 50", "characters_per_minute = 1000000")
    async with process(redis_server, file) as one, process(redis_server, file) as two:
        before = local_decisions()
        # A busy machine may miss the time of a look-up; such a request is counted locally.
        taken = sum([await accepted([one, two], 8) for _ in range(12)])
        slow = local_decisions() - before
        assert 50 <= taken <= 50 + slow
        if not slow:
            days = [standing for standing in one.standings() if standing.limit.name == "items-day"]
            assert [(day.room, day.reset > 0) for day in days] == [(0, True)]
    with inspected(redis_server) as redis:
        key = b"test:limits:{a}:items-day"
        assert int(redis.hget(key, "used") or 0) == 50  # type: ignore[arg-type]
        assert 86_000_000 < redis.pttl(key) <= 86_402_000  # type: ignore[operator]


async def test_a_bucket_is_shared_too(redis_server: RedisServer, tmp_path: Path) -> None:
    file = keys_file(tmp_path, "requests_per_second = 0.001", "burst = 10")
    async with process(redis_server, file) as one, process(redis_server, file) as two:
        before, taken = local_decisions(), 0
        for caller in [one, two] * 10:
            with suppress(RateLimitedError):
                await caller.begin()
                taken += 1
        assert 10 <= taken <= 10 + local_decisions() - before


async def test_without_redis_the_limits_are_local_at_once_and_later_shared_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    file = keys_file(tmp_path, "items_per_day = 30")
    async with process(redis_server, file) as caller:
        assert await accepted([caller], 10) == 10
        redis_server.kill()
        before = local_decisions()
        # It goes on from what all had used.
        assert await accepted([caller], 40) == 20
        assert local_decisions() >= before + 40
        redis_server.start()

        async def shared() -> bool:
            before = local_decisions()
            await accepted([caller], 1)
            return local_decisions() == before

        await eventually(shared, 60)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda redis: redis.set("test:limits:{a}:items-day", "a string, not a hash"),
        lambda redis: redis.hset("test:limits:{a}:items-day", mapping={"used": "x", "until": "y"}),
        lambda redis: redis.config_set("maxmemory", "1"),
        lambda redis: redis.script_flush(),
        lambda redis: redis.flushall(),
    ],
    ids=["another type", "no numbers", "no memory", "no script", "empty"],
)
async def test_whatever_redis_says_a_limit_is_kept(
    redis_server: RedisServer, tmp_path: Path, tamper: object
) -> None:
    file = keys_file(tmp_path, "items_per_day = 30")
    async with process(redis_server, file) as caller:
        assert await accepted([caller], 10) == 10
        with inspected(redis_server) as redis:
            assert isinstance(redis, Redis)
            assert callable(tamper)
            tamper(redis)
        await asyncio.sleep(COOL_DOWN)
        assert await accepted([caller], 60) in range(20, 31)


async def test_two_services_share_a_day(redis_server: RedisServer, tmp_path: Path) -> None:
    file = keys_file(tmp_path, "items_per_day = 40")
    shared = (
        "--models.only=news-topics",
        "--models.warm-up-seconds=0.2",
        f"--access.keys-file={file}",
        f"--cache.redis-url={redis_server.url}",
        "--cache.redis-timeout-ms=50",
    )
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with real_service(folders[0], *shared) as one, real_service(folders[1], *shared) as two:
        statuses: Counter[int] = Counter()
        async with httpx.AsyncClient(timeout=60, headers={"X-API-Key": "secret"}) as client:
            for n in range(60):
                response = await client.post(
                    f"{(one, two)[n % 2].url}/v1/classify", json={"text": f"text {n}"}
                )
                statuses[response.status_code] += 1
            slow = 0
            for service in (one, two):
                text = (await client.get(f"{service.url}/metrics")).text
                lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
                slow += int(float(lines["access_local_decisions_total"]))
                assert lines['access_requests_total{key="a"}'] == "30.0"
    assert set(statuses) == {200, 403}
    assert 40 <= statuses[200] <= 40 + slow
