"""What is seen in an image file, pixel by pixel."""

import struct
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision import image as image_module
from service.transforms.vision.image import decode_image
from tests.unit.transforms.images import encoded

# Rows are y, columns x; every pixel differs, so that any turn shows.
GREY = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)
RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)


def pixels(data: bytes, **options: object) -> NDArray[np.uint8]:
    return np.asarray(decode_image(data, **options))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its raw rows (without their filter bytes)."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    step = len(rows) // height
    lines = b"".join(b"\0" + rows[y * step : (y + 1) * step] for y in range(height))
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


# The picture GREY as each EXIF orientation stores it: undoing the orientation gives GREY back.
STORED = {
    1: GREY,
    2: GREY[:, ::-1],
    3: GREY[::-1, ::-1],
    4: GREY[::-1],
    5: GREY.T,
    6: np.rot90(GREY, 1),
    7: GREY[::-1, ::-1].T,
    8: np.rot90(GREY, -1),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_undone(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation])).convert("RGB")
    options = {"lossless": True} if file_format == "WEBP" else {}
    seen = pixels(encoded(stored, file_format, exif=exif, **options))
    assert_array_equal(seen, np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_stands_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = np.kron(STORED[orientation], np.ones((16, 16), np.uint8))
    seen = pixels(encoded(Image.fromarray(large), "JPEG", exif=exif, quality=100))
    assert seen.shape == (32, 48)
    assert np.abs(seen[8::16, 8::16].astype(int) - GREY).max() <= 2


def test_a_turned_16_bit_image_with_transparency_keeps_both() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    values = np.array([[0, 65535, 0x8000]], np.uint16)
    data = encoded(Image.fromarray(values), exif=exif, transparency=65535)
    seen = pixels(data, background=RED)
    assert_array_equal(seen, [[(128, 128, 128), RED, BLACK]])


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_array_equal(pixels(encoded(Image.fromarray(GREY), exif=exif)), GREY)


@pytest.mark.parametrize("exif", [b"II*\0\xff\xff\xff\xff", b"no exif at all", b"MM\0*\0\0\0"])
def test_broken_exif_does_not_spoil_the_picture(exif: bytes) -> None:
    body = encoded(Image.fromarray(GREY))
    broken = chunk(b"eXIf", exif)
    assert_array_equal(pixels(body[:33] + broken + body[33:]), GREY)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_8_bits(file_format: str) -> None:
    values = np.array([[0, 255, 256], [0x7FFF, 0x8000, 65535]], np.uint16)
    seen = pixels(encoded(Image.fromarray(values), file_format))
    assert_array_equal(seen, [[0, 0, 1], [127, 128, 255]])


def test_big_endian_16_bit_grey_reads_the_same() -> None:
    values = np.array([[0, 0x1234, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert_array_equal(pixels(encoded(image, "TIFF")), [[0, 0x12, 255]])


def test_16_bit_colour_keeps_its_upper_8_bits() -> None:
    row = np.array([[0x00FF, 0x8000, 0xFFFF]], ">u2").tobytes()
    assert_array_equal(pixels(png(1, 1, 16, 2, row)), [[(0, 128, 255)]])


def test_12_bit_grey_is_scaled_from_its_own_range() -> None:
    # A TIFF of one row of two 12-bit samples: 0xFFF and 0x800.
    tags = [
        (256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 3),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack("<HHI", tag, kind, count) + struct.pack("<I", value)
        for tag, kind, count, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    data = b"II*\0" + struct.pack("<I", 12) + b"\xff\xf8\x00\x00" + directory
    assert_array_equal(pixels(data), [[255, 128]])


def test_32_bit_grey_within_16_bits_is_read_as_16() -> None:
    image = Image.fromarray(np.array([[0, 65535]], np.int32))
    assert_array_equal(pixels(encoded(image, "TIFF")), [[0, 255]])


def test_1_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False, True]]))
    for file_format in ("PNG", "TIFF", "BMP", "GIF"):
        seen = decode_image(encoded(image, file_format)).convert("L")
        assert_array_equal(np.asarray(seen), [[255, 0, 255]])


def test_grey_with_alpha_lies_on_the_background() -> None:
    image = Image.fromarray(np.array([[[100, 255], [100, 0], [0, 128]]], np.uint8), "LA")
    seen = pixels(encoded(image))
    assert_array_equal(seen, [[(100, 100, 100), WHITE, (127, 127, 127)]])
    assert_array_equal(pixels(encoded(image), background=RED)[0, 1], RED)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_colour_with_alpha_lies_on_the_background(file_format: str) -> None:
    image = Image.new("RGBA", (2, 1))
    image.putdata([(*RED, 255), (*RED, 0)])
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = encoded(image, file_format, **options)
    assert_array_equal(pixels(data), [[RED, WHITE]])
    assert_array_equal(pixels(data, background=BLUE), [[RED, BLUE]])


def test_premultiplied_alpha_is_not_multiplied_again() -> None:
    image = Image.fromarray(np.array([[[50, 128], [0, 0], [9, 255]]], np.uint8), "LA")
    data = encoded(image, "TIFF")
    alpha = struct.pack("<HHI", 338, 3, 1)  # "extra samples": 2 is straight, 1 premultiplied
    premultiplied = data.replace(alpha + b"\2", alpha + b"\1")
    assert premultiplied != data
    seen = pixels(premultiplied, background=BLACK).astype(int)
    assert np.abs(seen - [[[50] * 3, [0] * 3, [9] * 3]]).max() <= 1


def palette_image(transparency: int | bytes | None, file_format: str = "PNG") -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    return encoded(image, file_format, **options)


def test_a_palette_becomes_its_colours() -> None:
    for file_format in ("PNG", "GIF", "BMP", "TIFF"):
        assert_array_equal(pixels(palette_image(None, file_format)), [[RED, GREEN, BLUE]])


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_shows_the_background(file_format: str) -> None:
    data = palette_image(1, file_format)
    assert_array_equal(pixels(data), [[RED, WHITE, BLUE]])
    assert_array_equal(pixels(data, background=(1, 2, 3)), [[RED, (1, 2, 3), BLUE]])


def test_a_palette_with_an_alpha_each_is_blended() -> None:
    data = palette_image(bytes([255, 0, 128]))
    assert_array_equal(pixels(data), [[RED, WHITE, (127, 127, 255)]])


def test_a_transparent_colour_of_a_png_shows_the_background() -> None:
    colour = png(2, 1, 8, 2, bytes([*RED, *GREEN]), chunk(b"tRNS", struct.pack(">3H", *GREEN)))
    assert_array_equal(pixels(colour), [[RED, WHITE]])
    grey = png(2, 1, 8, 0, bytes([7, 9]), chunk(b"tRNS", struct.pack(">H", 9)))
    assert_array_equal(pixels(grey), [[(7, 7, 7), WHITE]])
    bilevel = png(2, 1, 1, 0, b"\x40", chunk(b"tRNS", struct.pack(">H", 0)))
    assert_array_equal(pixels(bilevel, background=RED), [[RED, WHITE]])


def test_cmyk_becomes_rgb() -> None:
    image = Image.new("CMYK", (2, 1))
    image.putdata([(255, 0, 0, 0), (0, 0, 0, 255)])
    assert_array_equal(pixels(encoded(image, "TIFF")), [[(0, 255, 255), BLACK]])


def test_an_adobe_cmyk_jpeg_is_not_shown_as_its_negative() -> None:
    # Pillow writes CMYK as Photoshop does: inverted, with an Adobe marker.
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in data
    seen = pixels(data)
    assert seen.shape == (16, 16, 3)
    assert np.abs(seen.astype(int) - RED).max() <= 3


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_many_frames_the_first_is_taken(file_format: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert_array_equal(pixels(data), np.broadcast_to(np.uint8(RED), (3, 4, 3)))


def test_opaque_grey_stays_one_channel_and_colour_is_rgb() -> None:
    assert decode_image(encoded(Image.fromarray(GREY))).mode == "L"
    assert decode_image(encoded(Image.new("RGB", (1, 1)))).mode == "RGB"


DRAWN = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 7, 4), np.uint8), "RGBA")
SEE_THROUGH = {
    "RGBA": encoded(DRAWN),
    "LA": encoded(DRAWN.convert("LA")),
    "P": encoded(DRAWN.convert("RGB").convert("P"), transparency=bytes(range(0, 256, 2))),
    "RGB": encoded(DRAWN.convert("RGB"), transparency=DRAWN.convert("RGB").getpixel((3, 4))),
    "L": encoded(DRAWN.convert("L"), transparency=DRAWN.convert("L").getpixel((3, 4))),
    "WebP": encoded(DRAWN, "WEBP", lossless=True),
}


@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("kind", SEE_THROUGH)
def test_what_is_composited_in_strips_of_rows_is_what_it_is_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, kind: str, rows: int
) -> None:
    whole = pixels(SEE_THROUGH[kind], background=(10, 200, 30))
    assert whole.shape == (10, 7, 3)
    monkeypatch.setattr(image_module, "_STRIP_PIXELS", 7 * rows + 1)
    assert_array_equal(pixels(SEE_THROUGH[kind], background=(10, 200, 30)), whole)
