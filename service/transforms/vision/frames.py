"""Frames of a video, decoded one after the other. Needs PyAV (extra `video`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Playlists (HLS, concat, DASH) are left out: they name further files and addresses to read.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,"
    "mjpeg,h264,hevc,ivf,obu,m4v,nut,rtsp,sdp"
)

# Packets in a row that cannot be decoded. A stream that lost a few goes on at the next key frame.
_MOST_DAMAGED = 500

# A file whose header announces this share of frames more than it has was cut short.
_CUT_SHORT = 0.98

_QUARTER = 90


class MissingVideoError(UnsupportedMediaTypeError):
    """PyAV is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "this server cannot decode video: the package `av` is missing (extra `video`)"
        )


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
    """Counts the frames of the video from 0; after a jump to `start`, computed from the rate."""
    seconds: float
    """From the beginning of the video, by the frame's own time stamp."""
    pixels: NDArray[np.uint8]
    """RGB, (height, width, 3)."""


class VideoReader:
    """An open video. Not thread-safe; every method may block."""

    def __init__(
        self,
        source: Path | str,
        max_pixels: int,
        protocols: str = "file",
        timeout: float | None = None,
    ) -> None:
        """Open a video and read its header.

        Args:
            source: a file, or the address of a live stream.
            max_pixels: of one frame.
            protocols: that FFmpeg may use, separated by commas.
            timeout: seconds to wait for the network.

        Raises:
            InvalidInputError: it is damaged, or has no video.
            LimitExceededError: its frames have too many pixels.
            UnsupportedMediaTypeError: it is of an unknown kind, or PyAV is missing.
        """
        self._av = _av()
        self._max_pixels = max_pixels
        self._is_live = protocols != "file"
        self._container = self._opened(str(source), protocols, timeout)
        try:
            self._stream = self._video()
            self._frames = self._decoded()
            self._first = self._beginning()
            self.info = self._described()
        except BaseException:
            self._container.close()
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

    def close(self) -> None:
        """Close the file. No other call may be running."""
        self._container.close()

    def frames(self, sampling: Sampling) -> Iterator[DecodedFrame]:
        """Yield the wanted frames in order.

        Raises:
            InvalidInputError: after the last frame that could be read: the video is damaged or cut
                short.
            LimitExceededError: a frame has more pixels than the limit.
        """
        has_jumped = self._jump(sampling.start)
        step = None if sampling.fps is None else 1 / sampling.fps
        due, index, wanted, seconds = sampling.start, -1, 0, 0.0
        for number, frame in enumerate(self._frames):
            seconds = self._seconds(frame, index + 1)
            index = round(seconds * self._rate) if has_jumped and not number else index + 1
            if sampling.end is not None and seconds >= sampling.end:
                return
            if seconds < sampling.start:
                continue
            wanted += 1
            if sampling.every is not None and (wanted - 1) % sampling.every:
                continue
            if step is not None:
                # Half a frame early is nearer than one frame late; then the grid of `fps` goes on.
                if seconds < due - 0.5 / self._rate:
                    continue
                due = max(due + step, seconds - step / 2)
            yield DecodedFrame(index, seconds, self._pixels(frame))
        if not has_jumped and not self._is_live:
            self._check_whole(index + 1, seconds)

    def _opened(self, source: str, protocols: str, timeout: float | None) -> "InputContainer":
        options = {"protocol_whitelist": protocols, "format_whitelist": _CONTAINERS}
        if source.startswith("rtsp://"):
            options["rtsp_transport"] = "tcp"
        try:
            opened: InputContainer = self._av.open(source, options=options, timeout=timeout)
        except self._av.error.FFmpegError as error:
            raise InvalidInputError(f"the video cannot be read: {_reason(error)}") from None
        except ValueError as error:  # an encoding of the metadata
            raise InvalidInputError(f"the video cannot be read: {error}") from None
        return opened

    def _video(self) -> "VideoStream":
        if not self._container.streams.video:
            raise InvalidInputError("there is no video in the file")
        stream = self._container.streams.video[0]
        context = stream.codec_context
        if context is None:
            raise UnsupportedMediaTypeError("there is no decoder for this video")
        self._check_size(context.width, context.height)
        context.thread_count = 1  # the cores belong to the models
        context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise LimitExceededError(
                f"a frame of {width} x {height} pixels is over the limit of {self._max_pixels}"
            )

    def _described(self) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate
        seconds: float | None = None
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration is not None:
            seconds = container.duration / self._av.time_base
        width, height = self._first.width, self._first.height
        if _turns(self._first) % 2:
            width, height = height, width
        return VideoInfo(
            container.format.name.partition(",")[0],
            stream.codec_context.name,
            width,
            height,
            float(rate) if rate else None,
            stream.frames or None,
            seconds,
        )

    def _beginning(self) -> "VideoFrame":
        """Take the first frame, and put it back: only it says how the video is turned."""
        frame = next(self._frames, None)
        if frame is None:
            raise InvalidInputError("there are no frames in the video")
        self._frames = chain([frame], self._frames)
        return frame

    def _jump(self, start: float) -> bool:
        """Go to the last key frame before `start`; return whether frames were left out."""
        if start <= 0 or self._is_live or self._stream.time_base is None:
            return False
        offset = int(start / self._stream.time_base) + (self._stream.start_time or 0)
        try:
            self._container.seek(offset, stream=self._stream)
        except self._av.error.FFmpegError:
            return False  # not every file can be searched; it is read from the beginning
        self._frames = self._decoded()
        return True

    @property
    def _rate(self) -> float:
        return self.info.rate or 1.0

    def _seconds(self, frame: "VideoFrame", number: int) -> float:
        if frame.pts is None or frame.time_base is None:
            return number / self._rate
        return float((frame.pts - (self._stream.start_time or 0)) * frame.time_base)

    def _decoded(self) -> Iterator["VideoFrame"]:
        """Yield every frame. Raises InvalidInputError after the last one of a damaged file."""
        damaged = in_a_row = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                raise InvalidInputError(f"the video ends early: {_reason(error)}") from None
            if packet is None:
                break
            try:
                decoded = packet.decode()
            except self._av.error.FFmpegError:
                damaged, in_a_row = damaged + 1, in_a_row + 1
                if in_a_row > _MOST_DAMAGED:
                    break
                continue
            in_a_row = 0
            for frame in decoded:
                damaged += frame.is_corrupt
                yield frame
        if damaged:
            raise InvalidInputError(f"the video is damaged: {damaged} of its frames")

    def _pixels(self, frame: "VideoFrame") -> NDArray[np.uint8]:
        self._check_size(frame.width, frame.height)
        pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        turns = _turns(frame)
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels

    def _check_whole(self, count: int, seconds: float) -> None:
        frames, duration = self.info.frames, self.info.seconds
        if frames is not None and count < _CUT_SHORT * frames - 1:
            raise InvalidInputError(
                f"the video is cut short: {count} of the {frames} frames that it announces"
            )
        if (
            frames is None
            and duration is not None
            and seconds < _CUT_SHORT * duration - 2 / self._rate
        ):
            raise InvalidInputError(
                f"the video is cut short: {seconds:.1f} of the {duration:.1f} seconds announced"
            )


def _turns(frame: "VideoFrame") -> int:
    """Return how many quarter turns, counterclockwise, make a frame upright."""
    return round(frame.rotation / _QUARTER) % 4


def _av() -> Any:
    try:
        import av  # noqa: PLC0415 - an extra, which takes 60 MB
        import av.logging  # noqa: PLC0415
    except ImportError:
        raise MissingVideoError from None
    av.logging.set_level(None)  # FFmpeg would write to the standard error stream
    return av


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
