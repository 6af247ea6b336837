"""Which tokens a generation_config.json forbids next, by what a row has written.

The rules are those of the logits processors of `generate` in transformers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenBans:
    """What is never written, and what is not written twice."""

    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens."""
    suppressed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(not word for word in self.bad_words):
            raise ValueError("bad_words must be lists of one id or more")

    @property
    def always(self) -> tuple[int, ...]:
        """Return the tokens that are forbidden whatever came before."""
        alone = {word for *before, word in self.bad_words if not before}
        return tuple(sorted(alone.union(self.suppressed)))

    @property
    def looks_back(self) -> bool:
        """Tell whether something is forbidden for what came before."""
        return self.no_repeat_ngram_size > 0 or any(len(word) > 1 for word in self.bad_words)

    def after(self, history: Ints) -> tuple[Ints, Ints]:
        """Return rows, and the token that each may not write next, for what it has written.

        `history`, [N, L], begins with the start token. A pair may be there twice.
        """
        rows, tokens = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        size, length = self.no_repeat_ngram_size, history.shape[1]
        if 0 < size <= length:
            # Every place where the last `size - 1` tokens have stood before.
            windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)
            last = history[:, None, length - size + 1 :]
            again, places = np.nonzero((windows[:, :, :-1] == last).all(axis=2))
            rows.append(again)
            tokens.append(windows[again, places, -1])
        for *before, word in self.bad_words:
            if before and len(before) < length:
                due = np.flatnonzero((history[:, -len(before) :] == before).all(axis=1))
                rows.append(due)
                tokens.append(np.full(len(due), word))
        return np.concatenate(rows), np.concatenate(tokens)
