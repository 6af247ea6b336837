"""Texts that say the same over and over: how it is told, and what is kept of them.

A loop is a tail of `window` tokens that says one phrase at least three times. It is found out by
the tokens alone, so that it is the same whatever else runs.
"""

import numpy as np
from numpy.typing import NDArray

_LEAST_ROUNDS = 3

Ints = NDArray[np.int64]


def period(ids: Ints, window: int) -> int:
    """Return how long the phrase is that the last `window` tokens say over and over.

    0 if there is none; window 0 finds none.
    """
    if not 0 < window <= len(ids):
        return 0
    tail = ids[len(ids) - window :]
    phrases = range(1, window // _LEAST_ROUNDS + 1)
    return next((length for length in phrases if (tail[length:] == tail[:-length]).all()), 0)


def looping(written: Ints, window: int) -> list[tuple[int, int]]:
    """Return which rows of tokens [N, T] end in a loop, and how long its phrase is."""
    if not 0 < window <= written.shape[1]:
        return []
    # The last token of a loop was said before: that rules out nearly everybody at once.
    before = written[:, -1 - window // _LEAST_ROUNDS : -1]
    said = np.flatnonzero((before == written[:, -1:]).any(axis=1))
    found = ((row, period(written[row], window)) for row in said.tolist())
    return [(row, length) for row, length in found if length]


def looping_at(written: Ints, lengths: Ints, windows: Ints) -> list[tuple[int, int]]:
    """Return the same of rows [N, T] of which `lengths` tokens count; window 0 finds none."""
    due = np.flatnonzero((windows > 0) & (lengths >= windows))
    found: list[tuple[int, int]] = []
    for window in np.unique(windows[due]).tolist():
        rows = due[windows[due] == window]
        tails = written[rows[:, None], lengths[rows, None] + np.arange(-window, 0)]
        found += [(int(rows[row]), length) for row, length in looping(tails, window)]
    return found


def said_once(ids: Ints, length: int) -> Ints:
    """Return a text that ends in a loop of phrases so long, up to where it was said once."""
    same = ids[length:] == ids[: len(ids) - length]
    rounds = int(np.argmin(same[::-1])) if not same.all() else len(same)
    return ids[: len(ids) - rounds]


def repeats_itself(ids: Ints, window: int) -> bool:
    """Tell whether somewhere in a text a phrase is said three times in a row.

    It counts from a third of the window on, as two languages rarely need as many tokens for the
    same. Whoever translates such a text says the same over and over with good reason.
    """
    for length in range(1, min(window, len(ids)) // _LEAST_ROUNDS + 1):
        same = np.concatenate([[False], ids[length:] == ids[: max(len(ids) - length, 0)], [False]])
        ends = np.flatnonzero(~same)
        longest = int(np.diff(ends).max()) - 1
        if longest + length >= max(_LEAST_ROUNDS * length, window // _LEAST_ROUNDS):
            return True
    return False
