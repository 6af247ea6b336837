"""Images whose every pixel has one label: from a network's maps to the region of each label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from service.transforms.vision.geometry import Shape
from service.transforms.vision.masks import MOST_WRITTEN, Grid, Map, blocks, refuse_pixels
from service.transforms.vision.regions import Region

LabelMap = NDArray[np.int32]
"""[height, width]; below zero where a pixel has no label."""

_NEAR = 3
"""Numbers along each axis that a pixel of the image may be made of."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label is."""

    label: int
    rows: slice
    columns: slice

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom."""
        return self.columns.start, self.rows.start, self.columns.stop, self.rows.stop


def best_map(maps: Map, grid: Grid) -> LabelMap:
    """Return for each pixel of the image which map is the highest there, the first of equals.

    Memory is that of the result and of some million numbers.

    Raises:
        ValueError: the image is too large for that many maps.
    """
    height, width = grid.image
    candidates, columns = _winners(maps), range(width)
    refuse_pixels(len(candidates) * height * width, MOST_WRITTEN)
    found = np.zeros((height, width), np.int32)
    if len(candidates) == 1:
        return found + candidates[0]
    for rows in blocks(range(height), columns):
        labels = found[rows.start : rows.stop]
        labels[:] = candidates[0]
        best = grid.at(maps[candidates[0]], rows, columns)
        for label in candidates[1:]:
            values = grid.at(maps[label], rows, columns)
            labels[values > best] = label
            np.maximum(best, values, out=best)
    return found


def pixels_above(one: Map, grid: Grid, least: float) -> int:
    """Return at how many pixels of the image a map is at least this high."""
    columns = range(grid.image[1])
    parts = blocks(range(grid.image[0]), columns)
    return sum(int((grid.at(one, rows, columns) >= least).sum()) for rows in parts)


def resized_map(labels: NDArray[np.integer], grid: Grid) -> LabelMap:
    """Return a map of labels as large as the image, by the nearest pixels."""
    return labels[np.ix_(*_nearest_of(grid))].astype(np.int32)


def nearest_place(mask: NDArray[np.bool_], grid: Grid) -> Place | None:
    """Return where a mask is once it is as large as the image; None if it is nowhere."""
    rows, columns = _nearest_of(grid)
    found = places(np.where(mask[np.ix_(rows, columns)], np.int32(0), np.int32(-1)))
    return found[0] if found else None


def nearest_region(mask: NDArray[np.bool_], grid: Grid, place: Place) -> Region:
    """Return a mask as large as the image, by the nearest pixels, at its place."""
    rows, columns = _nearest_of(grid)
    window = mask[np.ix_(rows[place.rows], columns[place.columns])]
    return Region(window, place.columns.start, place.rows.start, grid.image)


def places(labels: LabelMap) -> Sequence[Place]:
    """Return where each label is, by ascending label. The time grows with the number of labels."""
    counts = np.zeros(int(labels.max(initial=-1)) + 2, np.int64)
    for rows in blocks(range(labels.shape[0]), range(labels.shape[1])):
        counts += np.bincount(labels[rows.start : rows.stop].ravel() + 1, minlength=len(counts))
    found = []
    for label in np.flatnonzero(counts[1:]).tolist():
        is_there = labels == label
        found.append(Place(label, _extent(is_there.any(axis=1)), _extent(is_there.any(axis=0))))
    return found


def label_regions(labels: LabelMap, chosen: Sequence[Place]) -> Iterator[Region]:
    """Yield the region of each of these labels."""
    shape: Shape = (labels.shape[0], labels.shape[1])
    for place in chosen:
        window = labels[place.rows, place.columns] == place.label
        yield Region(window, place.columns.start, place.rows.start, shape)


def _winners(maps: Map) -> Sequence[int]:
    """Return which maps can be the highest somewhere, ascending, at least one.

    A pixel's value is a mean of numbers near it. A map whose highest of them is below the lowest
    of another map's cannot win there.
    """
    needed = _near(maps[0]).min(axis=(2, 3))
    for one in maps[1:]:
        np.maximum(needed, _near(one).min(axis=(2, 3)), out=needed)
    return [n for n, one in enumerate(maps) if (_near(one).max(axis=(2, 3)) >= needed).any()]


def _near(one: Map) -> NDArray[np.float32]:
    return sliding_window_view(np.pad(one, _NEAR // 2, "edge"), (_NEAR, _NEAR))


def _nearest_of(grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the row and the column of a map for each row and column of the image."""
    rows = grid.top + _nearest(grid.inner[0], grid.image[0])
    columns = grid.left + _nearest(grid.inner[1], grid.image[1])
    return rows // grid.factor, columns // grid.factor


def _nearest(of_input: int, of_output: int) -> NDArray[np.intp]:
    at = np.arange(of_output) * (of_input / of_output)
    return np.minimum(at.astype(np.intp), of_input - 1)


def _extent(is_there: NDArray[np.bool_]) -> slice:
    at = np.flatnonzero(is_there)
    return slice(int(at[0]), int(at[-1]) + 1)
