"""Outlines of regions as polygons."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = tuple[tuple[float, float], ...]
"""Corners of a polygon in pixels, without the first again at the end."""

MOST_STEPS = 1_000_000
"""Sides of pixels in the outlines of one region, above which it is not followed."""

_TOLERANCE = 0.75
"""Pixels that an outline may leave the sides of pixels: it cuts the corners of a slanted edge."""
_TRIANGLE = 3

# Directions in clockwise order, as x and y.
_EAST, _SOUTH, _WEST, _NORTH = range(4)
_MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))


def contours(window: NDArray[np.bool_], left: int = 0, top: int = 0) -> Sequence[Ring]:
    """Return the outlines of a region: outer ones clockwise, those of holes counter-clockwise.

    Pixels that touch at a corner are connected. The even-odd rule fills the rings.

    Args:
        window: [height, width], whether a pixel is of the region.
        left: added to each x.
        top: added to each y.

    Raises:
        ValueError: the outlines are longer than `MOST_STEPS`.
    """
    width = window.shape[1]
    steps = _steps(window)
    if len(steps) > MOST_STEPS:
        raise ValueError(f"the outline of a mask is longer than {MOST_STEPS} sides of pixels")
    following = _following(steps, width + 1).tolist()
    points, ways = (steps >> 2).tolist(), (steps & 3).tolist()
    rings = []
    is_seen = bytearray(len(following))
    for start in range(len(following)):
        ring, at = [], start
        while not is_seen[at]:
            is_seen[at] = 1
            after = following[at]
            if ways[after] != ways[at]:
                ring.append(points[after])
            at = after
        if ring:
            y, x = np.divmod(np.array(ring), width + 1)
            rings.append(_ring(np.stack([x + left, y + top], 1).astype(np.float64)))
    return [ring for ring in rings if len(ring) >= _TRIANGLE]


def _steps(window: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return sides of pixels with the region on their right: 4 * (y * (width + 1) + x) + way."""
    height, width = window.shape
    padded = np.zeros((height + 2, width + 2), np.bool_)
    padded[1:-1, 1:-1] = window
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]
    before, behind = padded[1:-1, :-1], padded[1:-1, 1:]
    found = []
    for edges, way, x, y in (
        (below & ~above, _EAST, 0, 0),
        (above & ~below, _WEST, 1, 0),
        (behind & ~before, _NORTH, 0, 1),
        (before & ~behind, _SOUTH, 0, 0),
    ):
        rows, columns = np.nonzero(edges)
        found.append(4 * ((rows + y) * (width + 1) + columns + x) + way)
    return np.sort(np.concatenate(found))


def _following(steps: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """Return the index of the step after each: to the left, else straight on, else right."""
    ways = steps & 3
    moved = np.array([x + y * stride for x, y in _MOVES])
    ends = (steps >> 2) + moved[ways]
    following = np.full(len(steps), -1)
    for turn in (1, 0, 3):  # the first found last, so that it wins
        wanted = 4 * ends + (ways + turn) % 4
        at = np.minimum(np.searchsorted(steps, wanted), len(steps) - 1)
        following = np.where(steps[at] == wanted, at, following)
    return following


def _ring(corners: NDArray[np.float64]) -> Ring:
    """Return a closed line with no more corners than needed, as pairs."""
    if len(corners) > _TRIANGLE + 1:
        far = int(np.abs(corners - corners[0]).sum(axis=1).argmax())
        halves = corners[: far + 1], np.concatenate([corners[far:], corners[:1]])
        corners = np.concatenate([_simplified(half)[:-1] for half in halves])
    return tuple((x, y) for x, y in corners.tolist())


def _simplified(line: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners of a line that are further than the tolerance from the rest."""
    is_kept = np.zeros(len(line), np.bool_)
    is_kept[[0, -1]] = True
    open_parts = [(0, len(line) - 1)]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:  # noqa: PLR2004 - nothing is between them
            continue
        between, start = line[first + 1 : last], line[first]
        along = line[last] - start
        length = float(np.hypot(*along))
        offsets = between - start
        if length:
            distances = np.abs(offsets[:, 0] * along[1] - offsets[:, 1] * along[0]) / length
        else:
            distances = np.hypot(offsets[:, 0], offsets[:, 1])
        worst = int(distances.argmax())
        if distances[worst] > _TOLERANCE:
            is_kept[first + 1 + worst] = True
            open_parts += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return line[is_kept]
