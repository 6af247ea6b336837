"""Resident memory after each kind of request, refusal, disconnect and reload, many times."""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from drills.body_cases import form
from drills.http1 import NoAnswerError, NotHttpError, ask, connected, post, request
from drills.images import good, png
from drills.load import Material, Outcomes, stream_request, streamed
from drills.plan import Plan
from drills.report import Report
from drills.service import TOKEN, Service, serving
from loadtest.kinds import UNSERVED, Kind
from loadtest.payloads import Payloads

_LARGE = 15 << 20
_AT_ONCE = 4
_GROWTH_MB = 32.0
_PIPELINE_MB = 5.0
_PIPELINE_SECONDS = 3.0
_JSON = {"Content-Type": "application/json"}
_FORM = {"Content-Type": "multipart/form-data; boundary=edge"}

RETURNS = f"resident memory returns to within {_GROWTH_MB:g} MB after every kind"
PIPELINE = f"pipelining without reading moves it by less than {_PIPELINE_MB:g} MB"
EXPECTED = "every request has the answer of its kind"

Act = Callable[[Service, int], Awaitable[int]]
"""Does one thing and returns the status of its answer; 0 for none."""


async def run(plan: Plan, report: Report) -> None:
    """Repeat each kind for its share of the time, after a warm-up of ten."""
    acts = _acts(plan)
    worst = 0.0
    async with serving(plan.folder / "memory.log") as service:
        for name, (act, expected) in acts.items():
            share = plan.seconds / len(acts)
            before, times = await _repeat(service, name, act, expected, share, report)
            growth = await service.steady() - before
            report.figure(f"{name}, {times} times", f"{growth:+.1f} MB")
            worst = max(worst, growth)
            if growth > _GROWTH_MB:
                report.broken(RETURNS, f"{growth:+.1f} MB after {name}, {times} times")
        moved, sent = await _pipeline(service)
    report.figure("bytes pipelined without reading", sent)
    report.judge(RETURNS, found=f"at most {worst:+.1f} MB")
    report.judge(PIPELINE, found=f"{moved:+.1f} MB", kept=moved < _PIPELINE_MB)
    report.judge(EXPECTED)


def _acts(plan: Plan) -> Mapping[str, tuple[Act, frozenset[int]]]:
    """Return what is repeated, with the statuses that it may have."""
    draw, size = plan.draw("memory"), _LARGE // (5 if plan.is_short else 1)
    filler = bytes(size)
    large = good(draw) + filler
    sent: dict[str, tuple[bytes, int]] = {
        "refused: 413, text too long": (post("/v1/classify", {"text": "a" * size}), 413),
        "refused: 415, not an image": (
            request("POST", "/v1/detect", filler, {"Content-Type": "image/png"}),
            415,
        ),
        "refused: 415, no such type": (
            request("POST", "/v1/detect", filler, {"Content-Type": "text/plain"}),
            415,
        ),
        "refused: 422, unknown field": (post("/v1/embed", {"txt": "a" * size}), 422),
        "refused: 400, JSON cut short": (
            request("POST", "/v1/embed", json.dumps({"text": "a" * size}).encode()[:-2], _JSON),
            400,
        ),
        "refused: 400, form cut short": (
            request("POST", "/v1/detect", form([("image", large)], b""), _FORM),
            400,
        ),
        "refused: 413, too many pixels": (
            request("POST", "/v1/detect", png(65_000, 65_000), {"Content-Type": "image/png"}),
            413,
        ),
        "refused: 404, unknown model": (post("/v1/classify", {"text": "a", "model": "b"}), 404),
        "refused: 400, broken head": (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
    }
    acts: dict[str, tuple[Act, frozenset[int]]] = {}
    payloads = Payloads(plan.seed)
    for kind in (kind for kind in Kind if kind not in UNSERVED):
        acts[kind.value] = _computed(Material(payloads, (kind,))), frozenset({200})
    for name, (data, status) in sent.items():
        acts[name] = _sent(data), frozenset({status})
    nothing = frozenset({0})
    acts["translation, streamed"] = _stream, frozenset({200})
    acts["left while a translation runs"] = _leave(draw, stream_request), nothing
    acts["left in a large body"] = _leave(draw, lambda _: _half(large)), nothing
    acts["reload of zh-en"] = _reload("zh-en"), frozenset({200})
    acts["reload of news-topics"] = _reload("news-topics"), frozenset({200})
    acts["unload and load of digits"] = _unload_and_load("digits"), frozenset({200})
    return acts


async def _repeat(
    service: Service, name: str, act: Act, expected: frozenset[int], share: float, report: Report
) -> tuple[float, int]:
    """Do it ten times, look, then do it for its share of the seconds; return MB and times."""
    numbers = itertools.count()
    is_load = "load of" in name
    at_once = 1 if is_load else _AT_ONCE

    async def once() -> None:
        try:
            status = await act(service, next(numbers))
        except (NoAnswerError, NotHttpError, OSError, TimeoutError) as error:
            report.broken(EXPECTED, f"{name}: {type(error).__name__} {error}")
            return
        if status not in expected:
            report.broken(EXPECTED, f"{name}: {status}")

    async def some(deadline: float, least: int) -> None:
        clock = asyncio.get_running_loop().time
        for done in itertools.count():
            if done >= least and clock() > deadline:
                break
            await once()

    await asyncio.gather(*(some(0, 3) for _ in range(at_once)))
    before, warm = await service.steady(), next(numbers)
    deadline = asyncio.get_running_loop().time() + share
    await asyncio.gather(*(some(deadline, 3) for _ in range(at_once)))
    return before, next(numbers) - warm


def _computed(material: Material) -> Act:
    """Ask for what no cache knows."""
    return _answered(lambda number: material.make(5 * number + 1))


def _sent(data: bytes) -> Act:
    """Send the same again and again."""
    return _answered(lambda _: data)


def _answered(make: Callable[[int], bytes]) -> Act:
    async def act(service: Service, number: int) -> int:
        return (await ask(service.port, make(number), seconds=60)).status

    return act


async def _stream(service: Service, number: int) -> int:
    outcomes = Outcomes()
    async with connected(service.port) as connection, asyncio.timeout(60):
        await connection.send(stream_request(number, 4))
        await streamed(connection, outcomes)
    return next(iter(outcomes.statuses))


def _leave(draw: random.Random, make: Callable[[int], bytes]) -> Act:
    async def act(service: Service, number: int) -> int:
        async with connected(service.port) as connection:
            await connection.send(make(number))
            await asyncio.sleep(draw.random() * 0.05)
            connection.reset()
        return 0

    return act


def _half(large: bytes) -> bytes:
    whole = request("POST", "/v1/detect", large, {"Content-Type": "image/png"})
    return whole[: len(whole) // 2]


def _reload(model: str) -> Act:
    async def act(service: Service, _number: int) -> int:
        return await _administer(service, f"/v1/models/{model}/load")

    return act


def _unload_and_load(model: str) -> Act:
    async def act(service: Service, _number: int) -> int:
        status = await _administer(service, f"/v1/models/{model}/unload")
        return status if status != 204 else await _administer(service, f"/v1/models/{model}/load")

    return act


async def _administer(service: Service, path: str) -> int:
    authorized = {"Authorization": f"Bearer {TOKEN}"}
    return (await ask(service.port, post(path, {"version": 1}, authorized), seconds=120)).status


async def _pipeline(service: Service) -> tuple[float, int]:
    """Pipeline without reading for some seconds; return the largest move in MB, and the bytes."""
    data = post("/v1/classify", {"text": "Stocks fall as oil prices slide"}) * 100
    before, most, sent = await service.steady(), 0.0, 0
    clock = asyncio.get_running_loop().time
    deadline = clock() + _PIPELINE_SECONDS
    async with connected(service.port) as connection:
        connection.pause_reading()
        while clock() < deadline:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    if not await connection.send(data):
                        break
                    sent += len(data)
            most = max(most, service.resident() - before)
            await asyncio.sleep(0)
        connection.reset()
    return most, sent
