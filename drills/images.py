"""Hostile images: headers that lie, bombs, files cut short or damaged, formats not meant."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000")


def good(draw: random.Random, kind: str = "PNG") -> bytes:
    """Return a small image with noise in it."""
    size = draw.randint(8, 64), draw.randint(8, 64)
    image = Image.frombytes("RGB", size, draw.randbytes(size[0] * size[1] * 3))
    output = io.BytesIO()
    image.save(output, kind)
    return output.getvalue()


def png(width: int, height: int, *, depth: int = 1, colour: int = 0, data: bytes = b"") -> bytes:
    """Return a PNG whose header says these sizes, whatever its data holds."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(count >> 20))
    return packed + packer.compress(bytes(count & ((1 << 20) - 1))) + packer.flush()


def _thin(draw: random.Random) -> bytes:
    length = draw.choice([50_000_000, 49_999_999, 10_000_000, 70_000])
    sizes = (1, length) if draw.random() < 0.5 else (length, 1)
    return png(*sizes, depth=draw.choice([1, 8]), data=zlib.compress(b""))


def _thin_in_full(draw: random.Random) -> bytes:
    rows = draw.choice([50_000_000, 2_000_000])
    return png(1, rows, data=_zeros(2 * rows))


def _bomb(draw: random.Random) -> bytes:
    width, height = draw.choice([(10_000, 8_000), (7_000, 7_000), (60_000, 60_000), (7_071, 7_071)])
    if width * height > 100_000_000:
        return png(width, height, data=zlib.compress(bytes(1000)))
    return png(width, height, data=_zeros(height * (1 + (width + 7) // 8)))


def _huge_header(draw: random.Random) -> bytes:
    width = draw.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])
    return png(width, draw.choice([0, 2**31 - 1, 2**32 - 1]), depth=draw.choice([1, 8, 16, 3]))


def _text_bomb(draw: random.Random) -> bytes:
    name = draw.choice([b"zTXt", b"iCCP", b"iTXt"])
    middle = b"\0\0\0\0\0" if name == b"iTXt" else b"\0\0"
    text = _chunk(name, b"a" + middle + _zeros(draw.choice([1 << 20, 100 << 20])))
    whole = good(draw)
    return whole[:33] + text + whole[33:]


def _many_chunks(draw: random.Random) -> bytes:
    whole = good(draw)
    return whole[:33] + _chunk(b"tEXt", b"a\0b") * draw.choice([100, 20_000]) + whole[33:]


def _cut(draw: random.Random) -> bytes:
    whole = good(draw, draw.choice(_FORMATS))
    return whole[: draw.randrange(len(whole))]


def _damaged(draw: random.Random) -> bytes:
    data = bytearray(good(draw, draw.choice(_FORMATS)))
    for _ in range(draw.randint(1, 20)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def _other_kind(draw: random.Random) -> bytes:
    return draw.choice(
        [b'<svg xmlns="http://www.w3.org/2000/svg"/>', b"%PDF-1.7\n", b"%!PS-Adobe-3.0 EPSF-3.0\n",
         b"PK\x03\x04" + bytes(30), b"\x1f\x8b\x08" + bytes(30), b"GIF89a", b"BM", b"II*\0", b"",
         b"RIFF\xff\xff\xff\xffWEBPVP8 ", b"\xff\xd8\xff", b"\x00\x00\x00\x1cftypavif", b"\0" * 99,
         b"\x00\x00\x01\x00" + b"\xff" * 40, b"P6 99999999 99999999 255\n", b"qoif" + b"\xff" * 20]
    )  # fmt: skip


def _frames(draw: random.Random) -> bytes:
    frames = [Image.new("P", (4, 4), n % 250) for n in range(draw.choice([2, 500]))]
    output = io.BytesIO()
    frames[0].save(output, "GIF", save_all=True, append_images=frames[1:])
    return output.getvalue()


def _tiff_loop(_draw: random.Random) -> bytes:
    entries = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 8)


def _many_segments(draw: random.Random) -> bytes:
    whole = good(draw, "JPEG")
    marker, held = draw.choice(
        [
            (0xE1, b"Exif\0\0II*\0" + bytes(450)),
            (0xED, b"Photoshop 3.0\0" + b"8BIM\0\0\0\0\0\0\0\0" * 5_000),
            (0xC0, b"\x08\0\x30\0\x40\3" + b"\1\x11\0" * 20_000),
            (0xDB, (b"\0" + b"\1" * 64) * 1_000),
        ]
    )
    segment = struct.pack(">BBH", 0xFF, marker, len(held) + 2) + held
    return whole[:2] + segment * (draw.choice([100_000, 10_000_000]) // len(segment)) + whole[2:]


def _many_strips(draw: random.Random) -> bytes:
    count = draw.choice([70_000, 4_000_000])
    entries = [(256, 4, 1, 1), (257, 4, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 3, count, 200), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 1)]
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)
    return head.ljust(200, b"\0") + bytes(2 * count)


def _noise(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([1, 100, 20_000]))


HOSTILE: Mapping[str, Callable[[random.Random], bytes]] = {
    "thin picture, header alone": _thin,
    "thin picture in full": _thin_in_full,
    "decompression bomb": _bomb,
    "sizes that cannot be": _huge_header,
    "text that unpacks to 100 MB": _text_bomb,
    "many chunks": _many_chunks,
    "cut short": _cut,
    "damaged": _damaged,
    "another kind of file": _other_kind,
    "animation": _frames,
    "TIFF whose directory is its own next": _tiff_loop,
    "JPEG of many segments": _many_segments,
    "TIFF of many strips": _many_strips,
    "noise": _noise,
}
"""Makers of images by what is wrong with them; some are odd and no fault at all."""
