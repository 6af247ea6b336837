"""From an encoded image file to the numbers a network takes.

Every recipe and every served request goes through this one module, so that a model sees in
production what it saw in training. Two choices that could be faster are left out on purpose:
JPEG `draft` mode and PIL's `reducing_gap` decode or resize large photographs in fewer
operations but give different pixels.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError
from service.memory import return_free_memory
from service.transforms.pixel_budget import PixelBudget

PixelImage: TypeAlias = Image.Image
"""A decoded image. Ours are upright, opaque, and of mode "L" or "RGB"."""

Colour: TypeAlias = tuple[int, int, int]

MAX_PIXELS = 50_000_000
"""Default limit on width x height: a 48 megapixel photograph passes; it takes 200 to 400 MB."""

DECODING = PixelBudget(2 * MAX_PIXELS)
"""What all threads may decode at once, 4 to 8 bytes a pixel. The composition root sets the most."""

WHITE: Colour = (255, 255, 255)

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
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0")

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_QUIET = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

_LARGE_PIXELS = 8_000_000
"""What decoding so many frees is given back at once; each thread would keep some of it."""

_WEBP_SHARE = 2
"""So many times the memory of other formats: libwebp keeps the picture before and after a frame."""

_STRIP_PIXELS = 1_000_000
"""Composited at once."""

_SCAN_MARKER = b"\xff\xda"
_MAX_SCANS = 64
"""A progressive JPEG has about ten scans; one of thousands is made to keep a decoder busy."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image was fitted into a square: box * scale + (left, top) is where it went."""

    scale: float
    left: int
    top: int
    width: int
    """Of the original image, upright, in pixels; so is `height`."""
    height: int


def decode_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, background: Sequence[int] = WHITE
) -> PixelImage:
    """Decode an image file to what a person sees in it.

    EXIF rotation is applied, transparent pixels are composited on the background, 16-bit
    channels keep their upper 8 bits, palettes and CMYK become RGB (colour profiles are not
    applied), and of an animation or a multi-page file the first frame counts. The size is
    checked from the header, before any pixel is decoded.

    Returns:
        An image of mode "L" where the file is opaque greyscale or bilevel, else "RGB".

    Raises:
        InvalidInputError: no bytes, a damaged or truncated file, or pixels without an agreed
            range (32-bit and floating point TIFF).
        LimitExceededError: more pixels than `max_pixels`.
        UnsupportedMediaTypeError: not one of the six formats read here.
    """
    with decoding(data, max_pixels=max_pixels, background=background) as image:
        return image


@contextmanager
def decoding(
    data: bytes, *, max_pixels: int = MAX_PIXELS, background: Sequence[int] = WHITE
) -> Iterator[PixelImage]:
    """Decode as `decode_image` does; the image counts as in memory until the block ends.

    Waits while others decode too much for one more.

    Raises:
        Exception: what `decode_image` raises.
    """
    image = _header(data, max_pixels)
    share = _WEBP_SHARE if image.format == "WEBP" else 1
    with DECODING.held(share * image.width * image.height):
        try:
            image.load()
            image = _flat(_upright(image), background)
        except (InvalidInputError, MemoryError):
            raise
        except Exception as error:  # a decoder raises nearly anything on damaged data
            raise InvalidInputError(f"the image is damaged or cut short: {error}") from error
        if image.width * image.height > _LARGE_PIXELS:
            return_free_memory()
        yield image


def _header(data: bytes, max_pixels: int) -> PixelImage:
    """Return an image that is not decoded yet, but may be."""
    _silence_pillow()
    if not data:
        raise InvalidInputError("the image is empty")
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise LimitExceededError(
            f"the image has {width} x {height} pixels; at most {max_pixels} are read"
        )
    if image.format in ("JPEG", "MPO") and data.count(_SCAN_MARKER) > _MAX_SCANS:
        raise InvalidInputError(f"the JPEG has more than {_MAX_SCANS} scans")
    return image


def to_tensor(
    image: PixelImage,
    size: Sequence[int],
    mode: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> NDArray[np.float32]:
    """Stretch an image to `size` and normalise it.

    Args:
        image: as `decode_image` returns it.
        size: (height, width). PIL's BILINEAR with its antialias; skipped where it fits already.
        mode: "L" or "RGB".
        mean: per channel, subtracted after division by 255.
        std: per channel, divided by after that.

    Returns:
        float32 [C, height, width].
    """
    if image.mode != mode:
        image = image.convert(mode)
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    tensor = np.empty((len(image.getbands()), height, width), np.float32)
    _write_scaled(image, tensor)
    tensor -= np.asarray(mean, np.float32)[:, None, None]
    tensor /= np.asarray(std, np.float32)[:, None, None]
    return tensor


def letterbox(image: PixelImage, size: int, pad: int) -> tuple[NDArray[np.float32], Letterbox]:
    """Fit an image into a square of `size`, keeping its shape, centred on grey `pad`.

    Returns:
        float32 [3, size, size] in 0..1 (RGB), and how to find the way back.
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = image.size
    scale = min(size / width, size / height)
    fitted = max(1, round(width * scale)), max(1, round(height * scale))
    if image.size != fitted:
        image = image.resize(fitted, Image.Resampling.BILINEAR)
    left, top = (size - fitted[0]) // 2, (size - fitted[1]) // 2
    tensor = np.full((3, size, size), np.float32(pad) / np.float32(255), np.float32)
    _write_scaled(image, tensor[:, top : top + fitted[1], left : left + fitted[0]])
    return tensor, Letterbox(scale, left, top, width, height)


def _silence_pillow() -> None:
    """Ignore warnings issued inside Pillow; what matters in them is raised by us.

    Done at each call since anyone may reset the filters, and not by `catch_warnings`, which
    swaps a global of the process and is not safe on several threads.
    """
    if _QUIET not in warnings.filters[:1]:
        warnings.filterwarnings("ignore", module=r"PIL\b")


def _open(data: bytes) -> PixelImage:
    try:
        return Image.open(BytesIO(data), formats=FORMATS)
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


def _upright(image: PixelImage) -> PixelImage:
    """Apply the EXIF orientation. Pillow has done so already for TIFF, in `load`."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF does not spoil the picture; browsers ignore it, too
        return image
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _flat(image: PixelImage, background: Sequence[int]) -> PixelImage:
    """Convert any mode to an opaque "L" or "RGB"."""
    if image.mode.startswith("I"):
        return _from_16_bits(image, background)
    if image.mode == "F":
        raise InvalidInputError("floating point pixels have no agreed range; send 8 or 16 bits")
    if image.has_transparency_data:
        return _composited(image, background)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_16_bits(image: PixelImage, background: Sequence[int]) -> PixelImage:
    """Keep the upper 8 of 16 bits (of 12 in a TIFF of 12), as Pillow does for 16-bit colour."""
    values = np.asarray(image)
    if image.mode == "I" and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
        raise InvalidInputError("32-bit pixels have no agreed range; send 8 or 16 bits")
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = min(bits, *image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (bits,)))
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    see_through = image.info.get("transparency")
    if not isinstance(see_through, int):
        return grey
    grey.putalpha(Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8)))
    return _composited(grey, background)


def _composited(image: PixelImage, background: Sequence[int]) -> PixelImage:
    """Lay an image on a background, some rows at a time: all at once would take it four times."""
    red, green, blue = background
    canvas = Image.new("RGB", image.size, (red, green, blue))
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        layer = image.crop((0, top, image.width, min(top + rows, image.height)))
        if layer.mode == "La":
            layer = layer.convert("LA")
        if layer.mode != "RGBA":
            layer = layer.convert("RGBA")
        canvas.paste(layer.convert("RGB"), (0, top), layer.getchannel("A"))
    return canvas


def _write_scaled(image: PixelImage, planes: NDArray[np.float32]) -> None:
    """Write an "L" or "RGB" image, divided by 255, into float32 [C, H, W]."""
    pixels = np.asarray(image)
    planes[...] = pixels if image.mode == "L" else pixels.transpose(2, 0, 1)
    planes /= np.float32(255)
