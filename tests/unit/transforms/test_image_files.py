"""Files that browsers show and a strict decoder would not, and files too damaged for that."""

import struct
import zlib

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image, ImageFile, TiffImagePlugin

from service import tasks
from service.errors import InvalidInputError, LimitExceededError
from service.families.image_input import ImageInput
from service.transforms.vision import footprint as footprint_module
from service.transforms.vision.footprint import footprint
from service.transforms.vision.image import decode_image
from service.transforms.vision.image_files import opened
from service.transforms.vision.processing import ImageProcessor, Processing
from tests.sentences import sentence
from tests.unit.transforms.images import PNG, encoded, noise
from tests.unit.transforms.test_image import chunk

LONG = zlib.compress(b"a" * 2_000_000)
HARMLESS = {
    "a profile": chunk(b"iCCP", b"icc\0\0" + LONG),
    "a text": chunk(b"zTXt", b"workflow\0\0" + LONG),
    "an XMP packet": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "a text not compressed": chunk(b"tEXt", b"workflow\0" + bytes(3_000_000)),
    "a hundred texts": chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1_000_000))) * 100,
    "a broken profile": chunk(b"iCCP", b"icc\0\0nothing"),
    "a wrong checksum of a text": chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    "a wrong checksum of an orientation": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0")[:-1] + b"?",
    "a wrong checksum of transparency": chunk(b"tRNS", bytes(6))[:-4] + b"nope",
    "an animation without frames": chunk(b"acTL", bytes(8)),
    "an unknown chunk": chunk(b"quAr", b"tet"),
}


@pytest.mark.parametrize("extra", HARMLESS.values(), ids=HARMLESS)
def test_a_png_is_read_whatever_lies_beside_its_pixels(extra: bytes) -> None:
    for data in (PNG[:33] + extra + PNG[33:], PNG[:-12] + extra + PNG[-12:]):
        assert_array_equal(np.asarray(decode_image(data)), np.asarray(noise()))


@pytest.mark.parametrize("lost", [4, 12, 16])
def test_a_png_without_its_last_chunk_or_checksum_is_read(lost: int) -> None:
    assert_array_equal(np.asarray(decode_image(PNG[:-lost])), np.asarray(noise()))


def photo(height: int = 400) -> Image.Image:
    values = np.random.default_rng(2).integers(0, 60, (height, 90, 3))
    slope = np.linspace(0, 190, height)[:, None, None]
    return Image.fromarray((values + slope).astype(np.uint8))


JPEGS = {
    "4:2:0": encoded(photo(), "JPEG"),
    "4:4:4": encoded(photo(), "JPEG", subsampling=0),
    "with restarts": encoded(photo(), "JPEG", restart_marker_rows=1),
    "progressive": encoded(photo(), "JPEG", progressive=True),
    "grey": encoded(photo().convert("L"), "JPEG"),
    "CMYK": encoded(photo().convert("CMYK"), "JPEG"),
    "of few lines": encoded(photo(12), "JPEG"),
}


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_without_its_end_marker_is_the_same_picture(kind: str, lost: int) -> None:
    whole = decode_image(JPEGS[kind])
    assert_array_equal(np.asarray(decode_image(JPEGS[kind][:-lost])), np.asarray(whole))


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "with restarts", "progressive", "CMYK"])
def test_a_jpeg_that_lacks_its_last_lines_is_read_and_the_others_are_right(kind: str) -> None:
    whole = np.asarray(decode_image(JPEGS[kind])).astype(int)
    seen = np.asarray(decode_image(JPEGS[kind][:-40])).astype(int)
    assert_array_equal(seen[: 400 - 24], whole[: 400 - 24])


@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "with restarts", "progressive", "CMYK"])
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_a_jpeg_that_lacks_much_is_refused_and_not_filled_with_grey(
    kind: str, share: float
) -> None:
    cut = JPEGS[kind][: int(len(JPEGS[kind]) * share)]
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(cut)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def read(width: int, height: int, **recipe: object) -> None:
    recipe = recipe or {"size": (32, 32)}
    data = encoded(Image.new("L", (width, height)))
    ImageInput(ImageProcessor(Processing(**recipe)), (0, 0, 0)).read(tasks.Image(data))


def test_what_is_too_long_and_thin_is_refused_and_told_which_side() -> None:
    read(2, 2000)
    read(2000, 2)
    with pytest.raises(LimitExceededError, check=sentence):
        read(2, 2001)
    with pytest.raises(LimitExceededError, check=sentence):
        read(2001, 2)
    with pytest.raises(LimitExceededError, check=sentence):
        decode_image(encoded(Image.new("L", (1, 65_536))))


def test_the_image_between_the_two_steps_of_resizing_counts() -> None:
    read(40, 30_000)
    with pytest.raises(LimitExceededError, check=sentence):
        read(40, 30_000, size=(8, 1200))
    recipe = Processing(size=(8, 1200))
    assert recipe.most_pixels(30_000, 40) == 30_000 * 1200
    assert recipe.most_pixels(30_000, 1200) == 8 * 1200
    assert ImageProcessor(recipe).bytes_used(30_000, 40) > 30_000 * 1200 * 4


def tiled_tiff(side: int) -> bytes:
    """A TIFF of 2 x 2 grey pixels in one compressed tile of any size."""
    tile = zlib.compress(bytes(side * side if side < 100 else 1))
    tags = [
        (256, 3, 2), (257, 3, 2), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1),
        (322, 4, side), (323, 4, side), (324, 4, 200), (325, 4, len(tile)),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    return data.ljust(200, b"\0") + tile


def test_a_tiff_cannot_ask_for_a_tile_of_any_size() -> None:
    assert_array_equal(np.asarray(decode_image(tiled_tiff(16))), np.zeros((2, 2)))
    with pytest.raises(LimitExceededError, check=sentence):
        decode_image(tiled_tiff(60_000))


@pytest.mark.parametrize(
    ("data", "a_pixel"),
    [
        (PNG, 8),  # two of 4 while it is turned
        (encoded(noise().convert("L")), 2),
        (encoded(noise().convert("P")), 5),
        (encoded(noise(), "WEBP"), 16),
        (encoded(noise(), "JPEG"), 8),
        (encoded(noise(), "JPEG", progressive=True, subsampling=0), 4 + 6),
        (encoded(noise(), "JPEG", progressive=True), 8),
        (encoded(noise().convert("CMYK"), "JPEG", progressive=True, subsampling=0), 4 + 8),
        (encoded(noise(), "TIFF"), 8),
    ],
)
def test_what_decoding_takes_is_known_from_the_header(data: bytes, a_pixel: int) -> None:
    image = opened(data, 10_000)
    rows = 0 if image.format == "WEBP" else footprint_module._ROW * 48
    assert footprint(image, data) == a_pixel * 64 * 48 + rows


def tiff(values: np.ndarray, **tags: object) -> bytes:
    return encoded(Image.fromarray(values), "TIFF", **tags)


def unsigned(values: list[int]) -> bytes:
    """A TIFF of one row of unsigned 32-bit numbers, which Pillow does not write."""
    data = tiff(np.array([values], np.uint32).view(np.int32))
    signed = struct.pack("<HHI", TiffImagePlugin.SAMPLEFORMAT, 3, 1)
    assert signed in data
    return data.replace(signed + b"\2", signed + b"\1")


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (tiff(np.array([[0, 200, 255]], np.int32)), [0, 200, 255]),
        (tiff(np.array([[0, 128, 130]], np.int32)), [0, 128, 130]),
        (tiff(np.array([[0, 256, 40_000]], np.int32)), [0, 1, 156]),
        (tiff(np.array([[0, 1 << 30, (1 << 31) - 1]], np.int32)), [0, 128, 255]),
        (unsigned([0, 1 << 31, (1 << 32) - 1]), [0, 128, 255]),
        (unsigned([0, 7, 255]), [0, 7, 255]),
    ],
)
def test_32_bit_grey_is_read_by_the_range_that_it_fills(data: bytes, seen: list[int]) -> None:
    assert_array_equal(np.asarray(decode_image(data)), [seen])


@pytest.mark.parametrize(
    "values", [[0, 1], [0, 100], [0, 1000], [0, 20_000], [0, 70_000], [0, 1 << 29], [-1, 200]]
)
def test_32_bit_grey_of_no_clear_range_is_refused_and_never_black_or_white(
    values: list[int],
) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(tiff(np.array([values], np.int32)))


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_floats_are_refused(scale: float) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        decode_image(tiff(np.array([[0, 0.5 * scale, scale]], np.float32)))


def test_cielab_becomes_the_colours_that_it_names() -> None:
    # Red, green and grey of sRGB by the white point D50, as (L, a, b).
    image = Image.new("LAB", (3, 1))
    for x, (light, a, b) in enumerate([(54.29, 80.8, 69.9), (87.8, -79.3, 81.0), (53.6, 0, 0)]):
        image.putpixel((x, 0), (round(light * 2.55), round(a) + 128, round(b) + 128))
    seen = np.asarray(decode_image(encoded(image, "TIFF"))).astype(int)
    assert np.abs(seen - [[(255, 0, 0), (0, 255, 0), (128, 128, 128)]]).max() <= 15
