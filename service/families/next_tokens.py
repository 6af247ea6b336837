"""What a model's rules leave of the candidates for the next token, at a step of its own each.

The decoder gives the best candidates of each row, not the scores of a whole vocabulary. That is
enough to be exact: a rule can only take candidates away or lower them, and how many it may take
is known before the step, so that many more are asked for.
"""

import numpy as np
from numpy.typing import NDArray

from service.families.step_search import Floats, Ints, SearchRules


class NextTokens:
    """Judges candidates for hypotheses [H] that have each written [H, T], as far as `steps` [H]."""

    def __init__(self, rules: SearchRules) -> None:
        self._start_id, self._penalty = rules.start_id, np.float32(rules.repetition_penalty)
        self._bans, self._always = rules.bans, np.array(rules.bans.always, np.int64)

    @property
    def takes_any(self) -> bool:
        """Tell whether no rule ever takes a candidate away or lowers it."""
        return self._penalty == 1 and not len(self._always) and not self._bans.looks_back

    def more(self, written: Ints, steps: Ints) -> int:
        """Return how many more candidates a row must have, for so many the rules may take."""
        most = len(self._always)
        if self._bans.looks_back:
            hypotheses, _ = self._banned(written, steps)
            most += int(np.bincount(hypotheses).max(initial=0))
        if self._penalty != 1:
            most += int(steps.max(initial=0)) + 1
        return _rounded_up(most)

    def judged(self, ids: Ints, scores: Floats, written: Ints, steps: Ints) -> Floats:
        """Return the scores of candidates [H, C], lower or -inf where a rule says so."""
        if self._penalty != 1:
            known = self._is_written(ids, written, steps)
            lowered = np.where(scores < 0, scores * self._penalty, scores / self._penalty)
            scores = np.where(known, lowered, scores)
        if len(self._always):
            scores = np.where(np.isin(ids, self._always), -np.inf, scores)
        if self._bans.looks_back:
            hypotheses, tokens = self._banned(written, steps)
            which, candidate = np.nonzero(ids[hypotheses] == tokens[:, None])
            scores = scores.copy()
            scores[hypotheses[which], candidate] = -np.inf
        return scores

    def _banned(self, written: Ints, steps: Ints) -> tuple[Ints, Ints]:
        """Return hypotheses, and the token that each may not write next for what it has written."""
        found, banned = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for count in np.unique(steps):
            rows = np.flatnonzero(steps == count)
            start = np.full((len(rows), 1), self._start_id)
            history = np.concatenate([start, written[rows, :count]], axis=1)
            places, tokens = self._bans.after(history)
            found.append(rows[places])
            banned.append(tokens)
        return np.concatenate(found), np.concatenate(banned)

    def _is_written(self, ids: Ints, written: Ints, steps: Ints) -> NDArray[np.bool_]:
        """Tell which candidates a hypothesis has written before; all have the start token."""
        longest = int(steps.max(initial=0))
        counts = np.arange(longest) < steps[:, None]
        said = np.where(counts, written[:, :longest], self._start_id)
        before: NDArray[np.bool_] = (ids[:, :, None] == said[:, None, :]).any(axis=2)
        before |= ids == self._start_id
        return before


def _rounded_up(count: int) -> int:
    """Return a power of two: memory is bound anew for every number of candidates."""
    return 1 << (count - 1).bit_length() if count else 0
