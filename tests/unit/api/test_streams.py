"""/v1/streams: who may use them, what they show, their events, and that they end."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.stream_events import StreamsResponse, StreamStatus, event_bodies
from service.api.streaming import EventBody
from service.api.streams import StreamRequest
from service.errors import InferenceError, ModelNotReadyError
from service.live.address import AllowedSources
from service.live.streams import LiveStreams
from service.tasks import Task
from tests.live_sources import Camera, serving
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry

pytestmark = pytest.mark.looptime(False)
URL = "/v1/streams"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def camera() -> Camera:
    return Camera(rate=50)


@pytest.fixture
def source(camera: Camera) -> Iterator[str]:
    with serving(camera) as url:
        yield url


@pytest.fixture
async def context(
    registry: FakeRegistry, limits: ApiLimits, source: str
) -> AsyncIterator[ApiContext]:
    streams = LiveStreams(AllowedSources([source]))
    limits = replace(limits, max_streams=2)
    yield ApiContext(registry, Lifecycle(), limits, admin_token=TOKEN, streams=streams)
    await streams.close()
    for slot in streams._slots.values():
        while not slot.is_gone:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    states = ("connecting", "running", "waiting")
    assert sum(value("streams", state=state) for state in states) == 0


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def add(client: httpx.AsyncClient, source: str, **members: Any) -> dict[str, Any]:
    response = await client.post(URL, json={"url": source, **members}, headers=HEADERS)
    assert response.status_code == 201, response.text
    added: dict[str, Any] = response.json()
    return added


@asynccontextmanager
async def reading(
    context: ApiContext, stream: str
) -> AsyncGenerator[AsyncGenerator[EventBody, None], None]:
    """Read events as they come; httpx's transport gives a response when it has ended."""
    found = context.streams.find(stream)
    with found.reading() as reader:
        yield event_bodies("id", found, reader)


async def until(events: AsyncGenerator[EventBody, None], kind: str, **members: Any) -> EventBody:
    async for event in events:
        if event["event"] == kind and members.items() <= event.items():
            return event
    raise AssertionError(kind)


async def test_frames_are_events(
    client: httpx.AsyncClient, context: ApiContext, source: str
) -> None:
    before = value("stream_frames_total", slot="0", result="analysed")
    added = await add(client, source, track=True)
    assert (added["state"], added["url"], added["slot"]) == ("connecting", source, 0)
    async with reading(context, added["id"]) as events:
        start = await until(events, "start")
        assert (start["model"], start["width"], start["height"]) == ("cards", 64, 48)
        frames = [await until(events, "frame") for _ in range(4)]
    assert [frame["objects"][0]["id"] for frame in frames] == [1] * 4
    assert all(0 < frame["age"] < 60 for frame in frames)
    shown = (await client.get(f"{URL}/{added['id']}", headers=HEADERS)).json()
    assert (shown["state"], shown["model"], shown["counts"]) == ("running", "cards", {"ace": 1})
    assert shown["source"]["codec"] == "mpeg4"
    assert shown["frames"]["analysed"] >= 4
    assert value("stream_frames_total", slot="0", result="analysed") >= before + 4
    assert (await client.get(URL, headers=HEADERS)).json()["streams"][0]["id"] == added["id"]


async def test_every_frame_seen_is_analysed_failed_or_dropped(
    client: httpx.AsyncClient, context: ApiContext, source: str
) -> None:
    before = value("stream_frames_seen_total", slot="0")
    stream = context.streams.find((await add(client, source))["id"])
    while stream.seen < 5 or not stream.dropped:
        await asyncio.sleep(0.001)
        time.sleep(0.05)  # noqa: ASYNC251 - newer frames replace the one that waits
    await context.streams.remove(stream.id)
    counted = stream.analysed + stream.failed + stream.dropped
    assert stream.seen - counted in (0, 1)  # one may have been in the model
    assert value("stream_frames_seen_total", slot="0") - before == stream.seen


async def test_what_is_deleted_ends_for_its_readers(
    client: httpx.AsyncClient, context: ApiContext, source: str
) -> None:
    added = await add(client, source, task="classify", segments=True, top_k=1)
    events = asyncio.create_task(client.get(f"{URL}/{added['id']}/events", headers=HEADERS))
    async with reading(context, added["id"]) as others:
        await until(others, "frame")
        answer = await client.delete(f"{URL}/{added['id']}", headers=HEADERS)
    assert answer.status_code == 204
    response = await events
    assert response.headers["content-type"].startswith("text/event-stream")
    found = [json.loads(line[6:]) for line in response.text.splitlines() if line[:5] == "data:"]
    assert [found[-2]["event"], found[-1]["event"]] == ["segment", "end"]
    gone = await client.get(f"{URL}/{added['id']}", headers=HEADERS)
    assert (gone.status_code, gone.json()["code"]) == (404, "stream_not_found")


async def test_reading_ends_at_its_deadline(client: httpx.AsyncClient, source: str) -> None:
    added = await add(client, source)
    headers = {**HEADERS, "accept": "application/x-ndjson", "x-request-timeout-ms": "300"}
    response = await client.get(f"{URL}/{added['id']}/events", headers=headers)
    found = [json.loads(line) for line in response.text.splitlines()]
    assert found[0]["event"] == "state"
    assert found[-1]["event"] != "end"


async def test_a_source_that_dies_is_connected_again(
    client: httpx.AsyncClient,
    context: ApiContext,
    camera: Camera,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.live.stream._FIRST_WAIT", 0.01)
    added = await add(client, source)
    async with reading(context, added["id"]) as events:
        await until(events, "frame")
        camera.is_off.set()
        while (waiting := await until(events, "state", state="waiting"))["code"] is None:
            pass  # the source hung up, and then refused
        assert (waiting["code"], waiting["retry_in"] > 0) == ("invalid_input", True)
        camera.is_off.clear()
        await until(events, "frame")
    assert camera.connections >= 3


class _Garbled(Camera):
    """Sends what is no video after some frames, and hangs up."""

    def packets(self, options: dict[str, str] | None = None) -> Iterator[bytes]:
        yield from itertools.islice(super().packets(options), 20)
        yield random.Random(1).randbytes(1 << 20)


async def test_garbage_after_good_frames_costs_only_its_connection(
    client: httpx.AsyncClient, context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.live.stream._FIRST_WAIT", 0.01)
    with serving(_Garbled(rate=50)) as url:
        monkeypatch.setattr(context.streams, "sources", AllowedSources([url]))
        added = await add(client, url)
        async with reading(context, added["id"]) as events:
            for _ in range(2):
                await until(events, "start")
                await until(events, "frame")
                await until(events, "state", state="waiting")
        await context.streams.remove(added["id"])


async def test_without_its_model_a_stream_waits_and_frees_its_source(
    client: httpx.AsyncClient,
    context: ApiContext,
    registry: FakeRegistry,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.live.stream._FIRST_WAIT", 0.01)
    added = await add(client, source)
    stream = context.streams.find(added["id"])
    found = registry.find

    def unloaded(*_: Any) -> Any:
        raise ModelNotReadyError("model 'cards' is not loaded")

    async with reading(context, added["id"]) as events:
        await until(events, "frame")
        monkeypatch.setattr(registry, "find", unloaded)
        waiting = await until(events, "state", state="waiting")
        assert waiting["code"] == "model_not_ready"
        assert stream.models is None
        while stream.threads:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        monkeypatch.setattr(registry, "find", found)
        await until(events, "frame")


async def test_a_frame_that_fails_costs_no_other(
    client: httpx.AsyncClient,
    context: ApiContext,
    source: str,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = registry.find(Task.DETECT, "image", None, None)
    answer, errors = pipeline.answer, [InferenceError("the model failed")]

    async def failing(*arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return await answer(*arguments)

    monkeypatch.setattr(pipeline, "answer", failing)
    added = await add(client, source)
    async with reading(context, added["id"]) as events:
        failed = await until(events, "error")
        assert (failed["code"], failed["request_id"]) == ("inference_failed", "id")
        await until(events, "frame")


@pytest.mark.parametrize(
    ("members", "status", "detail"),
    [
        ({}, 422, "url"),
        ({"url": "rtsp://user:secret@10.0.0.1/"}, 403, "streams.sources"),
        ({"url": "gopher://a"}, 422, "must begin with"),
        ({"url": 5}, 422, "url"),
        ({"every": 2}, 422, "every"),
        ({"task": "embed", "track": True}, 422, "track is of task detect"),
        ({"task": "classify", "labels": ["one"]}, 422, "labels"),
        ({"model": "nothing"}, 404, "nothing"),
    ],
)
async def test_a_wrong_stream_is_refused(
    client: httpx.AsyncClient, source: str, members: dict[str, Any], status: int, detail: str
) -> None:
    body = members if not members else {"url": source, **members}
    response = await client.post(URL, json=body, headers=HEADERS)
    assert response.status_code == status, response.text
    assert detail in response.json()["detail"]
    assert "secret" not in response.text


async def test_only_so_many_run(client: httpx.AsyncClient, source: str) -> None:
    slots = [(await add(client, source))["slot"] for _ in range(2)]
    response = await client.post(URL, json={"url": source}, headers=HEADERS)
    assert (slots, response.status_code) == ([0, 1], 429)


async def test_who_adds_and_removes_a_stream_is_logged(
    client: httpx.AsyncClient, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.api.audit")
    stream = (await add(client, source, task="classify"))["id"]
    await client.delete(f"{URL}/{stream}", headers=HEADERS)
    lines = [vars(one) for one in caplog.records if one.msg == "administration"]
    assert [(one["action"], one["from"], one["to"]) for one in lines] == [
        ("stream add", "none", stream),
        ("stream remove", stream, "none"),
    ]
    assert {one["who"] for one in lines} == {"admin-token"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("GET", ""), ("GET", "/a"), ("GET", "/a/events"), ("DELETE", "/a")],
)
async def test_only_administrators_use_them(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await client.request(method, URL + path)
    assert response.status_code == 401


def test_the_example_of_the_documentation_is_valid() -> None:
    document = build_api(ApiContext(FakeRegistry(), Lifecycle())).openapi()
    body = document["paths"][URL]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        StreamRequest.model_validate(example["value"])
        AllowedSources(["rtsp://camera.example/"]).checked(example["value"]["url"])


async def test_a_stream_is_as_documented(client: httpx.AsyncClient, source: str) -> None:
    StreamStatus.model_validate(await add(client, source, track=True))
    response = await client.get(URL, headers=HEADERS)
    StreamsResponse.model_validate_json(response.content)
