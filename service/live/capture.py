"""One connection to a source, and the newest frame of it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from service.errors import DeadlineExceededError, InvalidInputError, ServiceError, kept
from service.live.connections import READ_SECONDS, Connection
from service.requests.answer import as_service_error
from service.requests.open_video import Video
from service.transforms.vision.frames import Sampling, VideoInfo, VideoReader, WantedFrame

_OPEN_SECONDS = 20.0
"""To connect, and to receive the first frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Captured:
    """A frame, and when it was received, by the clock of `time.monotonic`."""

    frame: WantedFrame
    received: float


@dataclass(eq=False, slots=True)
class Capture:
    """The newest frame of a source."""

    info: VideoInfo
    seen: int = 0
    """Wanted frames that were received."""
    replaced: int = 0
    """Those that a newer one replaced."""
    interval: float = 0.0
    """Seconds between two of them, on average."""
    _counted: tuple[int, int] = (0, 0)
    _newest: Captured | None = None
    _last: float | None = None
    _has_ended: bool = False
    _error: ServiceError | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_left(self) -> bool:
        """Return whether the newest frame was not taken."""
        return self._newest is not None

    def counted(self) -> tuple[int, int]:
        """Return how many frames were received, and replaced, since the last call."""
        (seen, replaced), self._counted = self._counted, (self.seen, self.replaced)
        return self.seen - seen, self.replaced - replaced

    async def wait(self) -> bool:
        """Wait for a frame; return False if none will come. Raises what ended the source."""
        await self._news.wait()
        if self._newest is None and self._error is not None:
            raise self._error
        return self.is_left

    def take(self) -> Captured:
        """Return the newest frame. Call it after `wait`."""
        assert self._newest is not None  # noqa: S101 - for mypy
        captured, self._newest = self._newest, None
        if not self._has_ended:
            self._news.clear()
        return captured

    def put(self, captured: Captured) -> None:
        """Replace the newest frame."""
        self.seen += 1
        self.replaced += self._newest is not None
        if self._last is not None:
            gap = captured.received - self._last
            self.interval += (gap - self.interval) * max(0.1, 1 / self.seen)
        self._last = captured.received
        self._newest = captured
        self._news.set()

    def end(self, error: ServiceError | None) -> None:
        """Note that no more frames come, and why."""
        self._has_ended, self._error = True, error
        self._news.set()


@asynccontextmanager
async def capturing(
    connection: Connection,
    sampling: Sampling,
    max_pixels: int,
    when_closed: Callable[[], object],
) -> AsyncIterator[Capture]:
    """Open a source, and keep its newest frame until the block ends.

    Args:
        connection: to the source; not open yet.
        sampling: which frames are wanted.
        max_pixels: of a frame.
        when_closed: called when no thread works for it any more.

    Raises:
        InvalidInputError: the source cannot be opened.
        DeadlineExceededError: it sent no frame in time.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    video = await _opened(connection, max_pixels, when_closed)
    with video:
        capture = Capture(video.reader.info)
        decoding = _Decoding(loop, video.reader, sampling, connection, capture, stop)
        video.thread.submit(decoding.run)
        try:
            yield capture
        finally:
            stop.set()
            connection.close()


async def _opened(
    connection: Connection, max_pixels: int, when_closed: Callable[[], object]
) -> Video:
    def closed() -> None:
        connection.release()
        when_closed()

    def open_reader() -> VideoReader:
        source = connection.open()
        try:
            return VideoReader(source, max_pixels, READ_SECONDS)
        except InvalidInputError:
            if connection.problem is not None:
                raise InvalidInputError(connection.problem) from None
            raise

    try:
        async with asyncio.timeout(_OPEN_SECONDS):
            return await Video.open(open_reader, closed)
    except BaseException as error:
        connection.close()  # the thread may still be opening it
        if isinstance(error, TimeoutError):
            refusal = f"the source sent no frame in {_OPEN_SECONDS:g} s"
            raise DeadlineExceededError(refusal) from None
        raise


@dataclass(frozen=True, slots=True, eq=False)
class _Decoding:
    """Decodes on a thread, and gives every wanted frame to the event loop."""

    loop: asyncio.AbstractEventLoop
    reader: VideoReader
    sampling: Sampling
    connection: Connection
    capture: Capture
    stop: threading.Event

    def run(self) -> None:
        error: ServiceError | None = None
        try:
            self._decode()
        except Exception as problem:
            error = kept(as_service_error(problem, ""))
        if self.connection.problem is not None:
            error = InvalidInputError(self.connection.problem)
        self._tell(partial(self.capture.end, error))

    def _decode(self) -> None:
        started = time.monotonic()
        for frame in self.reader.wanted(self.sampling):
            if not self.connection.has_own_pace:
                self.stop.wait(max(0.0, started + frame.seconds - time.monotonic()))
            if self.stop.is_set():
                return
            self._tell(partial(self.capture.put, Captured(frame, time.monotonic())))

    def _tell(self, call: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the event loop has ended
            self.loop.call_soon_threadsafe(call)
