"""Resizing as OpenCV does it, without smoothing: `cv2.resize` of 8-bit images.

Models whose own programs use OpenCV were measured on these pixels. Pillow's transformations
read the same neighbours but round the result down, which makes a third of the pixels one level
darker. For bilinear and nearest the results are equal to OpenCV's; for bicubic a few per cent
of the pixels differ by one level.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision.image import PixelImage

Sampling: TypeAlias = Literal["nearest", "bilinear", "bicubic"]

_BITS = 11
"""Weights are whole multiples of 2 ** -11."""
_PRODUCT_SHIFT = 16
_CUBIC: Final = np.float32(-0.75)
"""The slope of OpenCV's cubic kernel; Pillow's is -0.5."""
_ONE = np.float32(1)

_STRIP_VALUES = 1 << 18
"""Values computed at a time: a strip stays in a core's cache, and memory does not grow."""

Ints: TypeAlias = NDArray[np.int32]
_Taps: TypeAlias = tuple[NDArray[np.intp], Ints]
"""For each position of the result: indices of its neighbours, and their weights; [taps, n]."""


def sampled(image: PixelImage, width: int, height: int, by: Sampling) -> PixelImage:
    """Return an "L" or "RGB" image resized to `width` x `height`."""
    if by == "bilinear" and image.size == (2 * width, 2 * height):
        return image.reduce(2)  # OpenCV takes the mean of four here, and rounds it as Pillow does
    result: NDArray[np.uint8] = np.empty((height, width * len(image.getbands())), np.uint8)
    columns = _spread(_TAPS[by](image.width, width), len(image.getbands()))
    above, weights = _TAPS[by](image.height, height)
    widest = max(result.shape[1], image.width * len(image.getbands()))
    step = max(1, _STRIP_VALUES // widest)
    for top in range(0, height, step):
        strip = slice(top, top + step)
        rows, places = _rows(image, above[:, strip])
        result[strip] = _COMBINED[by](rows, columns, (places, weights[:, strip]))
    shape = (height, width) if image.mode == "L" else (height, width, -1)
    return Image.fromarray(result.reshape(shape))


def _rows(
    image: PixelImage, wanted: NDArray[np.intp]
) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Return the wanted rows of an image, each once, and where each of the wanted is."""
    used, places = np.unique(wanted, return_inverse=True)
    # A strongly shrunk image needs few of its rows, and copying them out of it is what takes long.
    gaps = np.flatnonzero(np.diff(used) > 1) + 1
    parts = [
        np.asarray(image.crop((0, int(run[0]), image.width, int(run[-1]) + 1)))
        for run in np.split(used, gaps)
    ]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return rows.reshape(len(used), -1), places.reshape(wanted.shape)


def _spread(taps: _Taps, bands: int) -> _Taps:
    """Turn columns of pixels into columns of values, of which a pixel has `bands`."""
    at, weights = taps
    values = at[:, :, None] * bands + np.arange(bands)
    return values.reshape(len(at), -1), np.repeat(weights, bands, axis=1)


def _nearest(length: int, wanted: int) -> _Taps:
    at = np.floor(np.arange(wanted) * (1.0 / (wanted / length))).astype(np.intp)
    return np.minimum(at, length - 1)[None], np.ones((1, wanted), np.int32)


def _linear(length: int, wanted: int) -> _Taps:
    first, rest = _positions(length, wanted)
    at = first + np.arange(2)[:, None]
    return at.clip(0, length - 1), _whole([_ONE - rest, rest])


def _cubic(length: int, wanted: int) -> _Taps:
    first, rest = _positions(length, wanted)
    weights = [_far(rest + _ONE), _near(rest), _near(_ONE - rest)]
    weights.append(_ONE - weights[0] - weights[1] - weights[2])
    at = first + np.arange(-1, 3)[:, None]
    return at.clip(0, length - 1), _whole(weights)


def _far(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC


def _near(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    return ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + _ONE


def _positions(length: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return where the centres of the wanted pixels lie: the pixel before, and the rest."""
    at = ((np.arange(wanted) + 0.5) * (1.0 / (wanted / length)) - 0.5).astype(np.float32)
    first = np.floor(at)
    return first.astype(np.intp), at - first


def _whole(weights: list[NDArray[np.float32]]) -> Ints:
    whole: Ints = np.rint(np.stack(weights) * np.float32(1 << _BITS)).astype(np.int32)
    return whole


def _across(rows: NDArray[np.uint8], columns: _Taps) -> Ints:
    """Return the weighted sums along the rows, times 2 ** 11."""
    total: Ints = np.zeros((len(rows), columns[0].shape[1]), np.int32)
    for at, weights in zip(*columns, strict=True):
        part = rows.take(at, axis=1).astype(np.int32)
        part *= weights
        total += part
    return total


def _picked(rows: NDArray[np.uint8], columns: _Taps, down: _Taps) -> NDArray[np.uint8]:
    picked: NDArray[np.uint8] = rows.take(columns[0][0], axis=1).take(down[0][0], axis=0)
    return picked


def _mixed(rows: NDArray[np.uint8], columns: _Taps, down: _Taps) -> NDArray[np.uint8]:
    """Combine two neighbours each way; bits are dropped where OpenCV drops them."""
    across = _across(rows, columns)
    across >>= 4
    total = np.full((down[0].shape[1], across.shape[1]), 2, np.int32)
    for at, weights in zip(*down, strict=True):
        part = across.take(at, axis=0)
        part *= weights[:, None]
        part >>= _PRODUCT_SHIFT
        total += part
    total >>= 2
    return total.astype(np.uint8)


def _curved(rows: NDArray[np.uint8], columns: _Taps, down: _Taps) -> NDArray[np.uint8]:
    """Combine four neighbours each way, whose weights may be below zero."""
    across = _across(rows, columns)
    total = np.full((down[0].shape[1], across.shape[1]), 1 << (2 * _BITS - 1), np.int32)
    for at, weights in zip(*down, strict=True):
        part = across.take(at, axis=0)
        part *= weights[:, None]
        total += part
    total >>= 2 * _BITS
    return total.clip(0, 255).astype(np.uint8)


_TAPS: Mapping[Sampling, Callable[[int, int], _Taps]] = {
    "nearest": _nearest,
    "bilinear": _linear,
    "bicubic": _cubic,
}
_COMBINED: Mapping[Sampling, Callable[[NDArray[np.uint8], _Taps, _Taps], NDArray[np.uint8]]] = {
    "nearest": _picked,
    "bilinear": _mixed,
    "bicubic": _curved,
}
