"""The rules of a model, applied to the few best candidates that a step graph returns per row.

`rules` applies the same rules, and more, to the scores of a whole vocabulary.
"""

from dataclasses import dataclass, field

import numpy as np

from service.families.translation.search.decoding import Bools, Ints, LogProbs
from service.families.translation.search.rules import EarlyStopping, TokenBans


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What a model demands of every search."""

    start_id: int
    eos_ids: tuple[int, ...]
    forced_first_id: int | None = None
    """Forced first token, unless a sentence's decoding names another."""
    forced_last_id: int | None = None
    """Forced token at the limit."""
    early_stopping: EarlyStopping = False
    """As in transformers: beam search ends at the first `num_beams` hypotheses (True), when a
    better one is unlikely (False) or when a better one is impossible ("never")."""
    bans: TokenBans = field(default_factory=TokenBans)
    repetition_penalty: float = 1.0
    """Scores of tokens already in the text are multiplied by it if negative, else divided."""
    last_is_forced: bool = False
    """The scores given to the search already force a token at the limit."""

    def __post_init__(self) -> None:
        if self.repetition_penalty < 1:
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty:g}: below 1 it makes tokens more "
                "probable that are not among a step graph's few candidates; serve the model from "
                "its plain export"
            )

    @property
    def candidates_per_beam(self) -> int:
        """Return how many candidates a beam needs: enough go on even if every beam ends."""
        return max(2, 1 + len(self.eos_ids))

    def ends(self, tokens: Ints) -> Bools:
        """Tell which tokens end a text."""
        first, *others = self.eos_ids
        ends: Bools = tokens == first
        for eos_id in others:
            ends |= tokens == eos_id
        return ends


class CandidateRules:
    """Applies bans and the repetition penalty to candidates of H hypotheses.

    Hypotheses are `written` [H, T]; the first `steps` [H] tokens of each count.
    """

    def __init__(self, rules: SearchRules) -> None:
        self._start_id, self._penalty = rules.start_id, np.float32(rules.repetition_penalty)
        self._bans, self._always = rules.bans, np.array(rules.bans.always, np.int64)

    @property
    def is_empty(self) -> bool:
        """Tell whether no rule ever changes a score."""
        return self._penalty == 1 and not len(self._always) and not self._bans.looks_back

    def extra_candidates(self, written: Ints, steps: Ints) -> int:
        """Return how many more candidates a row needs to make up for those the rules remove."""
        most = len(self._always)
        if self._bans.looks_back:
            hypotheses, _ = self._banned(written, steps)
            most += int(np.bincount(hypotheses).max(initial=0))
        if self._penalty != 1:
            most += int(steps.max(initial=0)) + 1
        return _rounded_up(most)

    def apply(self, ids: Ints, scores: LogProbs, written: Ints, steps: Ints) -> LogProbs:
        """Return the scores of candidates [H, C]: penalised, or -inf where a token is banned."""
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
        """Return pairs of a hypothesis and a token that its text forbids next."""
        found, banned = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for count in np.unique(steps):
            rows = np.flatnonzero(steps == count)
            start = np.full((len(rows), 1), self._start_id)
            history = np.concatenate([start, written[rows, :count]], axis=1)
            places, tokens = self._bans.after(history)
            found.append(rows[places])
            banned.append(tokens)
        return np.concatenate(found), np.concatenate(banned)

    def _is_written(self, ids: Ints, written: Ints, steps: Ints) -> Bools:
        """Tell which candidates are in the hypothesis's text, the start token included."""
        longest = int(steps.max(initial=0))
        counts = np.arange(longest) < steps[:, None]
        text = np.where(counts, written[:, :longest], self._start_id)
        known: Bools = (ids[:, :, None] == text[:, None, :]).any(axis=2)
        known |= ids == self._start_id
        return known


def _rounded_up(count: int) -> int:
    """Return a power of two: every number of candidates binds buffers of its own."""
    return 1 << (count - 1).bit_length() if count else 0
