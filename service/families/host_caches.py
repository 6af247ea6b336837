"""Copies within caches that the host can reach, without a session's fixed cost.

What `join` and `move` do as graphs: for the few places of a step, entering a session and binding
its memory takes several times as long as the copying.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Cache: TypeAlias = NDArray[Any]
"""[rows, heads, places, width]"""


def join(cache: Cache, new: Cache, rows: Ints) -> None:
    """Put new rows, which may be shorter, into rows of a cache."""
    cache[rows, :, : new.shape[2]] = new


def move(caches: Iterable[tuple[Cache, Cache]], start: Ints, end: Ints) -> None:
    """Copy places from old caches to new ones, which may be the same; all are alike.

    Each is a pair of row and place [M, 2]. All places of a cache are read before any is written.
    """
    if not len(start):
        return
    read = written = None
    for old, new in caches:
        if read is None or written is None:
            read, written = _lines(old, start), _lines(new, end)
        width = new.shape[3]
        new.reshape(-1, width)[written] = old.reshape(-1, width).take(read, axis=0)


def _lines(cache: Cache, pairs: Ints) -> Ints:
    """Return where places are in the cache seen as lines [rows * heads * places, width]."""
    _, heads, places, _ = cache.shape
    first = pairs[:, 0] * (heads * places) + pairs[:, 1]
    lines: Ints = first[:, None] + np.arange(0, heads * places, places)
    return lines.ravel()
