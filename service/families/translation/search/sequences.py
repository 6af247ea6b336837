"""Searches of sentences that are each at a step of their own.

A `SearchBatch` holds the running searches of one kind, greedy or with a number of beams, as
arrays. Its owner runs the decoder on the rows of all hypotheses, hands the best candidates of
every row to `advance`, receives the sentences that are finished, and assigns rows to the
hypotheses that continue (`tokens`, `parents`) with `place`. It knows no session and no cache.

The semantics are those of `generate` in transformers 4.57, token for token: its greedy search
and its beam search, so that a model trained and evaluated there answers the same here.
"""

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import (
    Bools,
    Decoding,
    Finished,
    Ints,
    LogProbs,
)
from service.families.translation.search.rules import UNFORCED


class SearchBatch(Protocol):
    """What greedy and beam search have in common."""

    tokens: Ints
    """[N]: the next token of each hypothesis that continues."""
    parents: Ints
    """[N]: the row that each of them continues."""

    def __len__(self) -> int:
        """Return how many sentences are running."""
        ...

    @property
    def stands_still(self) -> bool:
        """Tell whether every hypothesis continues in the row of its parent."""
        ...

    @property
    def rows(self) -> Ints:
        """Return the rows of the hypotheses at the last step."""
        ...

    @property
    def candidates(self) -> int:
        """Return how many candidates per row `advance` needs."""
        ...

    @property
    def needs_scores(self) -> bool:
        """Tell whether `advance` needs the scores before they are made log-probabilities."""
        ...

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Start a sentence, in one row whatever the number of beams."""
        ...

    def advance(self, ids: Ints, scores: LogProbs) -> Sequence[Finished]:
        """Take the best candidates of every row, [rows, candidates]; return who is finished."""
        ...

    def place(self, rows: Ints) -> None:
        """Set the rows of the hypotheses in `tokens` and `parents`."""
        ...

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences. Only between `advance` and `place`."""
        ...

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return the text so far of every sentence's best hypothesis."""
        ...


_COLUMNS = 5


class SequenceTable:
    """The options and the length of every running sentence, one line each."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []
        self._set(np.zeros((_COLUMNS, 0), np.int64), np.zeros(0))

    def add(self, key: Hashable, decoding: Decoding, rules: SearchRules) -> None:
        """Start a sentence."""
        first_id = rules.forced_first_id if decoding.first_id is None else decoding.first_id
        numbers = [
            0,
            decoding.max_new_tokens,
            decoding.min_new_tokens,
            decoding.repetition_window,
            UNFORCED if first_id is None else first_id,
        ]
        self.keys.append(key)
        self._set(
            np.append(self._numbers, np.array(numbers)[:, None], axis=1),
            np.append(self.penalties, decoding.length_penalty),
        )

    def keep(self, stay: Bools) -> None:
        """Forget all other sentences."""
        self.keys = [key for key, stays in zip(self.keys, stay.tolist(), strict=True) if stays]
        self._set(self._numbers[:, stay], self.penalties[stay])

    def others_than(self, keys: frozenset[Hashable]) -> Bools:
        """Tell which sentences are not among the keys."""
        return np.array([key not in keys for key in self.keys], np.bool_)

    @property
    def first_is_forced(self) -> Bools:
        """Tell which sentences' next token is the first one, and forced."""
        due: Bools = (self.steps == 0) & (self.first_ids != UNFORCED)
        return due

    @property
    def may_not_end(self) -> Bools:
        """Tell which sentences are shorter than their least length."""
        early: Bools = self.steps < self.min_lengths
        return early

    def quiet_steps(self, width: int) -> int:
        """Return for how many steps a sentence can only continue, or end by its end token.

        In these steps no limit is reached, no first token is forced, every sentence may end, none
        is long enough to be stopped as repetitive, and the texts fit into `width` tokens.
        """
        steps = self.steps
        if not len(steps) or self.first_is_forced.any() or self.may_not_end.any():
            return 0
        lasting = int((self.limits - steps).min()) - 1
        if (windows := self.windows).any():
            lasting = min(lasting, int((windows - steps)[windows > 0].min()) - 1)
        return max(0, min(lasting, width - int(steps.max())))

    def _set(self, numbers: Ints, penalties: NDArray[np.float64]) -> None:
        self._numbers, self.penalties = numbers, penalties
        self.steps, self.limits, self.min_lengths, self.windows, self.first_ids = numbers


def wide_enough(written: Any, steps: int, more_lines: int) -> Any:
    """Return the array with room for this many tokens, by doubling, and with more lines."""
    lines, *others, width = written.shape
    wanted = width
    while wanted < steps:
        wanted *= 2
    if wanted == width and not more_lines:
        return written
    grown = np.zeros((lines + more_lines, *others, wanted), np.int64)
    grown[:lines, ..., :width] = written
    return grown
