"""Rotated boxes: (centre x, centre y, width, height, angle in radians), clockwise from the x axis.

Overlap is that of normal distributions with the boxes' means and variances, by which Ultralytics
suppresses doubles (https://arxiv.org/abs/2106.06072).
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.boxes import Boxes, Indices, Scores, best_first
from service.transforms.vision.geometry import Placement

RotatedBoxes: TypeAlias = NDArray[np.float32]
"""[N, 5]."""

_BLOCK = 128
"""Candidates compared at a time."""
_TINY = 1e-7
_FURTHEST = 100.0


def enclosing(rotated: RotatedBoxes) -> Boxes:
    """Return the upright boxes around rotated ones."""
    cos, sin = np.abs(np.cos(rotated[:, 4])), np.abs(np.sin(rotated[:, 4]))
    width, height = np.abs(rotated[:, 2]), np.abs(rotated[:, 3])
    half_width = (width * cos + height * sin) / 2
    half_height = (width * sin + height * cos) / 2
    half = np.stack([half_width, half_height], axis=1)
    return np.concatenate([rotated[:, :2] - half, rotated[:, :2] + half], axis=1)


def rotated_to_original(rotated: RotatedBoxes, place: Placement) -> RotatedBoxes:
    """Move boxes from a network's input to the original image; they may reach beyond it."""
    moved = rotated.copy()
    moved[:, :2] -= (place.left, place.top)
    moved[:, :4] /= (place.scale_x, place.scale_y) * 2
    return moved


def suppress_rotated(
    rotated: RotatedBoxes, scores: Scores, iou: float, limit: int, labels: Indices
) -> Indices:
    """Return the indices of the boxes to keep, best first.

    A box goes when a better one of its label overlaps it by more than `iou`, even if that one
    goes, too. Equal scores keep their order.
    """
    order = best_first(scores)
    boxes, names = rotated[order], labels[order]
    alive = np.ones(len(order), np.bool_)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        overlap = rotated_overlaps(boxes[start:stop], boxes[:stop])
        better = np.arange(start, stop)[:, None] > np.arange(stop)
        same = names[start:stop, None] == names[:stop]
        alive[start:stop] = ~((overlap > iou) & better & same).any(axis=1)
    return order[alive][:limit]


def rotated_overlaps(first: RotatedBoxes, second: RotatedBoxes) -> NDArray[np.float32]:
    """Return the overlap of every pair, [len(first), len(second)]."""
    a1, b1, c1 = (part[:, None] for part in _covariances(first))
    a2, b2, c2 = _covariances(second)
    dx = second[:, 0] - first[:, None, 0]
    dy = first[:, None, 1] - second[:, 1]
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    # Boxes without an area give numbers that are none, and overlap nothing.
    with np.errstate(invalid="ignore", over="ignore"):
        determinant = a * b - c**2
        distance = (a * dy**2 + b * dx**2) / (determinant + _TINY) / 4
        distance += c * dx * dy / (determinant + _TINY) / 2
        alone = np.maximum(a1 * b1 - c1**2, 0) * np.maximum(a2 * b2 - c2**2, 0)
        distance += np.log(determinant / (4 * np.sqrt(alone) + _TINY) + _TINY) / 2
        distance = np.clip(distance, _TINY, _FURTHEST)
        overlap: NDArray[np.float32] = 1 - np.sqrt(1 - np.exp(-distance) + _TINY)
    return overlap


def _covariances(boxes: RotatedBoxes) -> tuple[NDArray[Any], ...]:
    along, across = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return (
        along * cos**2 + across * sin**2,
        along * sin**2 + across * cos**2,
        (along - across) * cos * sin,
    )
