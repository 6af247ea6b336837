"""Parts of image files that change no pixel: dropped or bounded before Pillow reads them.

Pillow reads them in Python, and collects some in a time that grows with the square of their size.
A JPEG of 16 MB with 35,000 pieces of camera data kept a thread, and the interpreter's lock, busy
for more than 100 seconds.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Final

from service.errors import InvalidInputError

PNG: Final = b"\x89PNG\r\n\x1a\n"
BMP: Final = b"BM"
JPEG: Final = b"\xff\xd8\xff"
TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")

MAX_SIDE: Final = 65_535
"""Pixels of the longer side, the most that JPEG and GIF can say. A row costs memory by itself."""

_LEAST_STEPS: Final = 10_000
_BYTES_A_STEP: Final = 128
"""The bound on the reads of a file: 10,000, and one for each 128 of its bytes. Ordinary files need
far fewer. Pillow takes microseconds for each, in Python: 4 million empty comments in a JPEG kept a
thread busy for 10 seconds."""
_MOST_RUNS: Final = 500_000
"""Steps for a BMP. Pillow reads each run of a compressed one in two, of half a microsecond each."""

_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_TELLING: Final = frozenset({b"tRNS", b"eXIf"})
"""Chunks of a PNG that are not critical, but change what is seen: transparency, orientation."""
_CHUNK_HEAD, _CHUNK_ENDS = 8, 12

_PADDING, _STUFFED, _SCAN, _TABLES, _EXIF, _COMMENT = 0xFF, 0x00, 0xDA, 0xDB, 0xE1, 0xFE
_COLOURS: Final = frozenset({0xE0, 0xEE})
"""Application segments that say in which colours a JPEG is coded: JFIF and Adobe."""
_APPLICATION: Final = frozenset(range(0xE0, 0xF0))
_FRAMES: Final = frozenset({*range(0xC0, 0xD0), 0xDE}) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_FIRST_MARKER: Final = 0xC0
_LONGEST_FRAME: Final = 8 + 3 * 4
"""Bytes of a frame's header with four components."""
_MOST_TABLES: Final = 1 << 16
"""Bytes of quantisation tables; four of them take 520."""

_FIRST_PRIVATE: Final = 700
"""Pillow reads the numbers of some tags of a TIFF below this one."""
_OF_BYTES: Final = frozenset({1, 2, 7})
"""Types of tags that stay bytes."""


class Stepwise(BytesIO):
    """A file that refuses to be read in too many steps: it was made to keep a decoder busy."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _most_steps(data)

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _too_many_parts()
        return super().read(size)


def of_pixels(data: bytes) -> bytes:
    """Return an image file without what changes no pixel; its orientation stays.

    What is critical is not judged here.

    Raises:
        InvalidInputError: the file was made to keep a decoder busy.
    """
    if data.startswith(PNG):
        return _png(data)
    if data.startswith(JPEG):
        return _jpeg(data)
    if data.startswith(TIFF):
        _check_tiff(data)
    return data


def _most_steps(data: bytes) -> int:
    if data.startswith(BMP):
        return _MOST_RUNS
    return _LEAST_STEPS + len(data) // _BYTES_A_STEP


def _too_many_parts() -> InvalidInputError:
    return InvalidInputError("the image consists of too many small parts")


def _png(data: bytes) -> bytes:
    kept, begin, at = [data[: len(PNG)]], len(PNG), len(PNG)
    left = _most_steps(data)
    while at + _CHUNK_HEAD <= len(data):
        left -= 1
        if left < 0:
            raise _too_many_parts()
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + _CHUNK_ENDS + length
        if kind not in _CRITICAL and not (kind in _TELLING and _is_sound(data, at, end)):
            kept.append(data[begin:at])
            begin = end
        at = end
    if len(kept) == 1:
        return data
    return b"".join([*kept, data[begin:]])


def _is_sound(data: bytes, at: int, end: int) -> bool:
    checked = memoryview(data)[at + 4 : end - 4]
    return end <= len(data) and zlib.crc32(checked) == int.from_bytes(data[end - 4 : end])


def _jpeg(data: bytes) -> bytes:
    """Return a JPEG with one record of camera data, one frame, and few tables."""
    kept, begin = [], 0
    has_camera, frames, tables = False, 0, 0
    for kind, at, end in _segments(data):
        if kind in _FRAMES:
            frames += 1
            if frames > 1 or end - at - 2 > _LONGEST_FRAME:
                raise InvalidInputError("the image is damaged: it is no single JPEG frame")
        elif kind == _TABLES:
            tables += end - at
            if tables > _MOST_TABLES:
                raise _too_many_parts()
        elif kind == _COMMENT or (kind in _APPLICATION and kind not in _COLOURS):
            is_camera = kind == _EXIF and data.startswith(b"Exif\0\0", at + 4)
            if is_camera and not has_camera:
                has_camera = True
                continue
            kept.append(data[begin:at])
            begin = max(end, data.find(b"\xff", end))  # a JPEG begins with two markers
    return b"".join([*kept, data[begin:]]) if kept else data


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, begin and end of each segment before the first scan, as Pillow finds them."""
    at, left = 2, _most_steps(data)
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        left -= 1
        if left < 0:
            raise _too_many_parts()
        kind = data[at + 1]
        if kind == _PADDING:
            at += 1
        elif kind == _STUFFED or kind in _WITHOUT_LENGTH:
            at += 2
        elif kind == _SCAN or kind < _FIRST_MARKER:
            return
        else:
            end = at + 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
            yield kind, at, end
            at = end


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose tags hold more numbers than an image has lines.

    Pillow makes objects of them all, such as five of each strip's offset, before it looks at the
    size of the image.
    """
    order = "<" if data.startswith(b"II") else ">"
    first, number, tag = ("Q", "Q", "HHQ8x") if data[2] == ord("+") else ("I", "H", "HHI4x")
    entry = struct.Struct(order + tag)
    with suppress(struct.error):  # Pillow will find that, too
        (at,) = struct.unpack_from(order + first, data, 8 if first == "Q" else 4)
        (count,) = struct.unpack_from(order + number, data, at)
        at += struct.calcsize(number)
        held = data[at : at + min(count, _most_steps(data)) * entry.size]
        for name, kind, values in entry.iter_unpack(held[: len(held) // entry.size * entry.size]):
            if name < _FIRST_PRIVATE and kind not in _OF_BYTES and values > MAX_SIDE:
                raise _too_many_parts()
