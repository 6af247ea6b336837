"""A video file or stream, as FFmpeg opens it. Needs PyAV (extra `video`)."""

from collections.abc import Iterator
from ctypes import CDLL, c_size_t
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Playlists (HLS, concat, DASH) are left out: they name further files and addresses to read.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,"
    "mjpeg,h264,hevc,ivf,obu,m4v,nut,mxf,dv,yuv4mpegpipe"
)
_LIVE = _CONTAINERS + ",mpjpeg"

_PROBE = {"analyzeduration": "1000000"}
"""Of a live source: how many microseconds of it to read before the first frame."""

# Packets in a row that cannot be decoded. A stream that lost a few goes on at the next key frame.
_MOST_DAMAGED = 500

_MOST_PARTIAL = 300
"""Frames of a live source to wait for a whole one: earlier ones show parts of frames before."""

_MOST_SILENT = 5000
"""Packets of the video before its first frame."""

# Bytes that FFmpeg may allocate at once, at least: an index of eleven million frames.
_LEAST_BLOCK = 256 * 1024 * 1024
_PIXEL_BYTES = 8  # of the widest pixel format


class ByteSource(Protocol):
    """Bytes that arrive one after the other."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as there are some; none at the end."""
        ...


Source: TypeAlias = Path | str | ByteSource
"""A file, the `rtsp://` address of a live source, or the bytes that a live source sends."""


class MissingVideoError(UnsupportedMediaTypeError):
    """PyAV is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "this server cannot decode video: the package `av` is missing (extra `video`)"
        )


class VideoFile:
    """The video stream of an open file, or of a live source."""

    def __init__(self, source: Source, max_pixels: int, timeout: float | None) -> None:
        """Open it, and find its video.

        Args:
            source: a file or a live source.
            max_pixels: of one frame.
            timeout: seconds to wait for an RTSP server.

        Raises:
            InvalidInputError: it is damaged, or has no video.
            LimitExceededError: its frames have too many pixels.
            UnsupportedMediaTypeError: it is of an unknown kind, or PyAV is missing.
        """
        self._av = require_decoder()
        self._max_pixels = max_pixels
        self._is_live = not isinstance(source, Path)
        # A file of 2 kB can announce an index of gigabytes.
        _limit_blocks(self._av._core.__file__, max(_LEAST_BLOCK, _PIXEL_BYTES * max_pixels))
        self.is_stopped = False
        """Set from any thread, to make `frames` end."""
        self.reached: float | None = None
        """Seconds from 0, or an earlier beginning, to the end of the last packet of any stream."""
        self._input = self._opened(source, timeout)
        self._begins = min(0, self._input.start_time or 0)
        # One of our own: that of a frame starts a thread for each core, which lasts as the frame.
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        try:
            self._stream = self._video()
        except BaseException:
            self._input.close()
            raise

    def close(self) -> None:
        """Close the file. No other call may be running."""
        self._input.close()

    @property
    def container(self) -> str:
        """Return the format, by FFmpeg's first name."""
        return self._input.format.name.partition(",")[0]

    @property
    def codec(self) -> str:
        """Return the name of the decoder."""
        return self._stream.codec_context.name

    @property
    def rate(self) -> float | None:
        """Return the average frames per second that the header says or FFmpeg guessed."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else None

    @property
    def count(self) -> int | None:
        """Return the number of frames, if the header says it."""
        return self._stream.frames or None

    @property
    def seconds(self) -> float | None:
        """Return the duration of the video, if the header says it."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return self.whole_seconds

    @property
    def whole_seconds(self) -> float | None:
        """Return the duration of all streams, if the header says it."""
        rate = self._stream.average_rate
        if self.container == "avi" and rate:  # FFmpeg's is of the bytes that are there
            return float(self._stream.frames / rate)
        duration = self._input.duration
        return None if duration is None else duration / self._av.time_base

    @property
    def is_searchable(self) -> bool:
        """Return whether `seek` can do better than reading from the beginning."""
        no_index = self._av.format.Flags.generic_index | self._av.format.Flags.no_timestamps
        return self._stream.time_base is not None and not self._input.format.flags & no_index.value

    @property
    def has_times(self) -> bool:
        """Return whether frames have time stamps, and not only an order."""
        return not self._input.format.flags & self._av.format.Flags.no_timestamps.value

    def seek(self, seconds: float) -> bool:
        """Go to the last key frame before; return False where the file cannot be searched.

        `frames` has to be called again.
        """
        if self._stream.time_base is None:
            return False
        offset = int(seconds / self._stream.time_base) + (self._stream.start_time or 0)
        return self._went(offset, self._stream)

    def rewind(self) -> bool:
        """Go to the beginning; return False if that fails. `frames` has to be called again."""
        return self._went(2 * self._begins, None)

    def _went(self, offset: int, stream: "VideoStream | None") -> bool:
        try:
            self._input.seek(offset, stream=stream)
        except (self._av.error.FFmpegError, OverflowError):
            return False
        return True

    def check_size(self, width: int, height: int) -> None:
        """Raise LimitExceededError if a frame of this size has too many pixels."""
        if width * height > self._max_pixels:
            raise LimitExceededError(
                f"a frame of {width} x {height} pixels is over the limit of {self._max_pixels}"
            )

    def pixels(self, frame: "VideoFrame") -> NDArray[np.uint8]:
        """Return a frame as RGB, [height, width, 3]. Raises LimitExceededError."""
        self.check_size(frame.width, frame.height)
        rgb = self._reformatter.reformat(frame, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), np.uint8)

    def stamp(self, frame: "VideoFrame | Packet[VideoStream]") -> int | None:
        """Return the time of a frame, in its own time base; None if it has none."""
        # AVI has no presentation times; FFmpeg invents ones that are in the order of the packets.
        return frame.dts if self.container == "avi" else frame.pts

    def count_before(self, frame: "VideoFrame", origin: int) -> int | None:
        """Count the earlier frames without decoding them; None if they have no times.

        `rewind` before, and to another place afterwards. `origin` is the stamp of the first frame.
        """
        count, limit = 0, self.stamp(frame)
        if limit is None:
            return None
        for packet in self._packets():
            if packet.dts is not None and packet.dts >= limit:  # no later one is shown earlier
                break
            stamp = self.stamp(packet)
            count += stamp is not None and origin <= stamp < limit and not packet.is_discard
        return count

    def frames(self) -> Iterator["VideoFrame"]:
        """Yield every frame. Raises InvalidInputError after the last one of a damaged file."""
        return _whole(self._decoded()) if self._is_live else self._decoded()

    def _decoded(self) -> Iterator["VideoFrame"]:
        damaged = in_a_row = silent = 0
        has_frames = False
        for packet in self._packets():
            try:
                decoded = packet.decode()
            except self._av.error.FFmpegError:
                damaged, in_a_row = damaged + 1, in_a_row + 1
                if in_a_row > _MOST_DAMAGED:
                    break
                continue
            in_a_row, silent = 0, silent + 1
            for frame in decoded:
                has_frames = True
                damaged += frame.is_corrupt
                yield frame
            if self.is_stopped or (silent > _MOST_SILENT and not has_frames):
                return
        if damaged:
            raise InvalidInputError(f"the video is damaged: {damaged} of its frames")

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the video, and note how far those of all streams reach."""
        packets = self._input.demux()
        begins = self._begins / self._av.time_base
        while not self.is_stopped:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                raise InvalidInputError(f"the video ends early: {_reason(error)}") from None
            except IndexError:  # PyAV's, at the end: a stream that began later cannot be flushed
                return
            if packet is None:
                return
            if packet.pts is not None and packet.time_base is not None:
                ends = float((packet.pts + (packet.duration or 0)) * packet.time_base) - begins
                self.reached = ends if self.reached is None else max(self.reached, ends)
            if packet.stream is self._stream:  # the last one, which is empty, has no index
                yield packet

    def _opened(self, source: Source, timeout: float | None) -> "InputContainer":
        match source:
            case Path():
                options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
            case str():
                options = {"protocol_whitelist": "rtsp,rtp,tcp", "format_whitelist": "rtsp"}
                options |= _PROBE | {"rtsp_transport": "tcp"}
            case _:  # FFmpeg itself opens nothing
                options = {"protocol_whitelist": "none", "format_whitelist": _LIVE} | _PROBE
        given: Any = str(source) if isinstance(source, Path) else source
        try:
            opened: InputContainer = self._av.open(given, options=options, timeout=timeout)
        except self._av.error.ArgumentError:  # the format is not in the list
            raise InvalidInputError("the file is of none of the formats that are read") from None
        except (self._av.error.FFmpegError, MemoryError) as error:
            raise InvalidInputError(f"the video cannot be read: {_reason(error)}") from None
        except ValueError as error:  # an encoding of the metadata
            raise InvalidInputError(f"the video cannot be read: {error}") from None
        return opened

    def _video(self) -> "VideoStream":
        """Return the first video that is no cover picture."""
        cover = self._av.stream.Disposition.attached_pic
        videos = [s for s in self._input.streams.video if not s.disposition & cover]
        if not videos:
            raise InvalidInputError("there is no video in the file")
        stream = videos[0]
        context = stream.codec_context
        if context is None:
            raise UnsupportedMediaTypeError(
                "there is no decoder for this video, or its header is damaged"
            )
        self.check_size(context.width, context.height)
        context.thread_count = 1  # the cores belong to the models
        context.options = {"max_pixels": str(self._max_pixels)}
        return stream


def _whole(frames: Iterator["VideoFrame"]) -> Iterator["VideoFrame"]:
    """Leave out the frames that come before the first whole one."""
    partial = 0
    for frame in frames:
        if frame.key_frame or partial >= _MOST_PARTIAL:
            partial = _MOST_PARTIAL
            yield frame
        partial += 1


@cache
def _limit_blocks(library: str, most: int) -> None:
    """Limit the bytes that FFmpeg allocates at once, for the whole process."""
    CDLL(library).av_max_alloc(c_size_t(most))


def require_decoder() -> Any:
    """Return PyAV. The first call takes a while. Raises MissingVideoError if it is missing."""
    try:
        import av  # noqa: PLC0415 - an extra, which takes 60 MB
        import av.logging  # noqa: PLC0415
    except ImportError:
        raise MissingVideoError from None
    av.logging.set_level(None)  # FFmpeg would write to the standard error stream
    return av


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
