"""Which token comes next, for sentences that are each at a step of their own.

A board holds the running searches of one kind, greedy or with so many beams, as arrays: one
line a sentence. Its owner runs the decoder on the rows of all boards, hands `ids` and `logprobs`
to `advance`, takes who is done, and gives the hypotheses that go on (`tokens`, `parents`) new
rows with `place`. Boards know no session and no cache.

The semantics are those of `generate` in transformers 4.57, token for token: its greedy search
and its beam search, so that a model trained and judged there answers the same here.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families.decoding import Decoding

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float32]
EarlyStopping: TypeAlias = bool | Literal["never"]

_NEVER = np.float32(-1e9)
"""The score of what cannot be; transformers' own number, as its sums and ties depend on it."""

_ABSENT = -1


@dataclass(frozen=True, slots=True)
class SearchRules:
    """What a model asks of every search for a translation."""

    start_id: int
    eos_id: int
    forced_first_id: int | None = None
    """Written first whatever is probable, e.g. the target language."""
    forced_last_id: int | None = None
    """Written when the limit of tokens is reached."""
    early_stopping: EarlyStopping = False
    """When beam search ends: True as soon as there are as many hypotheses as beams, False when
    nothing now running looks better than they are, "never" when nothing can become better."""


class Found(NamedTuple):
    """A hypothesis that a search ended with."""

    ids: Ints
    """Without the end token."""
    score: float
    """Its log-probability / length ** length_penalty; 0 from greedy search, which keeps none."""
    is_complete: bool
    """Whether the model ended it, rather than the limit of tokens."""


class Finished(NamedTuple):
    """A sentence whose search is over."""

    key: Hashable
    found: Sequence[Found]
    """Best first; greedy search finds one."""


class Board(Protocol):
    """What greedy and beam boards promise."""

    tokens: Ints
    """[N]: the next token of each hypothesis that goes on."""
    parents: Ints
    """[N]: the row that each of them continues."""

    def __len__(self) -> int:
        """Return how many sentences are searched for."""
        ...

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
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


def open_board(num_beams: int, rules: SearchRules) -> Board:
    """Return an empty board for sentences of so many beams; one is greedy search."""
    return GreedyBoard(rules) if num_beams == 1 else BeamBoard(num_beams, rules)


@dataclass(slots=True)
class _Lines:
    """What both boards keep of their sentences, a line each."""

    keys: list[Hashable] = field(default_factory=list)
    steps: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    limits: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    least: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """No end before so many tokens."""
    penalties: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, key: Hashable, decoding: Decoding) -> None:
        self.keys.append(key)
        self.steps = np.append(self.steps, 0)
        self.limits = np.append(self.limits, decoding.max_new_tokens)
        self.least = np.append(self.least, decoding.min_new_tokens)
        self.penalties = np.append(self.penalties, decoding.length_penalty)

    def kept(self, stay: NDArray[np.bool_]) -> "_Lines":
        keys = [key for key, stays in zip(self.keys, stay, strict=True) if stays]
        return replace(
            self,
            keys=keys,
            steps=self.steps[stay],
            limits=self.limits[stay],
            least=self.least[stay],
            penalties=self.penalties[stay],
        )


class GreedyBoard:
    """The most probable token at every step."""

    def __init__(self, rules: SearchRules) -> None:
        self._rules = rules
        self._lines = _Lines()
        self._rows = np.zeros(0, np.int64)
        self._written = np.zeros((0, 16), np.int64)
        self.tokens = self.parents = self._rows

    def __repr__(self) -> str:
        return f"<GreedyBoard {len(self)} running>"

    def __len__(self) -> int:
        return len(self._lines.keys)

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
        return 2 if (self._lines.steps < self._lines.least).any() else 1

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Begin a sentence."""
        self._lines.add(key, decoding)
        self._rows = np.append(self._rows, row)
        self._written = _wide_enough(self._written, 0, 1)

    def advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        """Take the most probable tokens; return who is done."""
        lines, rules = self._lines, self._rules
        tokens = ids[self._rows, 0]
        early = (lines.steps < lines.least) & (tokens == rules.eos_id)
        if early.any():
            tokens = np.where(early, ids[self._rows, -1], tokens)
        natural = tokens == rules.eos_id
        if rules.forced_first_id is not None:
            tokens = np.where(lines.steps == 0, rules.forced_first_id, tokens)
        if rules.forced_last_id is not None:
            tokens = np.where(lines.steps == lines.limits - 1, rules.forced_last_id, tokens)
        self._written = _wide_enough(self._written, int(lines.steps.max()) + 1, 0)
        self._written[np.arange(len(tokens)), lines.steps] = tokens
        lines.steps += 1
        ended = tokens == rules.eos_id
        stay = ~(ended | (lines.steps >= lines.limits))
        finished = [
            self._result(line, bool(ended[line]), bool(natural[line]))
            for line in np.flatnonzero(~stay).tolist()
        ]
        self.tokens, self.parents = tokens[stay], self._rows[stay]
        if finished:
            self._keep(stay)
        return finished

    def place(self, rows: Ints) -> None:
        """Take note of where the hypotheses are now."""
        self._rows = rows

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        stay = _others(self._lines.keys, keys)
        self._keep(stay)
        self.tokens, self.parents = self.tokens[stay], self.parents[stay]

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here."""
        lines = zip(self._lines.keys, self._written, self._lines.steps, strict=True)
        return [(key, written[:steps].copy()) for key, written, steps in lines]

    def _result(self, line: int, ended: bool, natural: bool) -> Finished:
        ids = self._written[line, : self._lines.steps[line] - ended].copy()
        return Finished(self._lines.keys[line], [Found(ids, 0.0, natural)])

    def _keep(self, stay: NDArray[np.bool_]) -> None:
        self._lines = self._lines.kept(stay)
        self._written = self._written[stay]


class BeamBoard:
    """Keeps the `num_beams` most probable beginnings of each sentence."""

    def __init__(self, num_beams: int, rules: SearchRules) -> None:
        self._beams, self._rules = num_beams, rules
        self._lines = _Lines()
        self._rows = np.zeros((0, num_beams), np.int64)
        self._scores = np.zeros((0, num_beams), np.float32)
        self._written = np.zeros((0, num_beams, 16), np.int64)
        self._pools: list[_Pool] = []
        self.tokens = self.parents = np.zeros(0, np.int64)

    def __repr__(self) -> str:
        return f"<BeamBoard {len(self)} running with {self._beams} beams>"

    def __len__(self) -> int:
        return len(self._lines.keys)

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
        # Twice as many as beams: even if every beam ends, enough of them go on.
        return 2 * self._beams + bool((self._lines.steps < self._lines.least).any())

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Begin a sentence. All its beams begin alike, so one row stands for them."""
        self._lines.add(key, decoding)
        rows = np.full((1, self._beams), _ABSENT)
        rows[0, 0] = row
        self._rows = np.concatenate([self._rows, rows])
        scores = np.where(rows == _ABSENT, _NEVER, np.float32(0))
        self._scores = np.concatenate([self._scores, scores])
        self._written = _wide_enough(self._written, 0, 1)
        self._pools.append(_Pool(self._beams))

    def advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        """Choose the best continuations of every sentence; return who is done."""
        lines, beams = self._lines, self._beams
        tokens, parents, scores = self._best(ids, logprobs)
        self._written = _wide_enough(self._written, int(lines.steps.max()) + 1, 0)
        natural = tokens == self._rules.eos_id
        lines.steps += 1
        hits = natural | (lines.steps >= lines.limits)[:, None]
        self._keep_ended(tokens, parents, scores, hits & (np.arange(2 * beams) < beams))
        running = scores + hits * _NEVER
        order = np.argsort(-running, axis=1, kind="stable")[:, :beams]
        self._scores = np.take_along_axis(running, order, axis=1)
        parents, tokens = (np.take_along_axis(a, order, axis=1) for a in (parents, tokens))
        line = np.arange(len(tokens))[:, None]
        self._written = self._written[line, parents]
        self._written[line, np.arange(beams), (lines.steps - 1)[:, None]] = tokens
        stay = ~(self._is_decided() | hits.all(axis=1))
        finished = [
            Finished(lines.keys[index], self._pools[index].found) for index in np.flatnonzero(~stay)
        ]
        rows = np.take_along_axis(self._rows, parents, axis=1)
        self.tokens, self.parents = tokens[stay].ravel(), rows[stay].ravel()
        if finished:
            self._keep(stay)
        return finished

    def place(self, rows: Ints) -> None:
        """Take note of where the hypotheses are now."""
        self._rows = rows.reshape(-1, self._beams)

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        stay = _others(self._lines.keys, keys)
        self._keep(stay)
        of_hypotheses = np.repeat(stay, self._beams)
        self.tokens, self.parents = self.tokens[of_hypotheses], self.parents[of_hypotheses]

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here: its best beam."""
        lines = zip(self._lines.keys, self._written, self._lines.steps, strict=True)
        return [(key, written[0, :steps].copy()) for key, written, steps in lines]

    def _best(self, ids: Ints, logprobs: Floats) -> tuple[Ints, Ints, Floats]:
        """Return token, beam and score of twice as many continuations as beams, best first."""
        count = len(self)
        width = ids.shape[1]
        known = logprobs[self._rows]
        tokens = ids[self._rows]
        if self._rules.forced_first_id is not None or self._rules.forced_last_id is not None:
            tokens, known = self._forced(tokens, known)
        early = (self._lines.steps < self._lines.least)[:, None, None]
        known = np.where(early & (tokens == self._rules.eos_id), _NEVER, known)
        absent = (self._rows == _ABSENT)[:, :, None]
        total = np.where(absent, 2 * _NEVER, known + self._scores[:, :, None])
        total = total.reshape(count, -1)
        order = np.argsort(-total, axis=1, kind="stable")[:, : 2 * self._beams]
        scores = np.take_along_axis(total, order, axis=1)
        return np.take_along_axis(tokens.reshape(count, -1), order, axis=1), order // width, scores

    def _forced(self, tokens: Ints, known: Floats) -> tuple[Ints, Floats]:
        """Let the forced token be certain where it is due, and no other possible."""
        lines, rules = self._lines, self._rules
        tokens, known = tokens.copy(), known.copy()
        for forced, due in (
            (rules.forced_first_id, lines.steps == 0),
            (rules.forced_last_id, lines.steps == lines.limits - 1),
        ):
            if forced is None or not due.any():
                continue
            tokens[due, :, 0] = forced
            known[due] = -np.inf
            known[due, :, 0] = 0.0
        return tokens, known

    def _keep_ended(
        self, tokens: Ints, parents: Ints, scores: Floats, ended: NDArray[np.bool_]
    ) -> None:
        lines = self._lines
        for line, place in zip(*np.nonzero(ended), strict=True):
            steps = int(lines.steps[line])
            worth = scores[line, place] / np.float32(steps ** lines.penalties[line])
            token = tokens[line, place]
            ids = self._written[line, parents[line, place], : steps - 1]
            if token != self._rules.eos_id:
                ids = np.append(ids, token)
            is_complete = token == self._rules.eos_id and not self._is_forced(line)
            self._pools[line].add(Found(ids.copy(), float(worth), bool(is_complete)))

    def _is_forced(self, line: int) -> bool:
        is_last = self._lines.steps[line] == self._lines.limits[line]
        return bool(is_last) and self._rules.forced_last_id is not None

    def _is_decided(self) -> NDArray[np.bool_]:
        """Tell which sentences need not be searched any further."""
        full = np.array([pool.is_full for pool in self._pools])
        if self._rules.early_stopping is True:
            return full
        lines = self._lines
        lengths = lines.steps
        if self._rules.early_stopping == "never":
            lengths = np.where(lines.penalties > 0, lines.limits, lengths)
        possible = self._scores[:, 0] / (lengths**lines.penalties).astype(np.float32)
        worst = np.array([pool.worst for pool in self._pools], np.float32)
        decided: NDArray[np.bool_] = full & ~(possible > worst)
        return decided

    def _keep(self, stay: NDArray[np.bool_]) -> None:
        self._lines = self._lines.kept(stay)
        self._scores, self._written = self._scores[stay], self._written[stay]
        self._pools = [pool for pool, stays in zip(self._pools, stay, strict=True) if stays]


@dataclass(eq=False, slots=True)
class _Pool:
    """The best finished hypotheses of one sentence, at most `size`, best first."""

    size: int
    found: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Take it in; the worst leaves if it is one too many."""
        at = next((i for i, known in enumerate(self.found) if found.score > known.score), None)
        self.found.insert(len(self.found) if at is None else at, found)
        del self.found[self.size :]

    @property
    def is_full(self) -> bool:
        return len(self.found) == self.size

    @property
    def worst(self) -> float:
        return self.found[-1].score if self.found else float(_NEVER)


def _wide_enough(written: Any, steps: int, more_lines: int) -> Any:
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


def _others(keys: Sequence[Hashable], dropped: frozenset[Hashable]) -> NDArray[np.bool_]:
    return np.array([key not in dropped for key in keys], np.bool_)
