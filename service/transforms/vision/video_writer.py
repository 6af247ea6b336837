"""Encodes pictures as an MP4 video that can be sent while it is made. Needs PyAV."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import UnsupportedMediaTypeError
from service.transforms.vision.video_file import require_decoder

_TICKS = 10_000
"""Of a time stamp in a second."""
_LONGEST_SIDE = 1920
"""Pixels; larger pictures are made smaller."""
_KEY_SECONDS = 2

# The wheels of PyAV have both. Ready at once: no picture waits for later ones.
_ENCODERS = (
    ("libx264", {"preset": "veryfast", "tune": "zerolatency", "crf": "23"}),
    ("mpeg4", {"qmin": "3", "qmax": "12"}),
)
_FRAGMENTS = {
    "movflags": "empty_moov+default_base_moof+frag_keyframe",
    "frag_duration": "1000000",
}


class VideoWriter:
    """A fragmented MP4: what `add` and `end` return, joined, is the file. Not thread-safe."""

    def __init__(self, width: int, height: int, rate: float) -> None:
        """Prepare the encoder.

        Args:
            width: of the first picture, in pixels; later ones are stretched to it.
            height: of the first picture.
            rate: pictures per second, about.

        Raises:
            UnsupportedMediaTypeError: PyAV is missing, or has no encoder.
        """
        require_decoder()
        import av  # noqa: PLC0415 - an extra, which takes 60 MB

        self._av, self._sink = av, _Sink()
        scale = min(1.0, _LONGEST_SIDE / max(width, height))
        self._size = _even(width * scale), _even(height * scale)
        self._output = av.open(self._sink, "w", format="mp4", options=_FRAGMENTS)
        self._stream = self._encoder(rate)
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], seconds: float) -> bytes:
        """Encode a picture, RGB [height, width, 3]; return what is ready of the file.

        Args:
            pixels: the picture.
            seconds: its time, after that of the last one.
        """
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        width, height = self._size
        frame = self._reformatter.reformat(
            picture, width=width, height=height, format="yuv420p", threads=1
        )
        self._last = max(self._last + 1, round(seconds * _TICKS))
        frame.pts, frame.time_base = self._last, Fraction(1, _TICKS)
        self._output.mux(self._stream.encode(frame))
        return self._sink.taken()

    def end(self) -> bytes:
        """Return the rest of the file."""
        self._output.mux(self._stream.encode(None))
        self.close()
        return self._sink.taken()

    def close(self) -> None:
        """Free the encoder."""
        self._output.close()

    def _encoder(self, rate: float) -> Any:
        for name, options in _ENCODERS:
            if name not in self._av.codec.codecs_available:
                continue
            about = max(1, round(rate))
            stream: Any = self._output.add_stream(name, rate=about, options=options)
            stream.width, stream.height = self._size
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context
            context.time_base, context.gop_size = Fraction(1, _TICKS), _KEY_SECONDS * about
            context.thread_count = 1  # the cores belong to the models
            return stream
        raise UnsupportedMediaTypeError("this server has no encoder for MP4 videos")


class _Sink:
    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def taken(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


def _even(side: float) -> int:
    """Return the nearest size that the colours of H.264 allow."""
    return max(2, round(side / 2) * 2)
