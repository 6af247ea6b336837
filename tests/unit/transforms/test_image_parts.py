"""Image files of many small parts, which a decoder in Python would read for seconds or minutes."""

import contextlib
import random
import struct
import zlib
from collections.abc import Mapping

import pytest
from PIL import Image

from service.errors import InvalidInputError, LimitExceededError, ServiceError
from service.transforms.vision import image_parts
from service.transforms.vision.image import decode_image
from service.transforms.vision.image_parts import of_pixels
from tests.sentences import sentence
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


def tiff_of(*tags: tuple[int, int, int, int]) -> bytes:
    """Return a TIFF of tags: name, type, number of values, and value or offset."""
    packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + packed + bytes(4)


def tiff_of_strips(count: int, kind: int) -> bytes:
    size, layout = [(256, 4, 1, 1), (257, 4, 1, 60_000)], [(259, 3, 1, 1), (262, 3, 1, 1)]
    strips = [(273, kind, count, 200), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)]
    return tiff_of(*size, (258, 3, 1, 8), *layout, *strips).ljust(200, b"\0") + bytes(4 * count)


def big_tiff_of_bits(count: int) -> bytes:
    tag = struct.pack("<HHQQ", 258, 3, count, 200)
    return (b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1) + tag).ljust(200 + 2 * count, b"\0")


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


TABLES = segment(0xDB, (b"\0" + b"\1" * 64) * 1_000)
CAMERA = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
"""Camera data that turn an image by a quarter."""


HOSTILE: Mapping[str, bytes] = {
    "PNG of texts": in_png(chunk(b"tEXt", b"a\0") * _MANY),
    "PNG of empty pixels": in_png(chunk(b"IDAT", b"") * _MANY),
    "PNG of frames": in_png(chunk(b"fcTL", bytes(26)) * _MANY),
    "JPEG of comments": in_jpeg(b"\xff\xfe\0\2" * _MANY),
    "JPEG of profiles": in_jpeg(b"\xff\xe2\0\x12ICC_PROFILE\0\1\1xx" * _MANY),
    "JPEG of camera data": in_jpeg(b"\xff\xe1\0\x0aExif\0\0xx" * _MANY),
    "JPEG of padding": in_jpeg(b"\xff" * _MANY),
    "GIF of comments": gif_with(b"!\xfe\1a\0" * _MANY),
    "JPEG of tables": in_jpeg(TABLES * 2),
    "TIFF of tags": tiff_of(*((tag, 1, 1 << 20, 8) for tag in range(65_000))),
    "TIFF of short strips": tiff_of_strips(100_000, kind=3),
    "TIFF of long strips": tiff_of_strips(100_000, kind=4),
    "TIFF of bits": big_tiff_of_bits(100_000),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_an_image_of_too_many_parts_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(data)


def test_a_bmp_of_too_many_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_parts, "_MOST_RUNS", 5_000)
    assert decode_image(bmp_of_runs(100, 100, b"\1\5\0\0" * 100)).size == (100, 100)
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(bmp_of_runs(100, 100, b"\0\2\0\0" * 8_000))


def test_a_large_bmp_of_short_lines_is_refused_before_it_is_decoded() -> None:
    data = bmp_of_runs(7000, 7000, b"\1\5\0\0" * 7000 + b"\0\1")
    with pytest.raises(LimitExceededError, check=sentence):
        decode_image(data)
    assert decode_image(bmp_of_runs(2000, 1000, b"\1\5\0\0" * 1000)).size == (2000, 1000)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(segment(0xE1, CAMERA + bytes(450)), id="camera data"),
        pytest.param(segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + bytes(2_000)), id="Photoshop"),
        pytest.param(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(450)), id="profiles"),
        pytest.param(segment(0xFE, bytes(450)), id="comments"),
    ],
)
def test_what_says_nothing_of_a_jpegs_pixels_is_not_given_to_pillow(part: bytes) -> None:
    data = in_jpeg(part * 5_000)
    assert len(of_pixels(data)) <= len(JPEG) + len(part)
    assert decode_image(data).size in (decode_image(JPEG).size, decode_image(JPEG).size[::-1])


def pixels(data: bytes) -> tuple[tuple[int, int], bytes]:
    image = decode_image(data)
    return image.size, image.tobytes()


def test_the_first_camera_data_of_a_jpeg_turn_it() -> None:
    turned = decode_image(JPEG).transpose(Image.Transpose.ROTATE_270)
    camera = segment(0xE1, CAMERA)
    others = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + segment(0xFE, b"\xff\xda")
    assert pixels(in_jpeg(others + camera)) == (turned.size, turned.tobytes())
    again = segment(0xE1, CAMERA.replace(b"\6", b"\3"))
    assert pixels(in_jpeg(camera + again)) == (turned.size, turned.tobytes())


def test_bytes_between_the_segments_of_a_jpeg_are_overlooked() -> None:
    junk = b"\0\1\2\xff\0ab\xff\xff\xff"
    comment = segment(0xFE, b"c")
    assert pixels(in_jpeg(comment + junk + comment + junk)) == pixels(JPEG)


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(segment(0xC0, b"\x08\0\x30\0\x40\3" + b"\1\x11\0" * 20_000), id="components"),
        pytest.param(segment(0xC0, b"\x08\0\x30\0\x40\3" + b"\1\x11\0" * 3), id="frames"),
    ],
)
def test_a_jpeg_of_more_than_one_frame_is_refused(frames: bytes) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(in_jpeg(frames))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_damage_is_refused_or_overlooked(kind: str) -> None:
    chance = random.Random(7)
    whole = encoded(noise(), kind)
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(min(700, len(whole)))] = chance.choice((0, 0xFF, 0xE1, 1))
        with contextlib.suppress(ServiceError):
            decode_image(bytes(damaged[: chance.randrange(20, 2 * len(whole))]))


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
