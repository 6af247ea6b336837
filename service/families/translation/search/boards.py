"""Which token comes next, for sentences that are each at a step of their own.

A board holds the running searches of one kind, greedy or with so many beams, as arrays: one
line a sentence. Its owner runs the decoder on the rows of all boards, hands `ids` and `logprobs`
to `advance`, takes who is done, and gives the hypotheses that go on (`tokens`, `parents`) new
rows with `place`. Boards know no session and no cache.

The semantics are those of `generate` in transformers 4.57, token for token: its greedy search
and its beam search, so that a model trained and judged there answers the same here.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.decoding import Decoding, Hypothesis
from service.families.translation.search.rules import TokenBans

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
EarlyStopping: TypeAlias = bool | Literal["never"]

NEVER = np.float32(-1e9)
"""The score of what cannot be; transformers' own number, as its sums and ties depend on it."""

FREE = -1
"""In place of a first token, where any will do."""


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What a model asks of every search for a translation."""

    start_id: int
    eos_id: int
    forced_first_id: int | None = None
    """Written first whatever is probable, where a sentence's decoding says no other."""
    forced_last_id: int | None = None
    """Written when the limit of tokens is reached."""
    early_stopping: EarlyStopping = False
    """When beam search ends: True as soon as there are as many hypotheses as beams, False when
    nothing now running looks better than they are, "never" when nothing can become better."""
    bans: TokenBans = field(default_factory=TokenBans)
    repetition_penalty: float = 1.0
    """Of tokens that were written before: a score under 0 is multiplied by it, others divided."""

    def __post_init__(self) -> None:
        if self.repetition_penalty < 1:
            raise ValueError(
                f"repetition_penalty is {self.repetition_penalty:g}: tokens that were written "
                "before would become more probable, which a step graph's few candidates cannot "
                "tell; such a model is served from its plain export"
            )


class Finished(NamedTuple):
    """A sentence whose search is over."""

    key: Hashable
    found: Sequence[Hypothesis]
    """Best first; greedy search finds one."""


class SearchBatch(Protocol):
    """What greedy and beam boards promise."""

    tokens: Ints
    """[N]: the next token of each hypothesis that goes on."""
    parents: Ints
    """[N]: the row that each of them continues."""

    def __len__(self) -> int:
        """Return how many sentences are searched for."""
        ...

    @property
    def stands_still(self) -> bool:
        """Tell whether all hypotheses go on in their rows, as they did before the last step."""
        ...

    @property
    def rows(self) -> Ints:
        """Return where the hypotheses were at the last step."""
        ...

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
        ...

    @property
    def wants_scores(self) -> bool:
        """Tell whether `advance` wants scores in the place of log-probabilities."""
        ...

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Begin a sentence, in one row whatever the number of beams."""
        ...

    def advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        """Take the best next tokens of every row, [rows, candidates]; return who is done."""
        ...

    def place(self, rows: Ints) -> None:
        """Take note of where the hypotheses of `tokens` and `parents` are now."""
        ...

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences. Between `advance` and `place`."""
        ...

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here."""
        ...


_COLUMNS = 5


class SequenceTable:
    """What both boards keep of their sentences, a line each."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []
        self._hold(np.zeros((_COLUMNS, 0), np.int64), np.zeros(0))

    def add(self, key: Hashable, decoding: Decoding, rules: SearchRules) -> None:
        """Begin a sentence."""
        first_id = rules.forced_first_id if decoding.first_id is None else decoding.first_id
        numbers = [
            0,
            decoding.max_new_tokens,
            decoding.min_new_tokens,
            decoding.loop_window,
            FREE if first_id is None else first_id,
        ]
        self.keys.append(key)
        self._hold(
            np.append(self._numbers, np.array(numbers)[:, None], axis=1),
            np.append(self.penalties, decoding.length_penalty),
        )

    def keep(self, stay: NDArray[np.bool_]) -> None:
        """Forget all others."""
        self.keys = [key for key, stays in zip(self.keys, stay.tolist(), strict=True) if stays]
        self._hold(self._numbers[:, stay], self.penalties[stay])

    def must_begin(self) -> NDArray[np.bool_]:
        """Tell whose next token is the first, and not free."""
        due: NDArray[np.bool_] = (self.steps == 0) & (self.first_ids != FREE)
        return due

    def quiet_steps(self, width: int) -> int:
        """Return for how many steps a sentence can only go on, or end by its end token.

        No limit is reached in them, nobody has to begin or may not end yet, no loop is long
        enough to be one, and what is written fits into so many places.
        """
        steps = self.steps
        if not len(steps) or self.must_begin().any() or (steps < self.least).any():
            return 0
        lasting = int((self.limits - steps).min()) - 1
        if (windows := self.loop_windows).any():
            lasting = min(lasting, int((windows - steps)[windows > 0].min()) - 1)
        return max(0, min(lasting, width - int(steps.max())))

    def _hold(self, numbers: Ints, penalties: NDArray[np.float64]) -> None:
        self._numbers, self.penalties = numbers, penalties
        self.steps, self.limits, self.least, self.loop_windows, self.first_ids = numbers


def wide_enough(written: Any, steps: int, more_lines: int) -> Any:
    """Return the array with room for so many tokens, doubled, and so many lines added."""
    lines, *others, width = written.shape
    wanted = width
    while wanted < steps:
        wanted *= 2
    if wanted == width and not more_lines:
        return written
    grown = np.zeros((lines + more_lines, *others, wanted), np.int64)
    grown[:lines, ..., :width] = written
    return grown


def others_than(keys: Sequence[Hashable], dropped: frozenset[Hashable]) -> NDArray[np.bool_]:
    """Tell which of the keys stay."""
    return np.array([key not in dropped for key in keys], np.bool_)


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
