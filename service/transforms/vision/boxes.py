"""Boxes: overlap, suppression of doubles, and the way back to the original image.

A box is (left, top, right, bottom), so that boxes are [N, 4]. Everything is float32.
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.geometry import Placement

Boxes: TypeAlias = NDArray[np.float32]
Scores: TypeAlias = NDArray[np.float32]
Indices: TypeAlias = NDArray[np.intp]

MAX_CANDIDATES = 2_000
"""At most this many of the best boxes compete, which bounds the time one image can take."""

_NO_AREA = np.float32(1e-30)
"""Stands for an area of zero where one divides by it."""

_BLOCK = 128
"""Candidates compared at a time: usually all of an image, and small enough for the CPU cache."""


def corners(centred: Boxes) -> Boxes:
    """Turn [N, 4] of (centre x, centre y, width, height) into boxes."""
    half = centred[:, 2:] / 2
    return np.concatenate([centred[:, :2] - half, centred[:, :2] + half], axis=1)


def iou_matrix(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """Return intersection over union of every pair, [len(first), len(second)]; 0 where no area."""
    shared = _shared(first, second, 0) * _shared(first, second, 1)
    union = _areas(first)[:, None] + _areas(second) - shared
    overlap: NDArray[np.float32] = np.divide(shared, np.maximum(union, _NO_AREA))
    return overlap


def _shared(first: Boxes, second: Boxes, axis: int) -> NDArray[np.float32]:
    """Return the length that every pair has in common along x (0) or y (1)."""
    low = np.maximum(first[:, None, axis], second[:, axis])
    high = np.minimum(first[:, None, axis + 2], second[:, axis + 2])
    length: NDArray[np.float32] = np.maximum(high - low, 0)
    return length


def _areas(boxes: Boxes) -> Scores:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: Scores = sides[:, 0] * sides[:, 1]
    return product


def suppress(
    boxes: Boxes,
    scores: Scores,
    iou: float,
    limit: int,
    labels: NDArray[np.integer] | None = None,
) -> Indices:
    """Keep the best box of each object (greedy non-maximum suppression).

    A box goes when a better one of its label overlaps it by more than `iou`. Equal scores keep
    their order.

    Args:
        boxes: [N, 4].
        scores: [N].
        iou: overlap from which two boxes are one object.
        limit: keep at most this many.
        labels: [N]; None lets every box compete with every other.

    Returns:
        Indices of those kept, best first.
    """
    order = best_first(scores)
    boxes = boxes[order]
    names = np.zeros(len(order), np.intp) if labels is None else labels[order]

    def doubles(better: Indices, worse: Indices) -> NDArray[np.bool_]:
        same = names[better][:, None] == names[worse]
        found: NDArray[np.bool_] = same & (iou_matrix(boxes[better], boxes[worse]) > iou)
        return found

    kept = np.empty(0, np.intp)
    for start in range(0, len(order), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(order)))
        block = block[~doubles(kept, block).any(axis=0)]
        kept = np.concatenate([kept, block[_survivors(doubles(block, block))]])
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def _survivors(doubles: NDArray[np.bool_]) -> Indices:
    """Return who is left when each in turn, if still there, removes its doubles."""
    alive = np.ones(len(doubles), np.bool_)
    for index, mine in enumerate(doubles):
        if alive[index]:
            alive[index + 1 :] &= ~mine[index + 1 :]
    return np.flatnonzero(alive)


def best_first(scores: Scores) -> Indices:
    """Return the indices of the best candidates by descending score, ties in their order."""
    if scores.size <= MAX_CANDIDATES:
        return np.argsort(-scores, kind="stable")
    best = np.sort(np.argpartition(-scores, MAX_CANDIDATES)[:MAX_CANDIDATES])
    return best[np.argsort(-scores[best], kind="stable")]


def to_original(boxes: Boxes, place: Placement) -> Boxes:
    """Move boxes from a network's input to the original image, and clip them to it."""
    offset = np.array([place.left, place.top] * 2, np.float32)
    scale = np.array([place.scale_x, place.scale_y] * 2, np.float32)
    edges = np.array([place.width, place.height] * 2, np.float32)
    original: Boxes = np.clip((boxes - offset) / scale, 0, edges)
    return original


def whole_pixels(
    box: tuple[float, float, float, float], width: int, height: int
) -> tuple[int, int, int, int]:
    """Return the edges of a box as the nearest whole pixels of its image, halves rounded up."""
    left, top, right, bottom = (
        min(max(math.floor(at + 0.5), 0), most)
        for at, most in zip(box, (width, height, width, height), strict=True)
    )
    return left, top, right, bottom
