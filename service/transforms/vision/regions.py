"""Regions of an image, as COCO's run-length encoding, PNG files or polygons.

A region is given by its window: a rectangle of pixels outside of which nothing belongs to it.
"""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from service.transforms.vision.contours import Ring, contours
from service.transforms.vision.geometry import Shape

RegionForm: TypeAlias = Literal["rle", "polygons", "png"]
"""How a region is written. `rle`: the counts of COCO's compressed run-length encoding."""

FORMS: Final[tuple[RegionForm, ...]] = ("rle", "polygons", "png")

_GROUP = 5
"""Bits of a count in a character of the compressed encoding."""
_MOST_GROUPS = 8
_FIRST_CHARACTER = 48


@dataclass(frozen=True, slots=True)
class Region:
    """Which pixels of an image belong together."""

    window: NDArray[np.bool_]
    """[height, width] of the window."""
    left: int
    top: int
    shape: Shape
    """Height and width of the image."""


def written(region: Region, form: RegionForm) -> bytes:
    """Return a region as ASCII: counts, a PNG in base64, or polygons in JSON."""
    return _WRITERS[form](region)


def read_polygons(data: bytes) -> tuple[Ring, ...]:
    """Return the rings that `written` made of a region."""
    return tuple(tuple((x, y) for x, y in ring) for ring in orjson.loads(data))


def counts_of(region: Region) -> bytes:
    """Return the runs of pixels outside and inside by turns, column by column, compressed."""
    height, width = region.shape
    columns = region.window.T
    edges = np.zeros((columns.shape[0], columns.shape[1] + 2), np.int8)
    edges[:, 1:-1] = columns
    column, row = np.nonzero(edges[:, 1:] != edges[:, :-1])
    ends = (column + region.left) * height + row + region.top
    if len(ends):
        # A run that goes on at the top of the next column is one run.
        goes_on = np.zeros(len(ends), np.bool_)
        goes_on[1:] = ends[1:] == ends[:-1]
        ends = ends[~(goes_on | np.append(goes_on[1:], False))]
    runs = np.diff(ends, prepend=0, append=height * width)
    return _compressed(runs if runs[-1] else runs[:-1])


def mask_of(counts: bytes, shape: Shape) -> NDArray[np.bool_]:
    """Return the image of `counts_of`, [height, width]."""
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    runs: list[int] = []
    value = shift = 0
    for character in characters.tolist():
        value |= (character & 31) << shift
        shift += _GROUP
        if character & 32:
            continue
        if character & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))  # noqa: PLR2004 - as _compressed
        value = shift = 0
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(shape[1], shape[0]).T


def _compressed(runs: NDArray[np.int64]) -> bytes:
    """Write counts as COCO does: less the count before the last, in groups of five bits."""
    values = runs.copy()
    values[3:] -= runs[1:-2]
    characters = np.zeros((len(values), _MOST_GROUPS), np.uint8)
    is_used = np.zeros((len(values), _MOST_GROUPS), np.bool_)
    goes_on = np.ones(len(values), np.bool_)
    for place in range(_MOST_GROUPS):
        is_used[:, place] = goes_on
        group = values & 31
        values >>= _GROUP
        goes_on = goes_on & np.where(group & 16, values != -1, values != 0)
        characters[:, place] = group + 32 * goes_on + _FIRST_CHARACTER
    return characters[is_used].tobytes()


def _png(region: Region) -> bytes:
    height, width = region.shape
    image = Image.new("1", (width, height))
    image.paste(Image.fromarray(region.window), (region.left, region.top))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue())


def _polygons(region: Region) -> bytes:
    return orjson.dumps(contours(region.window, region.left, region.top))


_WRITERS: Final[Mapping[RegionForm, Callable[[Region], bytes]]] = {
    "rle": counts_of,
    "polygons": _polygons,
    "png": _png,
}
