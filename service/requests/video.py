"""Analyse the frames of a video in order, and yield the results while later frames are decoded.

A thread of its own decodes a video. A few frames are decoded and asked ahead of their turn: enough
to keep the device busy, and few enough that a video of any length takes the same memory. A slow
reader stops the decoding, for no more than these are computed for it.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from service.cache.responses import CacheMode
from service.errors import (
    DeadlineExceededError,
    ForbiddenError,
    ModelNotReadyError,
    OverloadedError,
    QuotaExceededError,
    RateLimitedError,
    ServiceError,
    ShuttingDownError,
    kept,
    renewed,
)
from service.requests.answer import Ask, as_service_error, ask_pipeline
from service.requests.open_video import Video
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.requests.workflow import candidates_of
from service.tasks import AnyItem, ComposedTask, Frame, Task
from service.telemetry.record import Timings, longest
from service.telemetry.video_metrics import VIDEO_FRAMES
from service.transforms.spans import Span, Spans
from service.transforms.vision.frames import DecodedFrame, Sampling, VideoInfo
from service.transforms.vision.tracking import Tracked, Tracker

# Errors of one frame that every later frame would have, too.
_FINAL = (
    ForbiddenError,
    ModelNotReadyError,
    QuotaExceededError,
    RateLimitedError,
    ShuttingDownError,
)

ToItem: TypeAlias = Callable[[Frame], AnyItem | Frame]

_AHEAD_BYTES = 64 * 1024 * 1024
"""Pixels of decoded frames that wait for their answers, for each video."""
_LEAST_AHEAD = 2
_WINDOWS_AHEAD = 2

_LONGEST_WAIT = 0.1
"""Seconds between two attempts to enter a queue that is full."""


@dataclass(frozen=True, slots=True)
class VideoProgress:
    """Frames analysed so far. Yielded as a heartbeat, too."""

    frames: int
    seconds: float
    """Time in the video of the last one."""


@dataclass(frozen=True, slots=True)
class VideoStart:
    """The first event."""

    info: VideoInfo


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """A frame was analysed, or failed."""

    frame: DecodedFrame
    result: Outcome[Any] | ServiceError
    tracked: Tracked | None = None
    """The objects with their ids, if they are followed."""


@dataclass(frozen=True, slots=True)
class VideoEnd:
    """The last event."""

    progress: VideoProgress
    failed: int
    """Frames that failed."""
    error: ServiceError | None
    """Why the video ended before its end."""
    elapsed: float
    """Seconds since the arrival of the request."""
    timings: Timings
    """The longest time of each step over all frames."""


Event: TypeAlias = VideoStart | FrameResult | Span | VideoProgress | VideoEnd
_Asked: TypeAlias = tuple[DecodedFrame, "asyncio.Task[Outcome[Any] | ServiceError]"]


@dataclass(eq=False, slots=True)
class VideoAnalysis:
    """The frames of a video on their way through a model."""

    request: Request
    video: Video
    task: Task | ComposedTask
    pipeline: Pipeline[Any, Any]
    sampling: Sampling
    to_item: ToItem
    patience: float
    """Seconds in which each frame must be answered."""
    heartbeat: float = 5.0
    """Seconds without an event after which `VideoProgress` is yielded."""
    ask: Ask = ask_pipeline
    tracker: Tracker | None = None
    """Follows the objects that are detected."""
    spans: Spans | None = None
    """Makes time spans of the labels of frames."""
    charges: bool = True
    """Whether frames are charged to the caller here, and not by `ask`."""
    frames: int = 0
    failed: int = 0
    seconds: float = 0.0
    _asked: "deque[_Asked]" = field(default_factory=deque, init=False)
    _next: "asyncio.Future[DecodedFrame | None] | None" = field(default=None, init=False)
    _has_ended: bool = field(default=False, init=False)
    _error: ServiceError | None = field(default=None, init=False)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event, from `VideoStart` to `VideoEnd`. Close it to cancel the work."""
        self.request.record.model = self.pipeline.model
        yield VideoStart(self.video.reader.info)
        try:
            async with aclosing(self._answered()) as answered:
                async for event in answered:
                    yield event
                    if (span := self._span(event)) is not None:
                        yield span
        except DeadlineExceededError as error:
            self._error = kept(as_service_error(error, self.request.id))
        if self.spans is not None and (span := self.spans.end(self.seconds)) is not None:
            yield span
        yield self.end()

    async def _answered(self) -> AsyncGenerator[FrameResult | VideoProgress, None]:
        """Yield the results in order. Raises DeadlineExceededError."""
        decoded = self.video.reader.frames(self.sampling)
        try:
            while not self._has_ended or self._asked:
                if self._asked and self._asked[0][1].done():
                    frame, answer = self._asked.popleft()
                    result = answer.result()
                    if isinstance(result, _FINAL):
                        self._error = renewed(result)
                        return
                    yield self._counted(frame, result)
                elif self._next is not None and self._next.done():
                    self._take()
                elif self._has_room():
                    loop = asyncio.get_running_loop()
                    self._next = loop.run_in_executor(self.video.thread, next, decoded, None)
                elif not await self._is_news():
                    yield self._progress
        finally:
            await self._cancel()

    def end(self, error: ServiceError | None = None) -> VideoEnd:
        """Return the last event; `error` is why the work was stopped."""
        record = self.request.record
        if (cause := error or self._error) is not None and record.code == "ok":
            record.code = cause.code
        return VideoEnd(
            self._progress,
            self.failed,
            cause,
            time.perf_counter() - record.started,
            record.timings or Timings(),
        )

    @property
    def _progress(self) -> VideoProgress:
        return VideoProgress(self.frames, self.seconds)

    def _has_room(self) -> bool:
        if self._has_ended or self._next is not None:
            return False
        if len(self._asked) < _LEAST_AHEAD:
            return True
        # The size of frames may change in the middle of a video.
        sizes = [frame.pixels.nbytes for frame, _ in self._asked]
        has_bytes = sum(sizes) + sizes[-1] <= _AHEAD_BYTES
        return has_bytes and len(sizes) < _WINDOWS_AHEAD * self.pipeline.window

    def _take(self) -> None:
        """Ask for the frame that was decoded last, or note the end."""
        assert self._next is not None  # noqa: S101 - for mypy
        decoding, self._next = self._next, None
        try:
            frame = decoding.result()
        except Exception as error:
            self._error, frame = kept(as_service_error(error, self.request.id)), None
        if frame is None:
            self._has_ended = True
        else:
            self._asked.append((frame, asyncio.create_task(self._answer(frame))))

    async def _answer(self, frame: DecodedFrame) -> Outcome[Any] | ServiceError:
        item = self.to_item(Frame(frame.pixels))
        try:
            if self.charges and (caller := self.request.caller) is not None:
                model = self.pipeline.model.name
                await caller.spend(self.task, (model,), [item])
            return await self._asked_until_there_is_room(item)
        except Exception as error:
            return kept(as_service_error(error, self.request.id))

    async def _asked_until_there_is_room(self, item: AnyItem | Frame) -> Outcome[Any]:
        loop = asyncio.get_running_loop()
        while True:
            soon = loop.time() + self.patience
            # Not cached: hashing a frame costs more than it would save.
            request = replace(self.request, deadline=soon, cache=CacheMode.BYPASS)
            try:
                self.pipeline.check_room()
                return await self.ask(self.pipeline, item, request)
            except OverloadedError as error:
                wait = min(error.retry_after or _LONGEST_WAIT, _LONGEST_WAIT)
            await asyncio.sleep(wait)

    def _counted(self, frame: DecodedFrame, result: Outcome[Any] | ServiceError) -> FrameResult:
        record = self.request.record
        self.frames += 1
        self.seconds = frame.seconds
        record.item_count = self.frames
        if record.first_seconds is None:
            record.first_seconds = time.perf_counter() - record.started
        if isinstance(result, ServiceError):
            self.failed += 1
        else:
            VIDEO_FRAMES.labels(self.task.value).inc()
            record.timings = longest((record.timings or Timings(), result.timings))
            objects = None if self.tracker is None else candidates_of(result.answer)
            if self.tracker is not None and objects is not None:
                return FrameResult(frame, result, self.tracker.update(frame.seconds, objects))
        return FrameResult(frame, result)

    def _span(self, event: FrameResult | VideoProgress) -> Span | None:
        if self.spans is None or isinstance(event, VideoProgress):
            return None
        if isinstance(event.result, ServiceError):
            return None
        return self.spans.add(event.frame.seconds, event.result.answer)

    async def _is_news(self) -> bool:
        """Wait until a frame is decoded or answered. Raises DeadlineExceededError."""
        waits: Iterator[asyncio.Future[Any] | None] = iter(
            (self._next, self._asked[0][1] if self._asked else None)
        )
        seconds, deadline = self.heartbeat, self.request.deadline
        if deadline is not None:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise DeadlineExceededError("the deadline passed before the end of the video")
            seconds = min(seconds, left)
        done, _ = await asyncio.wait(
            [future for future in waits if future is not None],
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return bool(done)

    async def _cancel(self) -> None:
        answers = [answer for _, answer in self._asked]
        self._asked.clear()
        if self._next is not None:
            self._next.cancel()  # else an error of it would be logged as never retrieved
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
