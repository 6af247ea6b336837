"""Small videos whose frames tell their own number: frame n is 8 n grey (modulo 256)."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

STEP = 8
"""Of grey from frame to frame, more than a lossy codec changes."""
TICKS = 1000
"""Of a time stamp in a second."""


def write_clip(  # noqa: PLR0913
    path: Path,
    frames: int = 20,
    rate: int | Fraction = 10,
    *,
    size: tuple[int, int] = (64, 48),
    seconds: Sequence[float] | None = None,
    codec: str = "mpeg4",
    key_frames: int = 5,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video.

    Args:
        path: its ending says the format.
        frames: how many.
        rate: frames per second.
        size: width and height.
        seconds: time of each frame; without it, by the rate.
        codec: FFmpeg's name of the encoder.
        key_frames: at least one of this many frames is a key frame.
        options: of the format.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = key_frames
        stream.codec_context.time_base = 1 / Fraction(rate if seconds is None else TICKS)
        stream.codec_context.bit_rate = 4_000_000
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), STEP * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            at = number / rate if seconds is None else seconds[number]
            frame.pts, frame.time_base = round(TICKS * at), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def number_of(pixels: NDArray[np.uint8]) -> int:
    """Return which frame these pixels are of."""
    return round(float(pixels.mean()) / STEP)


# The matrix in the header of a track: 16.16 numbers, the last of each row 2.30 (ISO 14496-12).
_UPRIGHT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_TURNED = {
    90: (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000),
    180: (-0x10000, 0, 0, 0, -0x10000, 0, 0, 0, 0x40000000),
    270: (0, -0x10000, 0, 0x10000, 0, 0, 0, 0, 0x40000000),
}


def turn(path: Path, degrees: int) -> Path:
    """Turn an MP4 file clockwise, as a phone does: by its header."""
    data = path.read_bytes()
    at = data.index(_matrix(_UPRIGHT), data.index(b"tkhd"))
    turned = _matrix(_TURNED[degrees])
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    return path


def _matrix(numbers: Sequence[int]) -> bytes:
    return b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
