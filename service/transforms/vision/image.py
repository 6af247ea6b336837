"""From an encoded image file to the numbers a network takes.

Every recipe and every served request goes through this one module, so that a model sees in
production what it saw in training. Two choices that could be faster are left out on purpose:
JPEG `draft` mode and PIL's `reducing_gap` decode or resize large photographs in fewer
operations but give different pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from service.errors import InvalidInputError, LimitExceededError
from service.transforms.vision.footprint import PixelBudget, footprint
from service.transforms.vision.image_files import FORMATS, depth, loaded, opened, upper_bits
from service.transforms.vision.image_parts import MAX_SIDE

__all__ = (
    "DECODING",
    "FORMATS",
    "MAX_PIXELS",
    "WHITE",
    "Colour",
    "PixelImage",
    "decode_image",
    "decoded_frame",
    "decoding",
)

PixelImage: TypeAlias = Image.Image
"""A decoded image. Ours are upright, opaque, and of mode "L" or "RGB"."""

Colour: TypeAlias = tuple[int, int, int]

MAX_PIXELS = 50_000_000
"""Default limit on width x height: a 48 megapixel photograph passes; it takes 200 to 400 MB."""

DECODING = PixelBudget(2 * MAX_PIXELS)
"""What all threads may decode at once. The composition root sets the most."""

_PIXEL_BYTES = 8
"""What a pixel of the budget stands for. An image counts as more of them if it takes more."""
_WIDEST = 4
"""Bytes of a pixel of a decoded image."""
_MOST_BYTES = 32
"""Bytes that decoding may take for each pixel allowed. A TIFF may announce tiles of any size."""

WHITE: Colour = (255, 255, 255)

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

_STRIP_PIXELS = 1_000_000
"""Composited at once."""


def decode_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, background: Sequence[int] = WHITE
) -> PixelImage:
    """Decode an image file to what a person sees in it.

    EXIF rotation is applied, transparent pixels are composited on the background, 16-bit
    channels keep their upper 8 bits, palettes, CMYK and CIELAB become RGB (colour profiles are
    not applied), and of an animation or a multi-page file the first frame counts. What browsers
    overlook is overlooked (`service.transforms.vision.image_files`). The size is checked from the
    header, before any pixel is decoded.

    Returns:
        An image of mode "L" where the file is opaque greyscale or bilevel, else "RGB".

    Raises:
        InvalidInputError: no bytes, a damaged or truncated file, or pixels without an agreed
            range (floating point TIFF, and most of 32 bits).
        LimitExceededError: more pixels than `max_pixels`, a side too long, or an encoding that
            takes too much memory.
        UnsupportedMediaTypeError: not one of the six formats read here.
    """
    with decoding(data, max_pixels=max_pixels, background=background) as image:
        return image


@contextmanager
def decoding(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    background: Sequence[int] = WHITE,
    use: Callable[[int, int], int] | None = None,
) -> Iterator[PixelImage]:
    """Decode as `decode_image` does; the image counts as in memory until the block ends.

    Waits while others decode too much for one more. `use` returns the bytes that the block
    takes in addition to the image, given its height and width, or raises to refuse the image. A
    turned image has them the other way round, so it is asked for both and should be asked once
    more.

    Raises:
        Exception: what `decode_image` or `use` raises.
    """
    image = opened(data, max_pixels)
    with DECODING.held(_held(image, data, max_pixels, use)):
        try:
            image = loaded(image, data)
            image = _upright(image)  # apart from the next step, which then holds two and not three
            image = _flat(image, background)
        except (InvalidInputError, MemoryError):
            raise
        except Exception as error:  # a decoder raises nearly anything on damaged data
            raise InvalidInputError(f"the image is damaged or cut short: {error}") from error
        try:
            yield image
        finally:
            del image  # it counts until its memory is back, where the caller keeps it no longer


@contextmanager
def decoded_frame(
    pixels: NDArray[np.uint8], use: Callable[[int, int], int]
) -> Iterator[PixelImage]:
    """Return a decoded picture as `decoding` does; what `use` returns counts as in memory.

    Raises:
        Exception: what `use` raises.
    """
    height, width, _ = pixels.shape
    with DECODING.held(max(height * width, -(-use(height, width) // _PIXEL_BYTES))):
        yield Image.fromarray(pixels)


def _held(
    image: PixelImage, data: bytes, max_pixels: int, use: Callable[[int, int], int] | None
) -> int:
    """Return the pixels that an image counts as: its own, or more if it takes more memory."""
    width, height = image.size
    try:
        held = footprint(image, data)
    except Exception as error:  # the header may hold anything
        raise InvalidInputError(f"the image is damaged: {error}") from error
    if held > _MOST_BYTES * max_pixels + _MOST_BYTES * MAX_SIDE:
        raise LimitExceededError(
            f"the image would take {held} bytes to decode, for {width} x {height} pixels"
        )
    if use is not None:
        held = max(held, _WIDEST * width * height + _used(use, height, width))
    return max(width * height, -(-held // _PIXEL_BYTES))


def _used(use: Callable[[int, int], int], height: int, width: int) -> int:
    """Ask for the bytes used of an image that may have to be turned."""
    try:
        upright = use(height, width)
    except LimitExceededError:
        if height == width:
            raise
        try:
            return use(width, height)
        except LimitExceededError:
            pass
        raise
    try:
        return max(upright, use(width, height))
    except LimitExceededError:
        return upright


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
        return _from_deep_grey(image, background)
    if image.mode == "F":
        raise InvalidInputError("floating point pixels have no agreed range; send 8 or 16 bits")
    if image.has_transparency_data:
        return _composited(image, background)
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "LAB":
        colours = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, *colours, outputMode="RGB") or image
    return image.convert("L" if image.mode == "1" else "RGB")


def _from_deep_grey(image: PixelImage, background: Sequence[int]) -> PixelImage:
    """Keep the upper 8 bits of grey, some rows at a time."""
    deep, see_through = depth(image), image.info.get("transparency")
    masked = isinstance(see_through, int)
    red, green, blue = background
    canvas = Image.new("RGB", image.size, (red, green, blue)) if masked else None
    canvas = canvas or Image.new("L", image.size)
    for strip in _strips(image):
        values = np.asarray(image.crop(strip))
        grey = Image.fromarray(upper_bits(values, deep))
        mask = Image.fromarray(np.where(values == see_through, 0, 255).astype(np.uint8))
        canvas.paste(grey.convert(canvas.mode), strip[:2], mask if masked else None)
    return canvas


def _strips(image: PixelImage) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of some rows each, from the top."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _composited(image: PixelImage, background: Sequence[int]) -> PixelImage:
    """Lay an image on a background, some rows at a time: all at once would take it four times."""
    red, green, blue = background
    canvas = Image.new("RGB", image.size, (red, green, blue))
    for strip in _strips(image):
        layer = image.crop(strip)
        if layer.mode == "La":
            layer = layer.convert("LA")
        if layer.mode != "RGBA":
            layer = layer.convert("RGBA")
        canvas.paste(layer.convert("RGB"), strip[:2], layer.getchannel("A"))
    return canvas
