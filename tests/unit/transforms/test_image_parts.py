"""Image files of many small parts, which a decoder in Python would read for seconds or minutes."""

import struct
import zlib
from collections.abc import Mapping

import pytest
from PIL import Image

from service.errors import InvalidInputError
from service.transforms.vision.image import decode_image
from tests.unit.transforms.images import JPEG, PNG, encoded, noise

_MANY = 60_000
_PNG_HEAD = 33
"""Bytes of a PNG's signature and its first chunk."""


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def in_png(chunks: bytes) -> bytes:
    return PNG[:_PNG_HEAD] + chunks + PNG[_PNG_HEAD:]


def in_jpeg(segments: bytes) -> bytes:
    return JPEG[:2] + segments + JPEG[2:]


def gif_with(extensions: bytes) -> bytes:
    gif = encoded(noise().convert("P"), "GIF")
    first = gif.index(b",", 13 + 768)
    return gif[:first] + extensions + gif[first:]


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    sizes = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    palette = b"".join(bytes([grey, grey, grey, 0]) for grey in range(256))
    offset = 14 + len(sizes) + len(palette)
    head = b"BM" + struct.pack("<IHHI", offset + len(runs), 0, 0, offset)
    return head + sizes + palette + runs


def tiff_of_tags(count: int) -> bytes:
    tags = b"".join(struct.pack("<HHII", tag, 1, 1 << 20, 8) for tag in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + tags + bytes(4)


HOSTILE: Mapping[str, bytes] = {
    "PNG of texts": in_png(chunk(b"tEXt", b"a\0") * _MANY),
    "PNG of empty pixels": in_png(chunk(b"IDAT", b"") * _MANY),
    "PNG of frames": in_png(chunk(b"fcTL", bytes(26)) * _MANY),
    "JPEG of comments": in_jpeg(b"\xff\xfe\0\2" * _MANY),
    "JPEG of profiles": in_jpeg(b"\xff\xe2\0\x12ICC_PROFILE\0\1\1xx" * _MANY),
    "JPEG of camera data": in_jpeg(b"\xff\xe1\0\x0aExif\0\0xx" * _MANY),
    "JPEG of padding": in_jpeg(b"\xff" * _MANY),
    "GIF of comments": gif_with(b"!\xfe\1a\0" * _MANY),
    "BMP of runs": bmp_of_runs(7000, 7000, b"\0\2\0\0" * 800_000),
    "TIFF of tags": tiff_of_tags(65_000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_an_image_of_too_many_parts_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="too many small parts"):
        decode_image(data)


def test_an_image_of_many_parts_as_programs_write_them_is_read() -> None:
    compressed = zlib.compress((b"\0" + bytes(3 * 2000)) * 2000, 0)
    pieces = [compressed[at : at + 1024] for at in range(0, len(compressed), 1024)]
    header = struct.pack(">IIBBBBB", 2000, 2000, 8, 2, 0, 0, 0)
    chunks = b"".join(chunk(b"IDAT", piece) for piece in pieces)
    png = PNG[:8] + chunk(b"IHDR", header) + chunks + chunk(b"IEND", b"")
    assert len(pieces) > 10_000
    assert decode_image(png).size == (2000, 2000)
    profile = encoded(noise(), "JPEG", icc_profile=bytes(255 * 65_000), progressive=True)
    assert decode_image(profile).size == (64, 48)
    line = b"\2\7" * 320 + b"\0\0"
    assert decode_image(bmp_of_runs(640, 480, line * 480 + b"\0\1")).size == (640, 480)
    tiff = encoded(Image.new("L", (64, 20_000)), "TIFF", compression="tiff_deflate", strip_size=1)
    assert decode_image(tiff).size == (64, 20_000)
