"""POST /v1/video: uploads in every form, events, refusals; no file is left."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from service.api import ApiContext, ApiLimits, Lifecycle
from tests.clips import write_clip
from tests.sentences import sentence
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry

pytestmark = pytest.mark.looptime(False)
URL = "/v1/video"
MOST = 200_000
FORM = "multipart/form-data; boundary=x"


@pytest.fixture
def limits(tmp_path: Path) -> ApiLimits:
    folder = tmp_path / "uploads"
    folder.mkdir()
    return ApiLimits(max_body_bytes=1000, max_video_bytes=MOST, max_videos=1, video_folder=folder)


@pytest.fixture
def context(registry: FakeRegistry, limits: ApiLimits) -> ApiContext:
    return ApiContext(registry, Lifecycle(), limits, admin_token=TOKEN)


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "a.mp4", 6).read_bytes()


@pytest.fixture(autouse=True)
def left(limits: ApiLimits, context: ApiContext) -> Any:
    yield
    assert limits.video_folder is not None
    assert list(limits.video_folder.iterdir()) == []
    assert context.videos.held == 0


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_form_gives_lines_of_events(client: httpx.AsyncClient, clip: bytes) -> None:
    response = await client.post(URL, files={"video": clip}, data={"every": "2"})
    assert response.headers["content-type"].startswith("application/x-ndjson")
    start, *frames, end = events(response)
    assert start["event"] == "start"
    assert (start["model"], start["width"], start["height"], start["frames"]) == (
        "cards",
        64,
        48,
        6,
    )
    assert [(each["event"], each["index"], each["time"]) for each in frames] == [
        ("frame", 0, 0.0),
        ("frame", 2, 0.2),
        ("frame", 4, 0.4),
    ]
    assert all(each["objects"] for each in frames)
    assert (end["event"], end["frames"], end["complete"]) == ("end", 3, True)


@pytest.mark.parametrize(
    ("task", "member"), [("detect", "objects"), ("classify", "labels"), ("embed", "embedding")]
)
async def test_the_body_may_be_the_file_with_the_rest_in_the_query(
    client: httpx.AsyncClient, clip: bytes, task: str, member: str
) -> None:
    response = await client.post(
        f"{URL}?task={task}&start=0.2&end=0.4",
        content=clip,
        headers={"content-type": "video/mp4", "accept": "text/event-stream"},
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    data = [json.loads(line[6:]) for line in response.text.splitlines() if line[:5] == "data:"]
    assert [each["event"] for each in data] == ["start", "frame", "frame", "end"]
    assert all(member in each for each in data[1:3])


@pytest.mark.parametrize(
    "fields",
    [
        {"fps": "0"},
        {"fps": "2", "every": "3"},
        {"start": "3", "end": "2"},
        {"task": "translate"},
        {"threshold": "nan"},
        {"speed": "3"},
    ],
)
async def test_a_wrong_parameter_is_named(
    client: httpx.AsyncClient, clip: bytes, fields: dict[str, str]
) -> None:
    response = await client.post(URL, files={"video": clip}, data=fields)
    assert response.status_code == 422
    assert sentence(response.json()["detail"])


async def test_what_is_no_video_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, files={"video": b"hello"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"data": {"fps": "2"}, "files": {"other": b"x"}}, 422),
        ({"files": {"video": b""}}, 422),
        ({"files": [("video", b"x"), ("video", b"y")]}, 400),
        ({"json": {"video": "..."}}, 415),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({"content": b"--x\r\n\r\nab", "headers": {"content-type": FORM}}, 400),
        ({"content": b"--x\r\n", "headers": {"content-type": FORM + 300 * "x"}}, 400),
        ({"content": b"--x\r\n" + 9000 * b"h", "headers": {"content-type": FORM}}, 400),
        ({"files": {"video": b"x"}, "headers": {"content-encoding": "gzip"}}, 415),
        ({"files": {"video": b"x" * (MOST + 1)}}, 413),
        ({"files": {"video": b"x"}, "data": {"model": "m" * 70_000}}, 413),
    ],
)
async def test_a_wrong_body_is_refused(
    client: httpx.AsyncClient, request_: dict[str, Any], status: int
) -> None:
    response = await client.post(URL, **request_)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_length_over_the_limit_is_refused_before_the_body_arrives(api: FastAPI) -> None:
    async def unsent() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    transport = httpx.ASGITransport(api)
    headers = {"content-length": str(MOST + 1), "content-type": "video/mp4"}
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        response = await client.post(URL, content=unsent(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "limit_exceeded")
    assert sentence(response.json()["detail"])


async def test_an_upload_that_stalls_is_given_up(api: FastAPI, context: ApiContext) -> None:
    limits = replace(context.limits, request_timeout_seconds=0.05)
    object.__setattr__(context, "limits", limits)

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x"
            await asyncio.sleep(0.01)

    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        response = await client.post(URL, content=dripping())
    assert (response.status_code, response.json()["code"]) == (408, "request_timeout")


async def test_more_videos_than_allowed_are_told_to_wait(
    client: httpx.AsyncClient, context: ApiContext, clip: bytes
) -> None:
    context.videos.take(1)
    response = await client.post(URL, files={"video": clip})
    context.videos.give_back()
    assert response.status_code == 429
    assert response.headers["retry-after"] == "5"


async def test_a_disk_without_room_is_told(client: httpx.AsyncClient) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST // 4, hard))  # of each file
    try:
        response = await client.post(URL, content=b"x" * (MOST // 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert sentence(response.json()["detail"])


async def test_videos_and_frames_are_counted(
    client: httpx.AsyncClient, context: ApiContext, clip: bytes
) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    before = value("video_frames_total", task="detect")
    events(await client.post(URL, files={"video": clip}))
    assert value("video_frames_total", task="detect") == before + 6
    context.videos.take(1)
    assert value("videos") == 1
    context.videos.give_back()
    assert value("videos") == 0


async def test_an_unknown_model_is_refused_before_the_stream(
    client: httpx.AsyncClient, clip: bytes
) -> None:
    response = await client.post(URL, files={"video": clip}, data={"model": "nothing"})
    assert response.status_code == 404


async def test_other_routes_keep_their_limit(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/detect", files={"image": b"x" * 5000})
    assert response.status_code == 413


async def test_tracked_objects_have_ids_and_are_counted(
    client: httpx.AsyncClient, clip: bytes
) -> None:
    response = await client.post(URL, files={"video": clip}, data={"track": "true"})
    _, *frames, end = events(response)
    assert [[found["id"] for found in each["objects"]] for each in frames] == [[1]] * 6
    assert [each["entered"] for each in frames] == [[1], [], [], [], [], []]  # there from the start
    assert (end["counts"], end["entries"], end["exits"]) == ({"ace": 1}, 1, 0)


async def test_labels_become_segments(client: httpx.AsyncClient, clip: bytes) -> None:
    fields = {"task": "classify", "segments": "true", "top_k": "1"}
    response = await client.post(URL, files={"video": clip}, data=fields)
    *_, frame, segment, _ = events(response)
    assert frame["labels"] == [{"label": "business", "score": 0.75}]
    assert segment == {
        "event": "segment",
        "label": "business",
        "start": 0.0,
        "end": 0.5,
        "score": 0.75,
    }


async def test_the_steps_of_a_workflow_run_on_each_frame(
    client: httpx.AsyncClient, clip: bytes
) -> None:
    data = {"every": "3", "workflow": "cards"}
    response = await client.post(URL, files={"video": clip}, data=data)
    start, *frames, end = events(response)
    assert (start["model"], end["complete"]) == ("cards", True)
    assert [each["index"] for each in frames] == [0, 3]
    (found,) = frames[0]["steps"]["cards"]["objects"]
    assert found["steps"]["vector"]["embedding"]


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        ({"workflow": "cards", "top_k": "2"}, 422, "with a workflow, top_k is of no use"),
        ({"workflow": "zh-news"}, 422, "workflow 'zh-news' takes text"),
        ({"workflow": "nothing"}, 404, "there is no workflow 'nothing'"),
    ],
)
async def test_a_workflow_that_does_not_fit_a_video_is_refused(
    client: httpx.AsyncClient, clip: bytes, data: dict[str, str], status: int, detail: str
) -> None:
    response = await client.post(URL, files={"video": clip}, data=data)
    assert (response.status_code, detail in response.json()["detail"]) == (status, True)


def decoded(data: bytes) -> list[av.VideoFrame]:
    with av.open(BytesIO(data)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("fields", [{"track": "true"}, {"task": "classify", "top_k": "1"}])
async def test_results_are_drawn_into_a_video(
    client: httpx.AsyncClient, tmp_path: Path, fields: dict[str, str]
) -> None:
    clip = write_clip(tmp_path / "a.mp4", 6, size=(161, 121), codec="mjpeg").read_bytes()
    response = await client.post(
        URL, files={"video": clip}, data={"render": "true", "every": "2", **fields}
    )
    assert (response.status_code, response.headers["content-type"]) == (200, "video/mp4")
    frames = decoded(response.content)
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.2, 0.4], abs=0.001)
    assert (frames[0].width % 2, frames[0].height % 2) == (0, 0)
    drawn = frames[0].to_ndarray(format="rgb24").astype(int)
    assert drawn.max() - drawn.min() > 50  # the frame itself is black
    assert drawn[-5:].max() < 30


async def test_of_a_video_that_is_cut_short_the_rest_is_rendered(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "a.mkv", 30).read_bytes()
    response = await client.post(
        f"{URL}?render=true", content=clip[: len(clip) // 2], headers={"content-type": "video/mp4"}
    )
    *_, last, reason = decoded(response.content)
    assert 0.5 < last.time < 2.9
    assert reason.time == pytest.approx(last.time + 2, abs=0.001)
    assert reason.to_ndarray(format="rgb24").std() > 20  # the frames of the clip are plain


async def test_vectors_are_not_rendered(client: httpx.AsyncClient, clip: bytes) -> None:
    fields = {"render": "true", "task": "embed"}
    response = await client.post(URL, files={"video": clip}, data=fields)
    assert response.status_code == 422
    assert "render is of tasks detect and classify" in response.json()["detail"]
