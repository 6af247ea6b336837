"""Parts of a picture by their boxes."""

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError, kept
from service.transforms.vision.image import decoding

Box = tuple[float, float, float, float]


def rgb_pixels(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """Return an image file as RGB pixels, (height, width, 3). Raises as `decode_image` does."""
    with decoding(data, max_pixels=max_pixels) as image:
        return np.asarray(image.convert("RGB"))


def crops(
    pixels: NDArray[np.uint8], boxes: Sequence[Box], margin: float = 0.0
) -> list[NDArray[np.uint8] | InvalidInputError]:
    """Return a view of the pixels for each box, or why there is none.

    Args:
        pixels: (height, width, 3).
        boxes: left, top, right, bottom. Every pixel that a box touches is in its crop.
        margin: added at each side, as a part of the box's width or height.
    """
    height, width, _ = pixels.shape
    found: list[NDArray[np.uint8] | InvalidInputError] = []
    for left, top, right, bottom in boxes:
        x, y = margin * (right - left), margin * (bottom - top)
        first, last = max(0, floor(left - x)), min(width, ceil(right + x))
        upper, lower = max(0, floor(top - y)), min(height, ceil(bottom + y))
        if first < last and upper < lower:
            found.append(pixels[upper:lower, first:last])
        else:
            found.append(kept(InvalidInputError("the box has no pixels inside the image")))
    return found
