"""Maps that hold a cell's numbers kind by kind, made maps that hold them candidate by candidate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.heads import SIDES, Head


def ungrouped_shape(
    shape: Sequence[int | None], head: Head, labels: int, per_cell: int
) -> tuple[int | None, ...]:
    """Return the shape that `ungrouped` gives an output of this shape; itself if not grouped."""
    if not head.grouped:
        return tuple(shape)
    axis = _axis(head)
    parts = _parts(head, labels)
    wanted = sum(width * (1 if is_shared else per_cell) for width, is_shared in parts)
    if len(shape) <= axis or shape[axis] != wanted:
        return tuple(shape)  # which fits no such head
    whole = list(shape)
    whole[axis] = per_cell * sum(width for width, _ in parts)
    return tuple(whole)


def ungrouped(output: NDArray[Any], head: Head, labels: int, per_cell: int) -> NDArray[Any]:
    """Return a map with all numbers of the first candidate of each cell, then of the second.

    The scores of labels, which the candidates of a cell share, are repeated for each.
    """
    axis, at, columns = _axis(head), 0, [list[int]() for _ in range(per_cell)]
    for width, is_shared in _parts(head, labels):
        for candidate in columns:
            candidate.extend(range(at, at + width))
            at += 0 if is_shared else width
        at += width if is_shared else 0
    return np.take(output, np.concatenate(columns), axis=axis)


def _parts(head: Head, labels: int) -> list[tuple[int, bool]]:
    """Return the width of each kind of numbers in their order, and whether it is shared."""
    parts = [
        (head.box_at, SIDES * head.bins, False),
        (head.scores_at, head.scores_end(labels) - head.scores_at, True),
    ]
    if head.objectness_at is not None:
        parts.append((head.objectness_at, 1, False))
    return [(width, is_shared) for _, width, is_shared in sorted(parts)]


def _axis(head: Head) -> int:
    return (1 if head.candidates == "maps" else 3) - (not head.batched)
