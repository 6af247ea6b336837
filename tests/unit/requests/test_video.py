"""Frames on their way through a model: order, bounds, failures and cancellation."""

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from service.cache.responses import CacheMode, CacheOutcome
from service.errors import (
    InferenceError,
    InvalidInputError,
    OverloadedError,
    RateLimitedError,
    ServiceError,
)
from service.requests.admission import VideoRoom
from service.requests.open_video import Video
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.video import (
    FrameResult,
    VideoAnalysis,
    VideoEnd,
    VideoProgress,
    VideoStart,
)
from service.tasks import DetectItem, Frame, Task
from service.telemetry.record import Timings
from service.transforms.vision.frames import Sampling, VideoReader
from service.types import ModelIdentity
from tests.clips import number_of, write_clip
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)


class Counter:
    """Answers each frame with its number, in its own time."""

    task = Task.DETECT
    model = ModelIdentity("counter", 1, "digest")

    def __init__(self, window: int = 2) -> None:
        self.window = window
        self.running = self.most = self.answered = self.refusals = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.fails_at: dict[int, ServiceError] = {}
        self.requests: list[Request] = []

    def check_room(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OverloadedError("the queue is full", 0.001)

    async def answer(self, item: DetectItem, request: Request) -> Outcome[int]:
        assert isinstance(item.image, Frame)
        number = number_of(item.image.pixels)
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.may_answer.wait()
            await asyncio.sleep(0.002 * (number % 3))  # they end in another order
        finally:
            self.running -= 1
        if number in self.fails_at:
            raise self.fails_at[number]
        self.answered += 1
        return Outcome(number, CacheOutcome.BYPASS, Timings(0.0, 0.001, 0.0, 0.001, 0.0))


async def analysis(path: Path, counter: Counter, **options: Any) -> VideoAnalysis:
    video = await Video.open(lambda: VideoReader(path, 1_000_000))
    sampling = options.pop("sampling", Sampling())
    pipeline = cast(Any, counter)
    request = options.pop("request", Request("id"))
    return VideoAnalysis(
        request, video, Task.DETECT, pipeline, sampling, DetectItem, 30.0, **options
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4")


async def test_results_come_in_order_between_start_and_end(clip: Path) -> None:
    counter = Counter()
    work = await analysis(clip, counter)
    with work.video:
        start, *frames, end = [event async for event in work.events()]
    assert isinstance(start, VideoStart)
    assert isinstance(end, VideoEnd)
    found = [(event.frame.index, event.result.answer) for event in frames]  # type: ignore[union-attr]
    assert found == [(number, number) for number in range(20)]
    assert end.progress == VideoProgress(20, pytest.approx(1.9))
    assert (end.failed, end.error, end.timings.compute) == (0, None, 0.001)
    assert counter.most <= 4
    assert {request.cache for request in counter.requests} == {CacheMode.BYPASS}
    assert work.request.record.item_count == 20
    assert work.request.record.model == counter.model


async def test_a_reader_that_pauses_stops_the_decoding(clip: Path) -> None:
    counter = Counter()
    work = await analysis(clip, counter)
    with work.video:
        async with aclosing(work.events()) as events:
            for _ in range(3):
                await anext(events)
            await asyncio.sleep(0.2)
            assert counter.answered <= 2 + 4 + 1


async def test_who_leaves_cancels_what_is_asked(clip: Path) -> None:
    counter = Counter()
    counter.may_answer.clear()
    work = await analysis(clip, counter)
    with work.video:
        reading = asyncio.create_task(_all(work))
        while counter.running < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert counter.running == 0
    with pytest.raises(RuntimeError):
        work.video.thread.submit(int)


async def _all(work: VideoAnalysis) -> list[Any]:
    return [event async for event in work.events()]


async def test_a_frame_that_fails_costs_no_other(clip: Path) -> None:
    counter = Counter()
    counter.fails_at = {3: InferenceError("the model failed")}
    work = await analysis(clip, counter)
    with work.video:
        *frames, end = await _all(work)
    failed = [event.frame.index for event in frames[1:] if isinstance(event.result, ServiceError)]
    assert failed == [3]
    assert (end.failed, end.error, end.progress.frames) == (1, None, 20)


async def test_a_limit_that_every_frame_would_meet_ends_the_video(clip: Path) -> None:
    counter = Counter()
    counter.fails_at = {number: RateLimitedError("too much", 1.0) for number in range(5, 20)}
    work = await analysis(clip, counter)
    with work.video:
        *frames, end = await _all(work)
    assert [event.frame.index for event in frames if isinstance(event, FrameResult)] == [*range(5)]
    assert isinstance(end.error, RateLimitedError)


async def test_a_full_queue_is_waited_for(clip: Path) -> None:
    counter = Counter()
    counter.refusals = 7
    work = await analysis(clip, counter, sampling=Sampling(every=5))
    with work.video:
        *_, end = await _all(work)
    assert (end.progress.frames, end.failed) == (4, 0)


async def test_the_deadline_ends_the_video(clip: Path) -> None:
    counter = Counter()
    counter.may_answer.clear()
    request = replace(Request("id"), deadline=asyncio.get_running_loop().time() + 0.1)
    work = await analysis(clip, counter, request=request)
    with work.video:
        *_, end = await _all(work)
    assert end.error.code == "deadline_exceeded"
    assert counter.running == 0
    assert work.request.record.code == "deadline_exceeded"


async def test_silence_is_broken_by_progress(clip: Path) -> None:
    counter = Counter()
    counter.may_answer.clear()
    work = await analysis(clip, counter, heartbeat=0.02)
    with work.video:
        async with aclosing(work.events()) as events:
            await anext(events)
            assert await anext(events) == VideoProgress(0, 0.0)
            counter.may_answer.set()
            assert [e async for e in events][-1].progress.frames == 20  # type: ignore[union-attr]


async def test_damage_comes_after_what_could_be_read(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", 30)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    work = await analysis(path, Counter())
    with work.video:
        *frames, end = await _all(work)
    assert len(frames) > 5
    assert isinstance(end.error, InvalidInputError)


async def test_large_frames_are_not_held_many_at_a_time(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.requests.video._AHEAD_BYTES", 3 * 64 * 48 * 3)
    counter = Counter(window=50)
    work = await analysis(clip, counter)
    with work.video:
        await _all(work)
    assert counter.most <= 3


async def test_frames_that_become_large_are_not_held_many_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = write_clip(tmp_path / "a.mjpeg", 4, size=(16, 16), codec="mjpeg").read_bytes()
    path = write_clip(tmp_path / "b.mjpeg", 20, codec="mjpeg")
    path.write_bytes(small + path.read_bytes())
    monkeypatch.setattr("service.requests.video._AHEAD_BYTES", 3 * 64 * 48 * 3)
    counter = Counter(window=50)
    work = await analysis(path, counter)
    with work.video:
        async with aclosing(work.events()) as events:
            for _ in range(8):
                await anext(events)
            counter.may_answer.clear()
            reading = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.2)
            assert counter.running <= 3
            counter.may_answer.set()
            await reading


async def test_a_frame_that_is_searched_for_is_given_up(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 3000)
    work = await analysis(path, Counter(), sampling=Sampling(every=100_000), heartbeat=0.01)
    with work.video:
        async with aclosing(work.events()) as events:
            for _ in range(3):  # the start, the first frame, and that the second is far
                await anext(events)
    before = work.video.reader._file.reached
    work.video.thread.shutdown(wait=True)
    assert before is not None
    assert work.video.reader._file.reached < 290  # of 300 seconds


async def test_a_video_that_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(InvalidInputError):
        await analysis(tmp_path / "a.mp4", Counter())


async def test_a_thread_counts_until_it_has_ended(tmp_path: Path) -> None:
    room, may_open = VideoRoom(), threading.Event()
    path = write_clip(tmp_path / "a.mp4")

    def opened() -> VideoReader:
        may_open.wait()
        return VideoReader(path, 1_000_000)

    leaving = asyncio.create_task(Video.open(opened, room.begin_thread()))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    room.begin_thread()
    with pytest.raises(OverloadedError):
        room.take(1)
    may_open.set()
    while room.threads > 1:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    room.take(1)


async def test_a_closed_video_gives_memory_back(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = list[str]()
    monkeypatch.setattr(
        "service.requests.open_video.return_free_memory",
        lambda: threads.append(threading.current_thread().name),
    )
    work = await analysis(clip, Counter())
    with work.video:
        await _all(work)
    while not threads:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert threads == ["video_0"]


def test_only_so_many_videos_find_room() -> None:
    room = VideoRoom()
    room.take(2)
    room.take(2)
    with pytest.raises(OverloadedError, check=sentence):
        room.take(2)
    room.give_back()
    room.take(2)
