"""Frames of a video, decoded one after the other. Needs PyAV (extra `video`)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.transforms.vision.video_file import Source, VideoFile

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# A file whose header announces this share of time more than it has was cut short.
_CUT_SHORT = 0.98

_QUARTER = 90

_STEPS_BACK = (0.0, 1.0, 4.0, 16.0)
"""Seconds before `start` to search for a key frame, if nearer ones come too late."""

_BACK = 1.0
"""Seconds. Time stamps that jump back further begin again, as where two recordings were joined."""

_MOST_RATE = 1000.0
"""Frames per second. More than this is a clock, not a rate."""


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video's header says. A damaged or live one may not say everything."""

    container: str
    codec: str
    width: int
    """Pixels, after rotation."""
    height: int
    rate: float | None
    """Frames per second, on average."""
    frames: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames to analyse. `fps` and `every` exclude each other; with neither, every frame."""

    fps: float | None = None
    """At most this many per second of the video."""
    every: int | None = None
    """Each n-th."""
    start: float = 0.0
    """Seconds from the beginning of the video."""
    end: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """One frame, upright."""

    index: int
    """Counts the frames of the video from 0."""
    seconds: float
    """From the beginning of the video, by the frame's own time stamp."""
    pixels: NDArray[np.uint8]
    """RGB, (height, width, 3)."""


@dataclass(frozen=True, slots=True, eq=False)
class WantedFrame:
    """A frame whose pixels may not be needed after all."""

    index: int
    seconds: float
    pixels: Callable[[], NDArray[np.uint8]]
    """Converts it to what `DecodedFrame` holds. Not for two threads at a time.

    Raises LimitExceededError."""


class VideoReader:
    """An open video. Not thread-safe except `stop`; every method may block."""

    def __init__(
        self,
        source: Source,
        max_pixels: int,
        timeout: float | None = None,
    ) -> None:
        """Open a video and read its header.

        Args:
            source: a file or a live source.
            max_pixels: of one frame.
            timeout: seconds to wait for an RTSP server.

        Raises:
            InvalidInputError: it is damaged, or has no video.
            LimitExceededError: its frames have too many pixels.
            UnsupportedMediaTypeError: it is of an unknown kind, or PyAV is missing.
        """
        self._is_live = not isinstance(source, Path)
        self._file = VideoFile(source, max_pixels, timeout)
        self._has_arrivals = self._is_live and not self._file.has_times
        self._began = time.monotonic()
        try:
            self._frames = self._file.frames()
            self._first = self._beginning()
            self._origin = self._file.stamp(self._first)
            self.info = self._described()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def stop(self) -> None:
        """Make a running `frames` end soon. May be called from another thread."""
        self._file.is_stopped = True

    def close(self) -> None:
        """Close the file. No other call may be running."""
        self._file.close()

    def frames(self, sampling: Sampling) -> Iterator[DecodedFrame]:
        """Yield the wanted frames in order. Raises what `wanted` raises."""
        for frame in self.wanted(sampling):
            yield DecodedFrame(frame.index, frame.seconds, frame.pixels())

    def wanted(self, sampling: Sampling) -> Iterator["WantedFrame"]:
        """Yield the wanted frames in order; their pixels are not converted yet.

        Raises:
            InvalidInputError: after the last frame that could be read: the video is damaged or cut
                short. Or it cannot be searched for `start`.
            LimitExceededError: a frame has more pixels than the limit.
        """
        first = self._jump(sampling.start)
        clock = _Clock(self._rate)
        step = None if sampling.fps is None else 1 / sampling.fps
        due, wanted = sampling.start, 0
        for index, frame in enumerate(self._frames, first):
            seconds = clock.seconds(self._seconds(frame), index)
            if sampling.end is not None and seconds >= sampling.end:
                return
            if seconds < sampling.start:
                continue
            wanted += 1
            if sampling.every is not None and (wanted - 1) % sampling.every:
                continue
            if step is not None:
                # Half a frame early is nearer than one frame late; then the grid of `fps` goes on.
                if seconds < due - min(0.5 / self._rate, step / 2):
                    continue
                due = max(due + step, seconds - step / 2)
            yield WantedFrame(index, seconds, partial(self._pixels, frame))
        if not first and not self._is_live and not self._file.is_stopped:
            self._check_whole()

    def _described(self) -> VideoInfo:
        file, first = self._file, self._first
        width, height = first.width, first.height
        if _turns(first) % 2:
            width, height = height, width
        return VideoInfo(
            file.container, file.codec, width, height, self._average(), file.count, file.seconds
        )

    def _average(self) -> float | None:
        """Return the frames per second; None if only the clock of the time stamps is known."""
        first = self._first
        if self._has_arrivals:
            return None
        rates = [self._file.rate]
        if first.duration and first.time_base:
            rates.append(float(1 / (first.duration * first.time_base)))
        return next((rate for rate in rates if rate and rate <= _MOST_RATE), None)

    def _beginning(self) -> "VideoFrame":
        """Take the first frame, and put it back: only it says how the video is turned."""
        frame = next(self._frames, None)
        if frame is None:
            raise InvalidInputError("there are no frames in the video")
        self._frames = chain([frame], self._frames)
        return frame

    def _jump(self, start: float) -> int:
        """Go to a key frame before `start`; return how many frames were left out."""
        if start <= 0 or self._is_live or not self._file.is_searchable:
            return 0
        for back in _STEPS_BACK:
            if start <= back or not self._file.seek(start - back):
                break
            self._frames = self._file.frames()
            first = next(self._frames, None)
            if first is None:  # no key frame comes after this place
                continue
            at = self._seconds(first)
            self._frames = chain([first], self._frames)
            if at is not None and at <= start:
                return self._left_out(first, start - back)
        if not self._file.rewind():
            raise InvalidInputError("the video cannot be searched; leave out start")
        self._frames = self._file.frames()
        return 0

    def _left_out(self, first: "VideoFrame", place: float) -> int:
        """Count the frames before `first`, which is found again at `place`."""
        origin = self._origin or 0
        count = self._file.count_before(first, origin) if self._file.rewind() else None
        self._file.seek(place)
        self._frames = self._file.frames()
        return round((self._seconds(first) or 0.0) * self._rate) if count is None else count

    @property
    def _rate(self) -> float:
        return self.info.rate or 1.0

    def _seconds(self, frame: "VideoFrame") -> float | None:
        """Return the time of a frame by its own stamp; in a live source without, of its arrival."""
        if self._has_arrivals:
            return time.monotonic() - self._began
        stamp, unit = self._file.stamp(frame), frame.time_base
        if stamp is None or unit is None:
            return None
        return float((stamp - (self._origin or 0)) * unit)

    def _pixels(self, frame: "VideoFrame") -> NDArray[np.uint8]:
        pixels = self._file.pixels(frame)
        turns = _turns(frame)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def _check_whole(self) -> None:
        """Compare what was read of all streams with what the header announces."""
        announced, reached = self._file.whole_seconds, self._file.reached
        if (
            announced is not None
            and reached is not None
            and reached < _CUT_SHORT * announced - 2 / self._rate
        ):
            raise InvalidInputError(
                f"the video is cut short: {reached:.1f} of the {announced:.1f} seconds announced"
            )


@dataclass(slots=True)
class _Clock:
    """Gives each frame a time that is never before that of an earlier one."""

    rate: float
    _last: float | None = None
    _shift: float = 0.0

    def seconds(self, stamp: float | None, number: int) -> float:
        """Return the time of the next frame.

        Args:
            stamp: its own time; None if it has none.
            number: its place in the video.
        """
        now = number / self.rate if stamp is None else stamp + self._shift
        if self._last is not None and now < self._last:
            if stamp is not None and now < self._last - _BACK:
                self._shift += self._last + 1 / self.rate - now
                now = stamp + self._shift
            else:
                now = self._last
        self._last = now
        return now


def _turns(frame: "VideoFrame") -> int:
    """Return how many quarter turns, counterclockwise, make a frame upright."""
    return round(frame.rotation / _QUARTER) % 4
