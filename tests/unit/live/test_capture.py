"""Connections to real sources, and the newest frame of each."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.errors import InvalidInputError
from service.live.address import Address
from service.live.capture import Capture, capturing
from service.live.connections import connection_to
from service.transforms.vision.frames import Sampling
from tests.clips import number_of, write_clip
from tests.live_sources import Camera, serving
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)
ALL = Sampling()


@asynccontextmanager
async def captured(url: str, sampling: Sampling = ALL) -> AsyncIterator[Capture]:
    """Capture a source; in the end no thread of it is left."""
    closed = asyncio.Event()
    try:
        connection = connection_to(Address.parse(url))
        async with capturing(connection, sampling, 1_000_000, closed.set) as capture:
            yield capture
    finally:
        await closed.wait()
        for thread in threading.enumerate():
            if thread.name.startswith(("video", "rtsp")):
                thread.join()


async def numbers(capture: Capture, count: int) -> list[int]:
    """Take some frames as they come."""
    found = []
    while len(found) < count and await capture.wait():
        found.append(number_of(capture.take().frame.pixels()))
    return found


@pytest.mark.parametrize(
    ("scheme", "container", "codec"),
    [("http", "mpegts", "mpeg4"), ("http", "mpjpeg", "mjpeg"), ("rtsp", "rtp", "mpeg4")],
)
async def test_frames_come_in_order(scheme: str, container: str, codec: str) -> None:
    camera = Camera(rate=50, container=container, codec=codec)
    with serving(camera, scheme) as url:
        async with captured(url) as capture:
            found = await numbers(capture, 5)
        size = capture.info.width, capture.info.height
    assert found == sorted(found)
    assert size == (64, 48)


async def test_a_newer_frame_replaces_one_that_was_not_taken() -> None:
    with serving(Camera(rate=50)) as url:
        async with captured(url) as capture:
            await capture.wait()
            while capture.seen < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            first, newest = capture.replaced, number_of(capture.take().frame.pixels())
    assert first >= 9
    assert newest >= 9


async def test_frames_are_sampled() -> None:
    with serving(Camera(rate=50, frames=20)) as url:
        async with captured(url, Sampling(fps=10)) as capture:
            await numbers(capture, 100)
    assert 3 <= capture.seen <= 6


async def test_a_file_is_read_at_its_own_pace(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 10, rate=25)
    loop = asyncio.get_running_loop()
    async with captured(f"file://{path}") as capture:
        started = loop.time()
        assert await numbers(capture, 100) == list(range(10))
        assert loop.time() - started > 0.3


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
async def test_redirects_are_not_followed(scheme: str) -> None:
    elsewhere = Camera()
    with (
        serving(elsewhere, scheme) as other,
        serving(Camera(redirect=other), scheme) as url,
        pytest.raises(InvalidInputError, match="redirects"),
    ):
        await _open(url)
    assert elsewhere.connections == 0


async def test_a_playlist_opens_nothing(tmp_path: Path) -> None:
    elsewhere = Camera()
    with serving(elsewhere) as other:
        path = tmp_path / "a.ts"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n")
        with pytest.raises(InvalidInputError):
            await _open(f"file://{path}")
    assert elsewhere.connections == 0


class _Playlist(Camera):
    """A source that names other places, in place of frames."""

    def packets(self, options: dict[str, str] | None = None) -> Iterator[bytes]:
        yield f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{self.other}\n".encode()

    other = ""


@pytest.mark.parametrize("kind", ["http", "file"])
async def test_a_playlist_of_a_server_opens_nothing(tmp_path: Path, kind: str) -> None:
    elsewhere, playlist = Camera(), _Playlist()
    file = write_clip(tmp_path / "a.ts")
    with serving(elsewhere) as other, serving(playlist) as url:
        playlist.other = other if kind == "http" else f"file://{file}"
        with pytest.raises(InvalidInputError, check=sentence):
            await _open(f"{url}.m3u8")
    assert (elsewhere.connections, playlist.connections) == (0, 1)


async def test_a_pipe_is_no_file() -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        await _open("file:///dev/stdin")


async def test_the_password_is_sent_and_not_shown() -> None:
    camera = Camera(rate=50)
    with serving(camera) as url:
        address = url.replace("//", "//user:secret@") + "?token=hidden"
        async with captured(address) as capture:
            await capture.wait()
    (request,) = camera.requests
    assert "GET /live?token=hidden" in request
    assert "Authorization: Basic dXNlcjpzZWNyZXQ=" in request


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
async def test_a_stuck_source_is_left_at_once(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.live.connections.READ_SECONDS", 1000.0)
    monkeypatch.setattr("service.live.capture.READ_SECONDS", 1000.0)
    camera = Camera(rate=50)
    with serving(camera, scheme) as url:
        async with captured(url) as capture:
            await capture.wait()
            camera.is_stuck.set()
            while True:
                before = capture.seen
                await asyncio.sleep(0.1)
                if capture.seen == before:
                    break


async def test_one_that_never_answers_is_left_at_once() -> None:
    camera = Camera()
    camera.is_stuck.set()
    with serving(camera) as url:
        opening = asyncio.create_task(_open(url))
        while not camera.connections:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)


async def _open(url: str) -> None:
    async with captured(url):
        pass
