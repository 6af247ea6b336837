"""Workflows on the frames of videos and live streams: their objects tracked, their keys' limits."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.access.access import Access
from service.access.keys_file import digest_of
from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.api.stream_events import StreamStatus, event_bodies
from service.api.streaming import EventBody
from service.live.address import AllowedSources
from service.live.streams import LiveStreams
from service.repository.workflows import read_workflows
from service.tasks import DetectedObject, Detections, DetectItem
from tests.clips import write_clip
from tests.live_sources import Camera, serving
from tests.unit.api import fakes
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import encoded

pytestmark = pytest.mark.looptime(False)
HEADERS = {"authorization": f"Bearer {TOKEN}"}
KEYS = {
    "narrow": 'models = ["cards"]\nadmin = true',
    "poor": "items_per_day = 3\nadmin = true",
}


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "a.mp4", 6).read_bytes()


@pytest.fixture
def source() -> Iterator[str]:
    with serving(Camera(rate=50)) as url:
        yield url


@pytest.fixture
async def context(
    registry: FakeRegistry, limits: ApiLimits, source: str, tmp_path: Path
) -> AsyncIterator[ApiContext]:
    file = tmp_path / "keys.toml"
    file.write_text(
        "\n".join(
            f'[keys.{name}]\nsha256 = "{digest_of(name.encode()).hex()}"\n{rest}'
            for name, rest in KEYS.items()
        )
    )
    streams = LiveStreams(AllowedSources([source]))
    limits = replace(limits, video_folder=tmp_path)
    access = Access(file, TOKEN)
    yield ApiContext(registry, Lifecycle(), limits, TOKEN, access, streams=streams)
    await streams.close()


@pytest.fixture
async def client(context: ApiContext) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_api(context), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://quartet", headers=HEADERS
    ) as client:
        yield client


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Set how certain the detector is of its one object in the next frames, from the last on."""
    answer, certainties = fakes._answer, list[float]()

    def with_scores(item: Any) -> Any:
        if not isinstance(item, DetectItem) or not certainties:
            return answer(item)
        score = certainties.pop()
        found = (DetectedObject("ace", score, (1.0, 2.0, 13.0, 14.5)),)
        least = 0.3 if item.threshold is None else item.threshold
        return Detections(found if score >= least else (), *fakes._size(item.image))

    monkeypatch.setattr(fakes, "_answer", with_scores)
    return certainties


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def objects(frames: Sequence[EventBody]) -> list[list[Any]]:
    return [frame["steps"]["cards"]["objects"] for frame in frames]


async def test_objects_of_a_workflow_have_ids_and_keep_their_steps(
    client: httpx.AsyncClient, clip: bytes
) -> None:
    data = {"workflow": "cards", "track": "true"}
    response = await client.post("/v1/video", files={"video": clip}, data=data)
    _, *frames, end = events(response)
    found = [one for (one,) in objects(frames)]
    assert [one["id"] for one in found] == [1] * 6
    assert all(one["steps"]["vector"]["embedding"] for one in found)
    assert [frame["entered"] for frame in frames] == [[1], [], [], [], [], []]
    assert (end["counts"], end["entries"], end["exits"]) == ({"ace": 1}, 1, 0)


async def test_an_uncertain_object_continues_its_track_and_is_not_cropped(
    client: httpx.AsyncClient, clip: bytes, scores: list[float], registry: FakeRegistry
) -> None:
    scores.extend(reversed([0.9, 0.9, 0.2, 0.2, 0.9, 0.9]))
    data = {"workflow": "cards", "track": "true"}
    response = await client.post("/v1/video", files={"video": clip}, data=data)
    _, *frames, end = events(response)
    found = [one for (one,) in objects(frames)]
    assert [one["id"] for one in found] == [1] * 6
    assert [bool(one["steps"]) for one in found] == [True, True, False, False, True, True]
    assert (end["counts"], end["complete"]) == ({"ace": 1}, True)
    assert len(registry.pipelines["embed", "image"].asked) == 4  # type: ignore[index]


async def test_without_a_step_that_detects_nothing_is_tracked(
    client: httpx.AsyncClient, clip: bytes, registry: FakeRegistry, tmp_path: Path, source: str
) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "flow.toml").write_text('[steps.a]\ntask = "embed"\n')
    registry.workflow_files |= read_workflows(tmp_path)
    data: dict[str, Any] = {"workflow": "flow", "track": True}
    for response in (
        await client.post("/v1/video", files={"video": clip}, data={**data, "track": "true"}),
        await client.post("/v1/streams", json={"url": source, **data}),
    ):
        assert response.status_code == 422
        assert "no step detects objects in its input" in response.json()["detail"]


@asynccontextmanager
async def reading(
    context: ApiContext, stream: str
) -> AsyncGenerator[AsyncGenerator[EventBody, None], None]:
    found = context.streams.find(stream)
    with found.reading() as reader:
        yield event_bodies("id", found, reader)


async def until(events: AsyncGenerator[EventBody, None], kind: str, **members: Any) -> EventBody:
    async for event in events:
        if event["event"] == kind and members.items() <= event.items():
            return event
    raise AssertionError(kind)


async def test_a_live_stream_runs_a_workflow_and_follows_its_file(
    client: httpx.AsyncClient,
    context: ApiContext,
    source: str,
    registry: FakeRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.live.stream._FIRST_WAIT", 0.01)
    body = {"url": source, "workflow": "cards", "track": True}
    response = await client.post("/v1/streams", json=body)
    assert response.status_code == 201, response.text
    added = response.json()
    StreamStatus.model_validate(added)
    assert (added["task"], added["workflow"]) == (None, "cards")
    async with reading(context, added["id"]) as events:
        start = await until(events, "start")
        frames = [await until(events, "frame") for _ in range(3)]
        assert start["model"] == "cards"
        assert [one["id"] for (one,) in objects(frames)] == [1] * 3
        assert all(one["steps"]["vector"] for (one,) in objects(frames))
        assert registry.pipelines["embed", "image"].holders <= 1  # type: ignore[index]

        (tmp_path / "workflows").mkdir()
        (tmp_path / "workflows" / "cards.toml").write_text('[steps.cards]\ntask = "detect"\n')
        registry.workflow_files.update(read_workflows(tmp_path))
        while (await until(events, "frame"))["steps"]["cards"]["objects"][0]["steps"]:
            pass

        registry.workflow_files["cards"] = "workflows/cards.toml: there are no steps"
        waiting = await until(events, "state", state="waiting")
        assert (waiting["code"], "there are no steps" in waiting["detail"]) == (
            "model_not_ready",
            True,
        )


@pytest.mark.parametrize(
    ("members", "status", "detail"),
    [
        ({"workflow": "zh-news"}, 422, "workflow 'zh-news' takes text"),
        ({"workflow": "nothing"}, 404, "there is no workflow 'nothing'"),
        ({"workflow": "cards", "task": "detect"}, 422, "with a workflow, task is of no use"),
    ],
)
async def test_a_workflow_that_does_not_fit_a_stream_is_refused(
    client: httpx.AsyncClient, source: str, members: dict[str, Any], status: int, detail: str
) -> None:
    response = await client.post("/v1/streams", json={"url": source, **members})
    assert (response.status_code, detail in response.json()["detail"]) == (status, True)


async def test_a_key_must_be_allowed_to_use_the_model_of_every_step(
    client: httpx.AsyncClient, registry: FakeRegistry, clip: bytes, source: str
) -> None:
    key = {"authorization": "Bearer narrow"}
    image = {"image": b"not read"}
    for response in (
        await client.post("/v1/run/cards", files=image, headers=key),
        await client.post("/v1/video?workflow=cards", files={"video": clip}, headers=key),
        await client.post(
            "/v1/video", files={"video": clip}, data={"workflow": "cards"}, headers=key
        ),
        await client.post("/v1/streams", json={"url": source, "workflow": "cards"}, headers=key),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), response.text
        refusal = "vector: the key 'narrow' may not use the model 'emoji'"
        assert response.json()["detail"] == refusal
    assert not any(pipeline.asked for pipeline in registry.pipelines.values())


async def test_crops_are_items_of_their_key(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    key = {"authorization": "Bearer poor"}
    results = []
    for shade in (1, 2):
        image = {"image": encoded(size=(16, 20 + shade))}
        response = await client.post("/v1/run/cards", files=image, headers=key)
        results += response.json()["results"]
    assert [result["failed"] for result in results] == [0, 1]
    ((left,),) = objects([results[1]])
    assert left["steps"]["vector"]["error"]["code"] == "quota_exceeded"
    assert asked(registry) == 3


async def test_a_video_ends_when_its_key_has_used_up_its_quota(
    client: httpx.AsyncClient, registry: FakeRegistry, clip: bytes
) -> None:
    key = {"authorization": "Bearer poor"}
    response = await client.post("/v1/video?workflow=cards", content=clip, headers=key)
    *_, error, end = events(response)
    assert (error["event"], error["code"]) == ("error", "quota_exceeded")
    assert (end["complete"], asked(registry)) == (False, 3)


async def test_a_stream_drops_the_frames_that_its_key_may_not_have(
    client: httpx.AsyncClient, registry: FakeRegistry, context: ApiContext, source: str
) -> None:
    key = {"authorization": "Bearer poor"}
    body = {"url": source, "workflow": "cards"}
    added = (await client.post("/v1/streams", json=body, headers=key)).json()
    stream = context.streams.find(added["id"])
    while asked(registry) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    before = stream.dropped
    while stream.dropped < before + 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (stream.analysed, stream.failed, asked(registry)) == (2, 0, 3)


def asked(registry: FakeRegistry) -> int:
    pipelines = {id(pipeline): pipeline for pipeline in registry.pipelines.values()}
    return sum(len(pipeline.asked) for pipeline in pipelines.values())
