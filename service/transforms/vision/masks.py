"""Masks of objects: from the maps that a network gives at its own size to pixels of the image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.boxes import Boxes
from service.transforms.vision.geometry import Placement, Shape
from service.transforms.vision.regions import Region, RegionForm, written

Map = NDArray[np.float32]
"""[height, width], or several as [n, height, width]."""

MOST_PIXELS = 128_000_000
"""Pixels in the boxes of all objects of an answer, which bounds the time of their masks."""
MOST_WRITTEN = 1_000_000_000
"""Pixels that the masks of an answer are written from."""
MOST_BYTES = 16_000_000
"""Bytes of all masks of an answer."""

_BLOCK = 2_000_000
"""Pixels computed at a time, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Where an image lies in maps of another size, and how maps become as large as the image.

    Maps are enlarged by `factor`, which puts the edges of the image between two numbers; what is
    around the image is cut off, and the rest is resized. Both steps are bilinear.
    """

    shape: Shape
    """Of a map."""
    factor: int
    left: int
    top: int
    inner: Shape
    """Of the image in the enlarged map, from `top` and `left`."""
    image: Shape

    @classmethod
    def of(cls, shape: Shape, network: Shape, place: Placement) -> "Grid":
        """Return the grid of maps of a shape, for an image in a network's input."""
        height = round(place.height * place.scale_y)
        width = round(place.width * place.scale_x)
        edges = (place.top, place.top + height, place.left, place.left + width)
        if edges == (0, network[0], 0, network[1]):
            return cls(shape, 1, 0, 0, shape, (place.height, place.width))
        ratios = (network[0] / shape[0],) * 2 + (network[1] / shape[1],) * 2
        factor = 1
        while factor < max(ratios) and any(
            edge * factor % ratio for edge, ratio in zip(edges, ratios, strict=True)
        ):
            factor *= 2
        top, bottom, left, right = (
            round(edge * factor / ratio) for edge, ratio in zip(edges, ratios, strict=True)
        )
        inner = max(1, bottom - top), max(1, right - left)
        return cls(shape, factor, left, top, inner, (place.height, place.width))

    def at(self, maps: Map, rows: range, columns: range) -> Map:
        """Return maps [..., height, width] at these pixels of the image."""
        down = _taps(rows, self.inner[0], self.image[0])
        across = _taps(columns, self.inner[1], self.image[1])
        if self.factor == 1:
            return _sampled(maps, down.moved(self.top), across.moved(self.left))
        needed_rows = range(self.top + int(down.low[0]), self.top + int(down.high[-1]) + 1)
        needed = range(self.left + int(across.low[0]), self.left + int(across.high[-1]) + 1)
        enlarged = _sampled(
            maps,
            _taps(needed_rows, self.shape[0], self.shape[0] * self.factor),
            _taps(needed, self.shape[1], self.shape[1] * self.factor),
        )
        return _sampled(enlarged, down.moved(-int(down.low[0])), across.moved(-int(across.low[0])))


def resized(maps: Map, shape: Shape) -> Map:
    """Return maps [..., height, width] at another height and width, bilinear."""
    if maps.shape[-2:] == shape:
        return maps
    height, width = maps.shape[-2:]
    return _sampled(
        maps, _taps(range(shape[0]), height, shape[0]), _taps(range(shape[1]), width, shape[1])
    )


@dataclass(frozen=True, slots=True)
class _Taps:
    """For each output along an axis: two inputs, and the share of the second."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    share: NDArray[np.float32]

    def moved(self, by: int) -> "_Taps":
        return _Taps(self.low + by, self.high + by, self.share)


def _taps(outputs: range, of_input: int, of_output: int) -> _Taps:
    at = (np.arange(outputs.start, outputs.stop) + 0.5) * (of_input / of_output) - 0.5
    at = np.clip(at, 0, of_input - 1)
    low = at.astype(np.intp)
    return _Taps(low, np.minimum(low + 1, of_input - 1), (at - low).astype(np.float32))


def _sampled(maps: Map, down: _Taps, across: _Taps) -> Map:
    rows = maps[..., down.low, :]
    rows += (maps[..., down.high, :] - rows) * down.share[:, None]
    found: Map = rows[..., across.low]
    found += (rows[..., across.high] - found) * across.share
    return found


def inside(box: NDArray[np.float32], shape: Shape) -> tuple[range, range]:
    """Return rows and columns of the pixels whose top left corner is in a box."""
    left, top, right, bottom = np.nan_to_num(box).tolist()
    return (
        range(max(0, ceil(top)), min(shape[0], ceil(bottom))),
        range(max(0, ceil(left)), min(shape[1], ceil(right))),
    )


def blocks(rows: range, columns: range, depth: int = 1) -> Iterator[range]:
    """Yield the rows in parts, each of some million numbers over all columns and maps."""
    most = max(1, _BLOCK // max(1, len(columns) * depth))
    for start in range(rows.start, rows.stop, most):
        yield range(start, min(start + most, rows.stop))


def window(logits: Map, grid: Grid, rows: range, columns: range) -> NDArray[np.bool_]:
    """Return which of these pixels of the image a map is above zero at."""
    found = np.empty((len(rows), len(columns)), np.bool_)
    if not found.size:
        return found
    for part in blocks(rows, columns):
        at = part.start - rows.start
        np.greater(grid.at(logits, part, columns), 0, out=found[at : at + len(part)])
    return found


@dataclass(frozen=True, slots=True, eq=False)
class WrittenMasks:
    """Masks of the objects of one image, without those that are empty."""

    places: NDArray[np.intp]
    """Which objects have one, ascending."""
    data: NDArray[np.uint8]
    """The masks one after the other, as `written` returns them."""
    ends: NDArray[np.int64]
    """Where in `data` each ends."""


def written_masks(regions: Iterator[Region], form: RegionForm) -> WrittenMasks:
    """Write regions one after the other; an empty one is left out.

    Raises:
        ValueError: they are too large or too complex for one answer.
    """
    masks, places, size, pixels = [], [], 0, 0
    for place, region in enumerate(regions):
        if not region.window.any():
            continue
        pixels += region.shape[0] * region.shape[1] if form == "png" else region.window.size
        refuse_pixels(pixels, MOST_WRITTEN)
        mask = written(region, form)
        size += len(mask)
        if size > MOST_BYTES:
            raise ValueError(
                f"the masks of this image take more than {MOST_BYTES} bytes: lower max_detections, "
                'raise threshold, or set masks to "none"'
            )
        masks.append(mask)
        places.append(place)
    return WrittenMasks(
        np.array(places, np.intp),
        np.frombuffer(b"".join(masks), np.uint8),
        np.cumsum([len(mask) for mask in masks], dtype=np.int64),
    )


def refuse_pixels(pixels: int, most: int) -> None:
    """Raise ValueError for masks of more pixels than one answer may take."""
    if pixels > most:
        raise ValueError(
            f"the masks of this image cover more than {most} pixels: lower max_detections, "
            'raise threshold, send a smaller image, or set masks to "none"'
        )


def prototype_regions(
    prototypes: Map, coefficients: NDArray[np.float32], boxes: Boxes, grid: Grid
) -> Iterator[Region]:
    """Yield the mask of each object: a sum of prototypes, cut off at the object's box.

    Args:
        prototypes: [k, height, width].
        coefficients: [N, k].
        boxes: [N, 4] in pixels of the image.
        grid: of the prototypes.

    Raises:
        ValueError: the boxes cover too many pixels.
    """
    flat = prototypes.reshape(len(prototypes), -1)
    maps = ((weights @ flat).reshape(prototypes.shape[1:]) for weights in coefficients)
    yield from box_regions(maps, boxes, grid)


def box_regions(maps: Iterable[Map], boxes: Boxes, grid: Grid) -> Iterator[Region]:
    """Yield where each object's map is above zero, cut off at the object's box.

    Raises:
        ValueError: the boxes cover too many pixels.
    """
    places = [inside(box, grid.image) for box in boxes]
    refuse_pixels(sum(len(rows) * len(columns) for rows, columns in places), MOST_PIXELS)
    for one, (rows, columns) in zip(maps, places, strict=True):
        yield Region(window(one, grid, rows, columns), columns.start, rows.start, grid.image)
