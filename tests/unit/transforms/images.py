"""Image files made on the spot, and hostile ones."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def noise(width: int = 64, height: int = 48) -> Image.Image:
    values = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


PNG = encoded(noise())
JPEG = encoded(noise(), "JPEG")


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims any size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, body, b"IEND")
    )


def gif_claiming(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + encoded(noise(), "GIF")[13:]


def bmp_claiming(width: int, height: int) -> bytes:
    data = encoded(noise(), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


FOREIGN = {
    "plain text": b"hello, I am an image",
    "html": b"<!doctype html><img src=x>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "svg with a declaration": b'<?xml version="1.0"?><svg/>',
    "pdf": b"%PDF-1.7\n1 0 obj",
    "zip": b"PK\x03\x04" + bytes(100),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "ico": encoded(noise(16, 16), "ICO"),
    "ppm": encoded(noise(), "PPM"),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64),
    "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64),
    "nul bytes": bytes(1000),
    "one byte": b"\x89",
    "json": b'{"image": "..."}',
    "base64 of a png": b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB",
    "wav, also a RIFF": b"RIFF\x24\0\0\0WAVEfmt " + bytes(32),
    "psd": b"8BPS\0\x01" + bytes(40),
}


DAMAGED = {
    "no bytes": b"",
    "png signature only": PNG[:8],
    "png header cut": PNG[:20],
    "png pixels cut": PNG[: len(PNG) // 2],
    "png with a wrong checksum": PNG[:20] + bytes([PNG[20] ^ 1]) + PNG[21:],
    "png with broken compression": PNG[:60] + bytes(200) + PNG[260:],
    "png of width 0": png_claiming(0, 10),
    "png that lacks its rows": png_claiming(100, 100),
    "jpeg signature only": JPEG[:3],
    "jpeg header cut": JPEG[:100],
    "jpeg pixels cut": JPEG[: len(JPEG) // 2],
    "jpeg of thousands of scans": JPEG[:-2] + b"\xff\xda\0\x02" * 5000,
    "gif cut": encoded(noise(), "GIF")[:40],
    "gif signature only": b"GIF89a",
    "bmp cut": encoded(noise(), "BMP")[:60],
    "bmp signature only": b"BM",
    "webp cut": encoded(noise(), "WEBP")[:60],
    "webp signature only": b"RIFF\x10\0\0\0WEBPVP8 ",
    "tiff cut": encoded(noise(), "TIFF")[:200],
    "tiff signature only": b"II*\0",
    "tiff pointing outside itself": b"II*\0\xff\xff\xff\x7f" + bytes(64),
    "tiff of 32-bit integers": encoded(Image.fromarray(np.array([[0, 1 << 20]], np.int32)), "TIFF"),
    "tiff of negative integers": encoded(Image.fromarray(np.array([[0, -5]], np.int32)), "TIFF"),
    "tiff of floats": encoded(Image.fromarray(np.array([[0.5]], np.float32)), "TIFF"),
}

TOO_LARGE = {
    "png": png_claiming(60_000, 60_000),
    "png beyond any limit of Pillow": png_claiming(2_000_000_000, 2_000_000_000),
    "png between Pillow's warning and its error": png_claiming(10_000, 10_000),
    "gif": gif_claiming(65_535, 65_535),
    "bmp": bmp_claiming(30_000, 30_000),
    "png of one column": png_claiming(1, 50_000_000),
    "png of one row": png_claiming(50_000_000, 1),
    "png of one column too long": png_claiming(1, 65_536),
}
