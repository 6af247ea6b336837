"""Texts that repeat a phrase: how they are found, and what is kept of them.

A text is repetitive if its last `window` tokens repeat one phrase at least three times. That is
decided by the tokens alone, so it does not depend on what else runs.
"""

import numpy as np

from service.families.translation.search.decoding import Ints

_LEAST_ROUNDS = 3


def period(ids: Ints, window: int) -> int:
    """Return the length of the phrase that the last `window` tokens repeat.

    0 if there is none; window 0 finds none.
    """
    if not 0 < window <= len(ids):
        return 0
    tail = ids[len(ids) - window :]
    phrases = range(1, window // _LEAST_ROUNDS + 1)
    return next((length for length in phrases if (tail[length:] == tail[:-length]).all()), 0)


def repetitions_in(written: Ints, lengths: Ints, windows: Ints) -> list[tuple[int, int]]:
    """Return which rows [N, T] end in a repetition, each with the length of its phrase.

    The first `lengths` [N] tokens of a row count, and `windows` [N] of them are compared.
    """
    due = np.flatnonzero((windows > 0) & (lengths >= windows))
    found: list[tuple[int, int]] = []
    for window in np.unique(windows[due]).tolist():
        rows = due[windows[due] == window]
        tails = written[rows[:, None], lengths[rows, None] + np.arange(-window, 0)]
        # The last token of a repetition occurs before: that rules out nearly all rows at once.
        before = tails[:, -1 - window // _LEAST_ROUNDS : -1]
        likely = np.flatnonzero((before == tails[:, -1:]).any(axis=1)).tolist()
        periods = ((int(rows[row]), period(tails[row], window)) for row in likely)
        found += [(row, length) for row, length in periods if length]
    return found


def first_round(ids: Ints, length: int) -> Ints:
    """Return a text that ends with a repeated phrase of this length, with the phrase once."""
    same = ids[length:] == ids[: len(ids) - length]
    rounds = int(np.argmin(same[::-1])) if not same.all() else len(same)
    return ids[: len(ids) - rounds]


def has_repetition(ids: Ints, window: int) -> bool:
    """Tell whether a phrase is repeated three times in a row anywhere in a text.

    It counts from a third of the window on, as two languages rarely need as many tokens for the
    same. A faithful translation of such a text is repetitive too.
    """
    for length in range(1, min(window, len(ids)) // _LEAST_ROUNDS + 1):
        same = np.concatenate([[False], ids[length:] == ids[: max(len(ids) - length, 0)], [False]])
        ends = np.flatnonzero(~same)
        longest = int(np.diff(ends).max()) - 1
        if longest + length >= max(_LEAST_ROUNDS * length, window // _LEAST_ROUNDS):
            return True
    return False
