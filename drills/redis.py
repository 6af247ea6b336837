"""Faults of Redis under load: no request fails, and none waits longer than the setting."""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from drills.fake_redis import BEHAVIOURS, REFUSES, FakeRedis, fake_redis
from drills.http1 import Answer, NoAnswerError, NotHttpError, ask, connected, post, request
from drills.plan import Plan
from drills.redis_server import RedisServer, redis_program
from drills.report import Report
from drills.service import Service, serving

_TIMEOUT_MS = 20
_SLACK_MS = 2000
"""How late the event loop of a busy machine may be; the faults this finds took 0.4 to 23 s."""
_STALL_SECONDS = 1.0
_GROWTH_MB = 60.0
_ANSWER_SECONDS = 60.0
_CLIENTS = 6
_LEAST_SECONDS = 0.5
_MEET_SECONDS = 15.0
_ONLY = ("news-topics",)

ANSWERED = "no request fails, whatever Redis does"
BOUNDED = (
    f"no item waits for Redis longer than the setting ({_TIMEOUT_MS} ms, and {_SLACK_MS} ms slack)"
)
LOOP = f"/health/live answers within {_STALL_SECONDS:g} s"
MET = "the service met every fault that it was given"
MEMORY = f"resident memory returns to within {_GROWTH_MB:g} MB"


@dataclass
class Waits:
    """What the clients of one fault saw."""

    answers: int = 0
    cache: list[float] = field(default_factory=list)
    """Milliseconds that a request waited for the cache, by Server-Timing."""
    live: list[float] = field(default_factory=list)
    """Milliseconds of /health/live."""
    failures: list[str] = field(default_factory=list)

    def count(self, answer: Answer) -> None:
        """Count an answer to a client."""
        self.answers += 1
        self.cache.append(_cache_ms(answer))
        if answer.status != 200:
            self.failures.append(f"{answer.status} {answer.body[:100]!r}")


async def run(plan: Plan, report: Report) -> None:
    """Try every fault in turn, then a real Redis."""
    program = redis_program()
    if program is None:
        raise RuntimeError("redis-server is not installed")
    growth = await _fake(plan, report)
    await _real(program, plan, report)
    report.figure("requests", report.counts["requests"])
    report.figure("kinds of faults", report.counts["faults"])
    for promise in (ANSWERED, BOUNDED, LOOP, MET):
        report.judge(promise)
    report.judge(MEMORY, found=f"{growth:+.1f} MB", kept=growth < _GROWTH_MB)


async def _fake(plan: Plan, report: Report) -> float:
    """Try faults, each after a while of health, until the time is over; return MB of growth."""
    faults = [*BEHAVIOURS, REFUSES]
    plan.draw("redis").shuffle(faults)
    faults.sort(
        key=lambda fault: "2,147,483,647" not in fault
    )  # the worst of all is never left out
    async with fake_redis() as fake:
        settings = _settings(f"redis://127.0.0.1:{fake.port}")
        async with serving(plan.folder / "redis.log", settings, _ONLY) as service:
            await _watch(service, "right", report, fake)
            before, deadline = await service.steady(), plan.deadline(0.8)
            for fault in faults:
                if time.monotonic() > deadline:
                    break
                await fake.become("right")
                await _watch(service, "right", report, fake)
                await fake.become(fault)
                await _watch(service, fault, report, fake)
                report.counts["faults"] += 1
            await fake.become("right")
            await _watch(service, "right", report, fake)
            return await service.steady() - before


def _settings(url: str) -> dict[str, str]:
    return {
        "QUARTET_CACHE__REDIS_URL": url,
        "QUARTET_CACHE__REDIS_TIMEOUT_MS": str(_TIMEOUT_MS),
        "QUARTET_CACHE__MEMORY_ENTRIES": "100",
        "QUARTET_LOGS__LEVEL": "error",
    }


async def _watch(
    service: Service, fault: str, report: Report, fake: FakeRedis | None = None
) -> None:
    """Ask until the fault was met, and some time more; judge."""
    patience = time.monotonic() + _MEET_SECONDS
    async with _watched(service, fault, report) as waits:
        while fake is not None and not fake.is_met:
            if time.monotonic() > patience:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(_LEAST_SECONDS if fake is not None else 1.0)
    if fake is not None and not fake.is_met:
        report.broken(MET, fault)
    report.counts["requests"] += waits.answers
    slowest, live = max(waits.cache, default=0.0), max(waits.live, default=0.0)
    report.say(
        f"{fault}: {waits.answers} answers, slowest cache {slowest:.1f} ms, "
        f"slowest /health/live {live:.1f} ms"
    )
    if slowest > _TIMEOUT_MS + _SLACK_MS:
        report.broken(BOUNDED, f"{slowest:.0f} ms while Redis is: {fault}")
    if live > _STALL_SECONDS * 1000:
        report.broken(LOOP, f"{live:.0f} ms while Redis is: {fault}")


@asynccontextmanager
async def _watched(service: Service, fault: str, report: Report) -> AsyncIterator[Waits]:
    """Ask without a break until the end of the block."""
    waits, stopping = Waits(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(_CLIENTS):
            draw = random.Random(f"{fault} {number}")
            tasks.create_task(_ask(service, draw, waits, stopping))
        tasks.create_task(_probe(service, waits, stopping))
        yield waits
        stopping.set()
    for failure in waits.failures:
        report.broken(ANSWERED, f"{failure} while Redis is: {fault}")


async def _ask(
    service: Service, draw: random.Random, waits: Waits, stopping: asyncio.Event
) -> None:
    """Classify texts on one connection; after a failure on another."""
    while not stopping.is_set():
        try:
            async with connected(service.port) as connection, asyncio.timeout(_ANSWER_SECONDS):
                while not stopping.is_set():
                    await connection.send(_text(draw))
                    waits.count(await connection.answer())
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            waits.failures.append(f"{type(error).__name__} {error}")
            await asyncio.sleep(0.1)


async def _probe(service: Service, waits: Waits, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        started = time.monotonic()
        try:
            answer = await ask(service.port, request("GET", "/health/live"), method="GET")
            if answer.status != 200:
                waits.failures.append(f"/health/live is {answer.status}")
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            waits.failures.append(f"/health/live: {type(error).__name__}")
        waits.live.append((time.monotonic() - started) * 1000)
        await asyncio.sleep(0.02)


def _text(draw: random.Random) -> bytes:
    """Return a request; a third of the texts are repeated, and one in ten requests has many."""
    count = 20 if draw.random() < 0.1 else 1
    texts = [f"headline {draw.choice([draw.randrange(30), draw.random()])}" for _ in range(count)]
    return post("/v1/classify", {"text": texts})


def _cache_ms(answer: Answer) -> float:
    """Return what Server-Timing says of the cache, in milliseconds."""
    for part in answer.headers.get("server-timing", "").split(","):
        name, _, duration = part.strip().partition(";dur=")
        if name == "cache":
            return float(duration)
    return 0.0


def _refill(server: RedisServer) -> None:
    server.kill()
    server.start()


_FAULTS: dict[str, Callable[[RedisServer], None]] = {
    "stopped for a second (SIGSTOP)": RedisServer.stall,
    "going on (SIGCONT)": RedisServer.resume,
    "killed": RedisServer.kill,
    "started again, empty": RedisServer.start,
    "restarted at once": _refill,
}


async def _real(program: str, plan: Plan, report: Report) -> None:
    """Mistreat a real Redis that has little memory, under load."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(program, Path(folder), "--maxmemory", "3mb")
        try:
            log = plan.folder / "redis-real.log"
            async with serving(log, _settings(server.url), _ONLY) as service:
                deadline = plan.deadline(0.2)
                await _watch(service, "a real Redis", report)
                while True:
                    for fault, act in _FAULTS.items():
                        await asyncio.to_thread(act, server)
                        await _watch(service, f"a real Redis, {fault}", report)
                        report.counts["faults"] += 1
                    if time.monotonic() > deadline:
                        break
        finally:
            server.resume()
            server.kill()
