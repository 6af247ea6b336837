"""Rounds of requests: answered, refused, or left by their client."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from tests.integration.garbage.bench import QUEUE, SAMPLES, TOKEN, Bench, Visit, json_of

Round = Callable[[Bench], Awaitable[None]]
"""Does the thing once, and checks that it was this thing."""

_DIGIT = (SAMPLES / "digit.png").read_bytes()


CLIP = (SAMPLES / "cards.mp4").read_bytes()


_CARDS = (SAMPLES / "cards.jpg").read_bytes()


_FRESH = (b"cache-control", b"no-store")


_ADMIN = (b"authorization", b"Bearer " + TOKEN.encode())


_TEXT = "Stocks fall as oil prices slide"


_ZH = "汤姆昨天没有去学校。"


_LINES = "今天天气很好。\n我喜欢喝茶。\n她在图书馆工作。\n"


classify = partial(json_of, "/v1/classify")


def raw(path: str, body: bytes, media_type: bytes, **more: Any) -> Visit:
    return Visit("POST", path, body, ((b"content-type", media_type), _FRESH), **more)


def form(path: str, parts: Mapping[str, bytes | str], end: bytes = b"--\r\n") -> Visit:
    """Return a request with a form; bytes are files."""
    lines = []
    for name, value in parts.items():
        is_file = isinstance(value, bytes)
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"'
        head += '; filename="f"\r\n\r\n' if is_file else "\r\n\r\n"
        lines.append(head.encode() + (value if is_file else value.encode()) + b"\r\n")
    return raw(path, b"".join(lines) + b"--b" + end, b"multipart/form-data; boundary=b")


def get(path: str, method: str = "GET") -> Visit:
    return Visit(method, path)


def hurried(visit: Visit) -> Visit:
    visit.headers = (*visit.headers, (b"x-request-timeout-ms", b"1"))
    return visit


def is_answered(status: int, make: Callable[[], Visit], code: str | None = None) -> Round:
    """Ask, and be answered so."""

    async def once(bench: Bench) -> None:
        visit = await bench.ask(make())
        visit.answered(status)
        assert code is None or json.loads(visit.told)["code"] == code, visit.told

    return once


def leaves(make: Callable[[], Visit], *, first: bool = False) -> Round:
    """Ask, and leave: after a few turns of the event loop, or after the first of an answer."""

    async def once(bench: Bench) -> None:
        visit = make()
        await bench.leave(visit, visit.heard if first else None)

    return once


def during(hold_up: str, round_: Round) -> Round:
    """Do it while the bench holds something up."""

    async def once(bench: Bench) -> None:
        held = getattr(bench, hold_up)()
        if hasattr(held, "__aenter__"):
            async with held:
                await round_(bench)
        else:
            with held:
                await round_(bench)

    return once


def full(model: str, make: Callable[[], Visit], refused: Round) -> Round:
    """Do it while the queue of a model is full; those in it leave."""

    async def once(bench: Bench) -> None:
        async with bench.no_slot():
            waiting = [make() for _ in range(QUEUE)]
            tasks = [asyncio.create_task(bench.ask(visit)) for visit in waiting]
            while bench.pending(model) < QUEUE:  # noqa: ASYNC110 - a thread may bring them
                await asyncio.sleep(1e-3)
            await refused(bench)
            for visit in waiting:
                visit.left.set()
            await asyncio.gather(*tasks)

    return once


def together(count: int, make: Callable[[], Visit]) -> Round:
    """Ask for the same at the same time."""

    async def once(bench: Bench) -> None:
        visits = [make() for _ in range(count)]
        await asyncio.gather(*(bench.ask(visit) for visit in visits))
        for visit in visits:
            visit.answered(visits[0].status)

    return once


def without_room(round_: Round) -> Round:
    """Do it while other bodies take all the room."""

    async def once(bench: Bench) -> None:
        most = bench.context.limits.max_bodies_bytes
        assert bench.context.bodies.take(most, most)
        try:
            await round_(bench)
        finally:
            bench.context.bodies.give_back(most)

    return once


def without_video_room(round_: Round) -> Round:
    """Do it while as many videos as allowed are analysed."""

    async def once(bench: Bench) -> None:
        most = bench.context.limits.max_videos
        for _ in range(most):
            bench.context.videos.take(most)
        try:
            await round_(bench)
        finally:
            for _ in range(most):
                bench.context.videos.give_back()

    return once


@contextmanager
def _failing(bench: Bench, model: str, error: Exception) -> Any:
    """Have every run of a model's sessions fail."""
    instances = bench.engine.registry._serving[model].instances
    with ExitStack() as stack:
        for sessions in (instances.single_thread, instances.multi_thread or {}):
            for session in sessions.values():
                for name in ("run", "run_kept", "_run_binding"):
                    stack.enter_context(
                        patch.object(session, name, partial(_fail, type(error), str(error)))
                    )
        yield


def _fail(kind: type[Exception], reason: str, *_: Any, **__: Any) -> Any:
    raise kind(reason)


def failing(model: str, error: Exception, round_: Round) -> Round:
    """Do it while a model fails."""

    async def once(bench: Bench) -> None:
        with _failing(bench, model, error):
            await round_(bench)

    return once


def admin(model: str, action: str, body: Any = None) -> Visit:
    kind = (b"content-type", b"application/json")
    data = b"" if body is None else json.dumps(body).encode()
    return Visit("POST", f"/v1/models/{model}/{action}", data, (kind, _ADMIN))


async def unload_and_load(bench: Bench) -> None:
    """Take a model out of service, and back into it."""
    await is_answered(204, lambda: admin("digits", "unload"))(bench)
    await is_answered(503, lambda: classify({"text": "a", "model": "digits"}))(bench)
    await is_answered(200, lambda: admin("digits", "load"))(bench)


async def drained(bench: Bench) -> None:
    """Reload a model while it answers."""
    visit = classify({"text": [_TEXT] * 4}, _FRESH)
    async with bench.no_slot():
        asking = asyncio.create_task(bench.ask(visit))
        await asyncio.sleep(0)
    loading = asyncio.create_task(bench.ask(admin("news-topics", "load")))
    (await asking).answered(200)
    (await loading).answered(200)
