"""Live streams of the service as a user starts it: real sources, real readers."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.integration.real_service import TOKEN, RealService, real_service
from tests.live_sources import Camera, serving

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
CLIP = Path(__file__).parents[2] / "service/page/samples/cards.mp4"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    import av  # noqa: PLC0415

    with av.open(str(CLIP)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@contextmanager
def reading(service: RealService, stream: str) -> Iterator[Iterator[dict[str, Any]]]:
    url = f"{service.url}/v1/streams/{stream}/events"
    headers = {**HEADERS, "accept": "application/x-ndjson"}
    with httpx.stream("GET", url, headers=headers, timeout=60) as response:
        assert response.status_code == 200, response.read()
        yield (json.loads(line) for line in response.iter_lines())


def until(events: Iterator[dict[str, Any]], kind: str, **members: Any) -> dict[str, Any]:
    return next(e for e in events if e["event"] == kind and members.items() <= e.items())


def threads(service: RealService) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


def add(client: httpx.Client, url: str) -> str:
    body = {"url": url.replace("//", "//user:secret@"), "track": True, "fps": 5}
    response = client.post("/v1/streams", json=body)
    assert response.status_code == 201, response.text
    added: str = response.json()["id"]
    return added


@pytest.fixture(scope="module")
def camera(pictures: list[NDArray[np.uint8]]) -> Camera:
    return Camera(rate=5, picture=lambda number: pictures[number % len(pictures)])


@pytest.fixture(scope="module")
def url(camera: Camera) -> Iterator[str]:
    with serving(camera, "rtsp") as address:
        yield address


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, url: str) -> Iterator[RealService]:
    options = ("--models.only=cards", f"--streams.sources={url},file://{CLIP}")
    with real_service(tmp_path_factory.mktemp("service"), *options) as running:
        yield running


@pytest.fixture
def client(service: RealService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers=HEADERS, timeout=120) as client:
        yield client


def test_streams_that_are_deleted_leave_no_thread(
    service: RealService, client: httpx.Client, url: str
) -> None:
    counts = []
    for _ in range(3):
        streams = [add(client, url) for _ in range(8)]
        assert client.post("/v1/streams", json={"url": url}).status_code == 429
        for stream in streams[:2]:
            with reading(service, stream) as events:
                until(events, "start")
        for stream in streams:
            client.delete(f"/v1/streams/{stream}").raise_for_status()
        counts.append(threads(service))
    # A thread for each stream would be 16 more; those of shared pools begin one by one.
    assert counts[2] < counts[0] + 8


def test_a_camera_from_its_first_frame_to_the_end_of_the_service(
    service: RealService, client: httpx.Client, camera: Camera, url: str
) -> None:
    stream = add(client, url)
    for each in (stream, add(client, f"file://{CLIP}")):
        with reading(service, each) as events:
            found = until(events, "frame")["objects"]
        assert {one["label"] for one in found} == {"king", "nine"}
    with reading(service, stream) as events:
        camera.is_off.set()
        until(events, "state", state="waiting")
        camera.is_off.clear()
        until(events, "frame")

        client.post("/v1/models/cards/unload").raise_for_status()
        assert until(events, "state", state="waiting")["code"] == "model_not_ready"
        client.post("/v1/models/cards/load").raise_for_status()
        until(events, "frame")

        service.process.terminate()  # the reader does not make it wait for its grace period
        until(events, "end")
    assert service.process.wait(timeout=25) == 0
    assert "secret" not in service.log
