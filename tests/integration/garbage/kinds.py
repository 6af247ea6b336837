"""What may happen to a request, a client and a model: a row each, for tests of what it leaves."""

import asyncio
import base64
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from service.errors import DeviceMemoryError, InferenceError
from tests.integration.garbage.bench import QUEUE, ROOT, STARTER_NAMES, TOKEN, Bench, Visit, json_of

Round = Callable[[Bench], Awaitable[None]]
"""Does the thing once, and checks that it was this thing."""

_SAMPLES = ROOT / "service" / "page" / "samples"
_DIGIT = (_SAMPLES / "digit.png").read_bytes()
_CARDS = (_SAMPLES / "cards.jpg").read_bytes()
_FRESH = (b"cache-control", b"no-store")
_ADMIN = (b"authorization", b"Bearer " + TOKEN.encode())
_TEXT = "Stocks fall as oil prices slide"
_ZH = "汤姆昨天没有去学校。"
_LINES = "今天天气很好。\n我喜欢喝茶。\n他在图书馆看书。\n"

classify = partial(json_of, "/v1/classify")
translate = partial(json_of, "/v1/translate")
embed = partial(json_of, "/v1/embed")


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


NOT_A_PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 50_000
_BASE64 = base64.b64encode(_DIGIT).decode()
_LONG = "a" * 50_000

ANSWERS: Mapping[str, Round] = {
    "classify a text": is_answered(200, lambda: classify({"text": _TEXT}, _FRESH)),
    "classify texts": is_answered(200, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    "classify texts of several at once": together(4, lambda: classify({"text": _TEXT}, _FRESH)),
    "classify an image in JSON": is_answered(200, lambda: classify({"image": _BASE64}, _FRESH)),
    "classify an image in a form": is_answered(
        200, lambda: form("/v1/classify", {"image": _DIGIT, "top_k": "2"})
    ),
    "classify an image as the body": is_answered(
        200, lambda: raw("/v1/classify", _DIGIT, b"image/png", query=b"top_k=2")
    ),
    "translate": is_answered(200, lambda: translate({"text": _ZH}, _FRESH)),
    "translate with beams": is_answered(
        200, lambda: translate({"text": _ZH, "num_beams": 4, "alternatives": 2}, _FRESH)
    ),
    "translate with a glossary": is_answered(
        200, lambda: translate({"text": _ZH, "glossary": {"汤姆": "Thomas"}}, _FRESH)
    ),
    "translate a blank text": is_answered(200, lambda: translate({"text": " \n "}, _FRESH)),
    "translate a long text": is_answered(200, lambda: translate({"text": _LINES * 3}, _FRESH)),
    "stream segments": is_answered(
        200, lambda: translate({"text": _LINES, "stream": "segments"}, _FRESH)
    ),
    "stream tokens": is_answered(
        200, lambda: translate({"text": _LINES, "stream": "tokens"}, _FRESH)
    ),
    "stream server-sent events": is_answered(
        200,
        lambda: translate({"text": _LINES}, _FRESH, (b"accept", b"text/event-stream")),
    ),
    "detect": is_answered(200, lambda: raw("/v1/detect", _CARDS, b"image/jpeg")),
    "embed a text and an image": is_answered(
        200, lambda: embed({"text": "dog face", "image": _BASE64}, _FRESH)
    ),
    "a cached text": is_answered(200, lambda: classify({"text": _TEXT})),
    "a cached translation": is_answered(200, lambda: translate({"text": _ZH})),
    "no-cache": is_answered(
        200, lambda: classify({"text": _TEXT}, (b"cache-control", b"no-cache"))
    ),
    "the models": is_answered(200, lambda: get("/v1/models")),
    "one model": is_answered(200, lambda: get("/v1/models/digits")),
    "parity": is_answered(200, lambda: get("/v1/models/digits/parity")),
    "readiness": is_answered(200, lambda: get("/health/ready")),
    "liveness": is_answered(200, lambda: get("/health/live")),
    "metrics": is_answered(200, lambda: get("/metrics")),
    "the documentation": is_answered(200, lambda: get("/openapi.json")),
    "the page": is_answered(200, lambda: get("/")),
}


def _too_many() -> Visit:
    return classify({"text": ["a"] * 300})


REFUSALS: Mapping[str, Round] = {
    "400 no JSON": is_answered(400, lambda: raw("/v1/classify", b"{" * 9, b"application/json")),
    "400 a key twice": is_answered(
        400, lambda: raw("/v1/classify", b'{"text":"a","text":"b"}', b"application/json")
    ),
    "400 nested": is_answered(400, lambda: raw("/v1/classify", b"[" * 9999, b"application/json")),
    "400 a header": is_answered(
        400, lambda: classify({"text": "a"}, (b"x-request-priority", b"soon"))
    ),
    "400 a form without end": is_answered(
        400, lambda: form("/v1/classify", {"image": _DIGIT * 9}, end=b"")
    ),
    "400 a form that is none": is_answered(
        400,
        lambda: raw("/v1/classify", b"x" * 50_000, b"multipart/form-data; boundary=b"),
    ),
    "400 a form with a field twice": is_answered(
        400,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n' * 2 + b"--b--\r\n",
            b"multipart/form-data; boundary=b",
        ),
    ),
    "400 a form with text that is no UTF-8": is_answered(
        400,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\r\n--b--\r\n',
            b"multipart/form-data; boundary=b",
        ),
    ),
    "400 a query": is_answered(
        400, lambda: raw("/v1/classify", _DIGIT, b"image/png", query=b"image=1")
    ),
    "401": is_answered(401, lambda: Visit("POST", "/v1/models/digits/load", b"{}")),
    "404 a path": is_answered(404, lambda: get("/nothing")),
    "404 a model": is_answered(404, lambda: classify({"text": "a", "model": "nobody"})),
    "404 a model to show": is_answered(404, lambda: get("/v1/models/nobody")),
    "405": is_answered(405, lambda: get("/v1/classify")),
    "408": is_answered(408, lambda: hurried(classify({"text": _LONG}, never_ends=True))),
    "413 announced": is_answered(
        413, lambda: classify({"text": "a"}, (b"content-length", b"300000"))
    ),
    "413 chunked": is_answered(
        413, lambda: raw("/v1/classify", b"x" * 300_000, b"application/json")
    ),
    "413 too many items": is_answered(413, _too_many),
    "413 form of too many parts": is_answered(
        413,
        lambda: raw(
            "/v1/classify",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="f"\r\n\r\n1\r\n' * 99
            + b"--b--\r\n",
            b"multipart/form-data; boundary=b",
        ),
    ),
    "415": is_answered(415, lambda: raw("/v1/classify", _DIGIT, b"text/plain")),
    "415 in an item": is_answered(
        415, lambda: classify({"image": "data:text/plain;base64," + _BASE64})
    ),
    "422 a key": is_answered(422, lambda: classify({"text": "a", "key": _LONG})),
    "422 a type": is_answered(422, lambda: classify({"text": _LONG, "top_k": _LONG})),
    "422 no items": is_answered(422, lambda: classify({"text": []})),
    "422 a blank text": is_answered(422, lambda: classify({"text": " "}, _FRESH)),
    "422 a blank text among texts": is_answered(
        422, lambda: classify({"text": [" ", _TEXT]}, _FRESH)
    ),
    "422 a piece of a long translation": is_answered(
        422, lambda: translate({"text": _LINES, "num_beams": 1, "alternatives": 2}, _FRESH)
    ),
    "422 an item": is_answered(422, lambda: classify({"text": ["", _LONG[:9]]})),
    "413 an item": is_answered(413, lambda: classify({"text": [_LONG]})),
    "422 a form": is_answered(
        422, lambda: form("/v1/classify", {"image": NOT_A_PICTURE, "top_k": "x"})
    ),
    "422 no image": is_answered(422, lambda: raw("/v1/detect", NOT_A_PICTURE, b"image/png")),
    "422 no image among images": is_answered(
        422, lambda: classify({"image": [_BASE64, base64.b64encode(NOT_A_PICTURE).decode()]})
    ),
    "422 no base64": is_answered(422, lambda: classify({"image": "!" * 50_000})),
    "422 one of two translations": is_answered(422, lambda: translate({"text": ["", _ZH]})),
    "422 a language": is_answered(422, lambda: translate({"text": _ZH, "source": "xx"})),
    "422 a stream of nothing": is_answered(
        422, lambda: translate({"text": "", "stream": "segments"})
    ),
    "200 a stream with a text that is none": is_answered(
        200, lambda: translate({"text": ["", _ZH], "stream": "segments"}, _FRESH)
    ),
    "429 a full queue": full(
        "news-topics",
        lambda: classify({"text": _TEXT}, _FRESH),
        is_answered(429, lambda: classify({"text": _TEXT}, _FRESH)),
    ),
    "429 a full queue of translations": full(
        "zh-en",
        lambda: translate({"text": _ZH}, _FRESH),
        is_answered(429, lambda: translate({"text": _ZH}, _FRESH)),
    ),
    "429 a full queue, a stream": full(
        "zh-en",
        lambda: translate({"text": _ZH}, _FRESH),
        is_answered(429, lambda: translate({"text": _ZH, "stream": "tokens"}, _FRESH)),
    ),
    "429 a full queue, several items": full(
        "news-topics",
        lambda: classify({"text": _TEXT}, _FRESH),
        is_answered(429, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    ),
    "429 room for bodies": without_room(
        is_answered(429, lambda: raw("/v1/detect", b"x" * 190_000, b"image/png"))
    ),
    "500 the model fails": failing(
        "news-topics",
        InferenceError("no"),
        is_answered(500, lambda: classify({"text": _TEXT}, _FRESH)),
    ),
    "500 the model fails on a batch": failing(
        "news-topics",
        InferenceError("no"),
        is_answered(500, lambda: classify({"text": [_TEXT] * 5}, _FRESH)),
    ),
    "500 the model fails on identical requests": failing(
        "news-topics",
        InferenceError("no"),
        together(4, lambda: classify({"text": _TEXT + "!"})),
    ),
    "500 the translator fails": failing(
        "zh-en",
        InferenceError("no"),
        is_answered(500, lambda: translate({"text": _ZH}, _FRESH)),
    ),
    "503 memory": failing(
        "digits",
        DeviceMemoryError("no"),
        is_answered(503, lambda: classify({"image": [_BASE64] * 3}, _FRESH)),
    ),
    "503 a model that is not loaded": is_answered(
        503, lambda: classify({"text": "a", "model": "broken"})
    ),
    "504 queued": during(
        "no_slot", is_answered(504, lambda: hurried(classify({"text": _TEXT}, _FRESH)))
    ),
    "504 queued translation": during(
        "no_slot", is_answered(504, lambda: hurried(translate({"text": _ZH}, _FRESH)))
    ),
    "504 one of several": during(
        "no_slot", is_answered(504, lambda: hurried(classify({"text": [_TEXT] * 3}, _FRESH)))
    ),
    "504 preprocessed": during(
        "no_preprocessing",
        is_answered(504, lambda: hurried(raw("/v1/detect", _CARDS, b"image/jpeg"))),
    ),
    "504 computed": during(
        "no_compute", is_answered(504, lambda: hurried(raw("/v1/detect", _CARDS, b"image/jpeg")))
    ),
    "504 in a stream": during(
        "no_slot",
        is_answered(200, lambda: hurried(translate({"text": _LINES, "stream": "tokens"}, _FRESH))),
    ),
    "504 identical in flight": during(
        "no_slot", together(3, lambda: hurried(classify({"text": _TEXT + "?"})))
    ),
}

DISCONNECTS: Mapping[str, Round] = {
    "left while it sent": leaves(lambda: classify({"text": _LONG}, never_ends=True)),
    "left in the queue": during("no_slot", leaves(lambda: classify({"text": _TEXT}, _FRESH))),
    "left with several in the queue": during(
        "no_slot", leaves(lambda: classify({"text": [_TEXT] * 3}, _FRESH))
    ),
    "left in the queue of translations": during(
        "no_slot", leaves(lambda: translate({"text": _ZH}, _FRESH))
    ),
    "left before preprocessing": during(
        "no_preprocessing", leaves(lambda: raw("/v1/detect", _CARDS, b"image/jpeg"))
    ),
    "left a stream before its first piece": during(
        "no_slot", leaves(lambda: translate({"text": _LINES, "stream": "tokens"}, _FRESH))
    ),
    "left a stream after its first piece": leaves(
        lambda: translate({"text": _LINES * 9, "stream": "tokens"}, _FRESH), first=True
    ),
    "left a long translation": leaves(lambda: translate({"text": _LINES * 9}, _FRESH)),
}

VERSIONS: Mapping[str, Round] = {
    "reload": is_answered(200, lambda: admin("digits", "load")),
    "reload of a translator": is_answered(200, lambda: admin("zh-en", "load")),
    "reload while it answers": drained,
    "unload and load": unload_and_load,
    "a load of a broken manifest": is_answered(500, lambda: admin("broken", "load")),
    "a load that fails its goldens": is_answered(500, lambda: admin("misled", "load")),
    "a load of what is not there": is_answered(404, lambda: admin("nobody", "load")),
}


def repository(folder: Path, starters: Path) -> Path:
    """Make a repository of the starter models and of two that cannot be loaded."""
    for model in STARTER_NAMES:
        _copy(starters / model, folder / model)
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.toml").write_text("task = 7\n")
    misled = folder / "misled" / "1"
    _copy(starters / "digits", misled.parent)
    goldens = json.loads((misled / "goldens.json").read_bytes())
    for item in goldens["items"]:
        item["answer"]["labels"][0]["score"] = 0.5
    (misled / "goldens.json").write_text(json.dumps(goldens))
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a model with its first goldens only, so that it is loaded quickly."""
    shutil.copytree(source, target, copy_function=_link)
    for file in target.glob("*/goldens.json"):
        goldens = json.loads(file.read_bytes())
        file.unlink()  # which may be a link to the original
        file.write_text(json.dumps({**goldens, "items": goldens["items"][:2]}))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
