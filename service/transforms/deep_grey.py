"""Grey of more than 8 bits, whose range is told by the file or else by what is in it."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from service.errors import InvalidInputError

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
        InvalidInputError: the range cannot be told, or there are values below zero.
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
    """Return the upper 8 of so many bits, as Pillow keeps them of 16-bit colour."""
    unsigned = values.view(np.uint32) if values.dtype == np.int32 else values
    return (unsigned >> (deep - 8)).astype(np.uint8)


def _told(image: Image.Image) -> tuple[int, bool]:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return (_FULL if image.mode == "I" else 16), False
    tags = image.tag_v2
    most = _FULL if image.mode == "I" else 16
    bits = min(most, *tags.get(TiffImagePlugin.BITSPERSAMPLE, (most,)))
    return bits, _SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
