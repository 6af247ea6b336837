"""One live stream: it connects to its source, analyses the newest frames, and connects again."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from service.cache.responses import CacheMode
from service.errors import (
    DeadlineExceededError,
    ForbiddenError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
    OverloadedError,
    QuotaExceededError,
    RateLimitedError,
    ServiceError,
    ShuttingDownError,
    kept,
)
from service.live.address import Address
from service.live.capture import Capture, Captured, capturing
from service.live.connections import connection_to
from service.live.events import Changed, LiveEvent, LiveFrame, Opened, ReadEvent, State
from service.live.readers import Reader, Readers
from service.live.turns import Turns
from service.live.work import FrameModels, LiveWork
from service.requests.answer import as_service_error
from service.requests.pipeline import Outcome
from service.requests.video import VideoProgress
from service.requests.workflow import candidates_of
from service.tasks import Frame
from service.telemetry.video_metrics import (
    STREAM_FRAME_SECONDS,
    STREAM_FRAMES,
    STREAM_FRAMES_SEEN,
    STREAMS,
    VIDEO_FRAMES,
)
from service.transforms.spans import Spans
from service.transforms.vision.frames import Sampling, WantedFrame
from service.transforms.vision.tracking import Tracker
from service.types import ModelIdentity

_log = logging.getLogger(__name__)

USUAL_RATE = 25.0
"""Frames per second of a source that does not say."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
"""Seconds before the next connection."""
_LASTING = 5.0
"""Seconds after which a connection was a good one."""

_SILENCE = 5.0
"""Seconds without an event after which a reader gets `VideoProgress`."""

# A frame that meets one of these is as if it had come while the device was busy.
_BUSY = (DeadlineExceededError, OverloadedError, RateLimitedError, QuotaExceededError)
# One of these ends the connection: the stream has to wait for its model.
_LOST = (
    ForbiddenError,
    ModelNotFoundError,
    ModelNotReadyError,
    ModelRequiredError,
    ShuttingDownError,
)


@dataclass(eq=False, slots=True)
class LiveStream:
    """A stream. `run` is its task; it ends only when it is cancelled."""

    id: str
    slot: int
    address: Address
    work: LiveWork
    turns_of: Callable[[str], Turns]
    """Returns the turns of a model."""
    readers: Readers[LiveEvent] = field(default_factory=Readers)
    changed: Changed = field(default_factory=lambda: Changed(State.CONNECTING))
    since: float = field(default_factory=time.time)
    """Of the state, in Unix seconds."""
    opened: Opened | None = None
    """What the present connection brings; None without one."""
    model: ModelIdentity | None = None
    """That answered last."""
    models: FrameModels | None = None
    """That answer now; None without a connection."""
    connections: int = 0
    seen: int = 0
    """Frames received, at the wanted rate."""
    analysed: int = 0
    failed: int = 0
    dropped: int = 0
    seconds: float = 0.0
    """Time in the present connection of the last frame."""
    age: float | None = None
    """Of the last frame that was analysed."""
    tracker: Tracker | None = None
    threads: int = 0
    """That work for it."""
    _unread: int = 0
    """Frames dropped since the last event."""
    _spans: Spans | None = None

    def __post_init__(self) -> None:
        STREAMS.labels(self.changed.state.value).inc()

    @property
    def is_gone(self) -> bool:
        """Return whether it has ended, and no thread works for it."""
        return self.changed.state is State.ENDED and not self.threads

    @contextmanager
    def reading(self) -> Iterator[Reader[LiveEvent]]:
        """Give the present state and all events from now on to a reader.

        Raises:
            OverloadedError: there are too many readers.
        """
        with self.readers.reading() as reader:
            reader.put(self.changed)
            if self.opened is not None:
                reader.put(self.opened)
            yield reader

    async def events(self, reader: Reader[LiveEvent]) -> AsyncGenerator[ReadEvent, None]:
        """Yield the events of a reader, and `VideoProgress` while there are none."""
        async with aclosing(reader.events(_SILENCE)) as events:
            async for event in events:
                frames = self.analysed + self.failed
                yield VideoProgress(frames, self.seconds) if event is None else event

    async def run(self) -> None:
        """Connect, analyse and connect again, until it is cancelled."""
        wait = _FIRST_WAIT
        while True:
            started, error = time.monotonic(), None
            try:
                await self._connect()
            except Exception as problem:
                error = kept(as_service_error(problem, self.id))
            self._end_connection()
            if error is None or time.monotonic() - started > _LASTING:
                wait = _FIRST_WAIT
            seconds = wait * random.uniform(0.8, 1.2)  # noqa: S311 - so that not all come at once
            self._change(Changed(State.WAITING, error, seconds))
            await asyncio.sleep(seconds)
            wait = min(2 * wait, _LONGEST_WAIT)

    def end(self) -> None:
        """Tell the readers that the stream has ended. Cancel the task before."""
        self._end_connection()
        self._change(Changed(State.ENDED))
        self.readers.close()

    def _change(self, changed: Changed) -> None:
        STREAMS.labels(self.changed.state.value).dec()
        if changed.state is not State.ENDED:
            STREAMS.labels(changed.state.value).inc()
        self.changed, self.since = changed, time.time()
        reason = None if changed.error is None else str(changed.error)
        facts = {"stream": self.id, "source": str(self.address), "reason": reason}
        _log.info("stream %s", changed.state, extra=facts)
        self.readers.publish(changed)

    def _end_connection(self) -> None:
        """Forget what belongs to a connection, and the model, which may be unloaded."""
        self.opened = self.models = None
        if self._spans is not None and (span := self._spans.end(self.seconds)) is not None:
            self.readers.publish(span)
        self._spans = None

    async def _connect(self) -> None:
        """Analyse the frames of one connection to its end. Raises ServiceError."""
        self._change(Changed(State.CONNECTING))
        pipeline = (await self._find()).pipelines[0]
        if self.threads:
            raise DeadlineExceededError("the last connection has not ended yet")
        self.connections += 1
        self.threads += 1
        connection, sampling = connection_to(self.address), Sampling(self.work.fps)
        async with capturing(
            connection, sampling, self.work.max_pixels, self._end_thread
        ) as capture:
            self.opened, rate = Opened(capture.info, pipeline.model), capture.info.rate
            self.tracker, self._spans = self.work.new_tracker(rate), self.work.new_spans()
            self._change(Changed(State.RUNNING))
            self.readers.publish(self.opened)
            try:
                while await capture.wait():
                    await self._next(capture)
                    self._count(capture)
            finally:
                self._count(capture)
                self._drop(int(capture.is_left))

    def _end_thread(self) -> None:
        self.threads -= 1

    async def _find(self) -> FrameModels:
        """Return what answers a frame now. Raises ServiceError."""
        soon = asyncio.get_running_loop().time() + self.work.patience
        found = await self.work.find(replace(self.work.request, deadline=soon), self.models)
        self.models, self.model = found, found.pipelines[0].model
        return found

    async def _next(self, capture: Capture) -> None:
        """Analyse the newest frame when it is the stream's turn. Raises ServiceError."""
        models = await self._find()
        pipeline = models.pipelines[0]
        rate = self.work.fps or capture.info.rate or USUAL_RATE
        turns = self.turns_of(pipeline.model.name)
        result: Outcome[Any] | ServiceError
        async with turns.turn(capture.interval or 1 / rate, pipeline.window):
            captured = capture.take()
            try:
                result = await self._analyse(captured.frame, models)
            except _LOST:
                self._drop(1)
                raise
            except _BUSY:
                self._drop(1)
                return
            except Exception as error:
                result = kept(as_service_error(error, self.id))
        self._publish(captured, result, models)

    async def _analyse(self, frame: WantedFrame, models: FrameModels) -> Outcome[Any]:
        item = self.work.to_item(Frame(await asyncio.to_thread(frame.pixels)))
        soon = asyncio.get_running_loop().time() + self.work.patience
        asked = replace(self.work.request, deadline=soon, cache=CacheMode.BYPASS)
        with models.held():
            return await models.ask(models.pipelines[0], item, asked)

    def _publish(
        self, captured: Captured, result: Outcome[Any] | ServiceError, models: FrameModels
    ) -> None:
        frame, tracked, span = captured.frame, None, None
        self.seconds, age = frame.seconds, time.monotonic() - captured.received
        if isinstance(result, ServiceError):
            self.failed += 1
            STREAM_FRAMES.labels(str(self.slot), "failed").inc()
        else:
            self.analysed += 1
            self.age = age
            STREAM_FRAMES.labels(str(self.slot), "analysed").inc()
            STREAM_FRAME_SECONDS.labels(str(self.slot)).observe(age)
            VIDEO_FRAMES.labels(models.task).inc()
            objects = None if self.tracker is None else candidates_of(result.answer)
            if self.tracker is not None and objects is not None:
                tracked = self.tracker.update(frame.seconds, objects)
            if self._spans is not None:
                span = self._spans.add(frame.seconds, result.answer)
        dropped, self._unread = self._unread, 0
        event = LiveFrame(frame.index, frame.seconds, result, tracked, age, dropped)
        self.readers.publish(event)
        if span is not None:
            self.readers.publish(span)

    def _count(self, capture: Capture) -> None:
        """Count what the capture received and replaced since it was last asked."""
        seen, replaced = capture.counted()
        self.seen += seen
        STREAM_FRAMES_SEEN.labels(str(self.slot)).inc(seen)
        self._drop(replaced)

    def _drop(self, frames: int) -> None:
        if frames:
            self.dropped += frames
            self._unread += frames
            STREAM_FRAMES.labels(str(self.slot), "dropped").inc(frames)
