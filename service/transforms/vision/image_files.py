"""Image files before their pixels are decoded: what is opened, repaired and refused.

Damage that browsers overlook is overlooked: chunks of a PNG that hold no pixels (profiles, texts,
those with a wrong checksum), and the end of a JPEG. A JPEG may lack its end marker and up to a
twentieth of its lines; more is refused, never filled with grey. Pillow's own flag for that,
`LOAD_TRUNCATED_IMAGES`, is a global of the process and has no such limit, so it stays off.
"""

import re
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError
from service.transforms.counting import occurrences
from service.transforms.vision.image_parts import BMP, MAX_SIDE, PNG, TIFF, Stepwise, of_pixels

_SIGNED = 2
"""The SampleFormat of signed numbers in a TIFF; 1 is unsigned."""
_FULL = 32
_AMBIGUOUS = "32-bit pixels have no agreed range, and these tell none; send 8 or 16 bits"


def depth(image: Image.Image) -> int:
    """Return the bits of the brightest value that an image of whole numbers may hold.

    A file of up to 16 bits tells it. 32 bits are most often what a program computes in, and hold
    8 or 16 bits of brightness. So one is read as 8, 16 or all bits deep if its brightest pixel
    is in the upper half of that range. Otherwise it would be shown nearly black, or white.

    Raises:
        InvalidInputError: the range is ambiguous, or there are values below zero.
    """
    bits, is_signed = _told(image)
    if image.mode != "I":
        return bits
    low, high = cast("tuple[int, int]", image.getextrema())
    if bits == _FULL and not is_signed and low < 0:  # Pillow reads unsigned ones as signed
        return _FULL
    if low < 0:
        raise InvalidInputError("grey pixels below zero have no agreed range; send 8 or 16 bits")
    if bits < _FULL:
        return bits - is_signed
    ranges = (8, 16, _FULL - 1) if is_signed else (8, 16)
    for deep in ranges:
        if 1 << (deep - 1) <= high < 1 << deep:
            return deep
    raise InvalidInputError(_AMBIGUOUS)


def upper_bits(values: NDArray[Any], deep: int) -> NDArray[np.uint8]:
    """Return the upper 8 bits of values of this many bits, as Pillow does for 16-bit colour."""
    unsigned = values.view(np.uint32) if values.dtype == np.int32 else values
    return (unsigned >> (deep - 8)).astype(np.uint8)


def _told(image: Image.Image) -> tuple[int, bool]:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return (_FULL if image.mode == "I" else 16), False
    tags = image.tag_v2
    most = _FULL if image.mode == "I" else 16
    bits = min(most, *tags.get(TiffImagePlugin.BITSPERSAMPLE, (most,)))
    return bits, _SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))


# Naming the classes registers exactly these decoders with Pillow, and no others.
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
    )
)
_READ_HERE = "send PNG, JPEG, WebP, GIF, BMP or TIFF"
_SIGNATURES = (b"\xff\xd8\xff", PNG, b"GIF8", BMP, *TIFF)

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

_RUNS = "bmp_rle"
_MOST_IN_RUNS = 4_000_000
"""Pixels of a BMP compressed in runs. Pillow decodes it in Python: 7000 x 7000 pixels in a file of
29 kB took 7 s."""
_SCAN_MARKER = b"\xff\xda"
_MAX_SCANS = 64
"""A progressive JPEG has about ten scans; one of thousands is made to keep a decoder busy."""
_JPEG_END = b"\xff\xd9"
_BLOCK = 8
_MISSING_SHARE = 20
_LINES = 256
_PADDING = bytes((73 * number + 41) % 251 for number in range(251))
"""Bytes that are no marker, and that a decoder would take for anything but a continuation."""


def opened(data: bytes, max_pixels: int) -> Image.Image:
    """Return an image that is not decoded yet, but may be.

    Raises:
        InvalidInputError: no bytes, a damaged header, or too many parts.
        LimitExceededError: more pixels than `max_pixels`, or a side over `MAX_SIDE`.
        UnsupportedMediaTypeError: not one of `FORMATS`.
    """
    _silence_pillow()
    if not data:
        raise InvalidInputError("the image is empty")
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise LimitExceededError(
            f"the image has {width} x {height} pixels; at most {max_pixels} are read"
        )
    if max(width, height) > MAX_SIDE:
        side = "width" if width > height else "height"
        raise LimitExceededError(
            f"the image has {width} x {height} pixels; its {side} may be at most {MAX_SIDE}"
        )
    if width * height > _MOST_IN_RUNS and any(
        tile.codec_name == _RUNS for tile in getattr(image, "tile", ())
    ):
        raise LimitExceededError(
            f"the BMP has {width} x {height} pixels and is compressed; at most {_MOST_IN_RUNS} are "
            "read of such a file"
        )
    if image.format in ("JPEG", "MPO") and occurrences(data, _SCAN_MARKER) > _MAX_SCANS:
        raise InvalidInputError(f"the JPEG has more than {_MAX_SCANS} scans")
    return image


def loaded(image: Image.Image, data: bytes) -> Image.Image:
    """Decode the pixels of an opened image; the result may be another image.

    Raises:
        Exception: whatever the decoder raises on damaged data.
    """
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        cut, image = image, Image.new("L", (1, 1))  # the pixels that it has are needed no more
        cut.close()
        rows = max((layer[2] for layer in getattr(cut, "layer", ())), default=1) * _BLOCK
        return _completed(data, rows)
    return image


def _completed(data: bytes, rows: int) -> Image.Image:
    """Decode a JPEG that ends too early, if nearly all of its lines are there.

    Lines are there if it makes no difference what comes after the data.
    """
    data = data.rstrip(b"\xff")  # half a marker
    image = _open(data + _JPEG_END)
    image.load()
    other = _open(data + _PADDING + _JPEG_END)
    other.load()
    missing = image.height - _equal_lines(image, other)
    most = max(image.height // _MISSING_SHARE, min(rows, image.height // 4))
    if missing > most:
        raise OSError(f"{missing} of {image.height} lines are missing")
    return image


def _equal_lines(one: Image.Image, other: Image.Image) -> int:
    """Return how many lines from the top are equal, counted to the first that is not."""
    for top in range(0, one.height, _LINES):
        strip = (0, top, one.width, min(top + _LINES, one.height))
        difference = ImageChops.difference(one.crop(strip), other.crop(strip))
        parts = [part.getbbox() for part in difference.split()]
        if found := [box[1] for box in parts if box is not None]:
            return top + min(found)
    return one.height


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(Stepwise(of_pixels(data)), formats=FORMATS)
    except InvalidInputError:
        raise
    except UnidentifiedImageError:
        known = data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
        if known:
            raise InvalidInputError("the image is damaged: its header cannot be read") from None
        raise UnsupportedMediaTypeError(
            f"this is no image of a kind read here; {_READ_HERE}"
        ) from None
    except Image.DecompressionBombError as error:
        raise LimitExceededError(f"the image has too many pixels: {error}") from error
    except Exception as error:  # a decoder raises nearly anything on damaged data
        raise InvalidInputError(f"the image is damaged: {error}") from error


def _silence_pillow() -> None:
    """Ignore warnings issued inside Pillow; what matters in them is raised by us.

    Done at each call since anyone may reset the filters, and not by `catch_warnings`, which
    swaps a global of the process and is not safe on several threads.
    """
    if _QUIET not in warnings.filters[:1]:
        warnings.filterwarnings("ignore", module=r"PIL\b")
