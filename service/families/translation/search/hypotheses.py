"""Which token comes next: greedy and beam search over a batch, as plain arrays.

A search knows no session. Its owner runs the decoder on `tokens`, `beam_idx` and
`sentence_idx`, hands the log-probabilities to `advance`, and repeats until `is_finished`.
A sentence that is done leaves the running rows at once, so nobody computes for it any more.

The semantics are those of `generate` in transformers 4.50 and later with `early_stopping=False`,
so that a model trained and judged there answers the same here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.repetition import looping, said_once
from service.tasks import FinishReason

Ints = NDArray[np.int64]
LogProbs = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a translation is searched for. Works of the same decoding share a batch."""

    num_beams: int
    length_penalty: float
    """A hypothesis is worth its log-probability / length ** length_penalty."""
    max_new_tokens: int
    """The end token counts as one."""
    min_new_tokens: int = 0
    """No end before so many tokens."""
    first_id: int | None = None
    """What a translation begins with whatever is probable, e.g. its language; in flight only."""
    loop_window: int = 0
    """A search stops where its best last tokens, so many, say one phrase over and over; 0 never."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One of a finished search's answers."""

    ids: Ints
    """Without the end token."""
    is_complete: bool
    """Whether the model ended it, rather than a limit."""
    score: float = nan
    """Its log-probability / length ** length_penalty; NaN from greedy search, which keeps none."""
    ran_into_loop: bool = False
    """Whether the search was stopped as it said the same over and over. Of what it said then there
    is one round; other hypotheses had come to their end before."""

    @property
    def finish_reason(self) -> FinishReason:
        """Tell why nothing more was written."""
        if self.ran_into_loop:
            return FinishReason.REPETITION
        return FinishReason.STOP if self.is_complete else FinishReason.LENGTH


class Search(Protocol):
    """What greedy and beam search promise."""

    tokens: Ints
    """[N]: the last token of each running row."""
    beam_idx: Ints
    """[N]: which row of the step before each row continues."""
    sentence_idx: Ints
    """[N]: which sentence of the batch each row belongs to."""

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        ...

    def advance(self, logprobs: LogProbs) -> None:
        """Take the log-probabilities of the running rows' next tokens, [N, V]."""
        ...

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of every sentence, best first. Only when finished."""
        ...


def start_search(sentences: int, decoding: Decoding, start_id: int, eos_id: int) -> Search:
    """Return a search over so many sentences; one beam is greedy search."""
    search = GreedySearch if decoding.num_beams == 1 else BeamSearch
    return search(sentences, decoding, start_id, eos_id)


class GreedySearch:
    """The most probable token at every step."""

    def __init__(self, sentences: int, decoding: Decoding, start_id: int, eos_id: int) -> None:
        self._decoding, self._eos_id = decoding, eos_id
        self._written = np.empty((sentences, decoding.max_new_tokens), np.int64)
        self._lengths = np.full(sentences, decoding.max_new_tokens)
        self._is_complete = np.zeros(sentences, np.bool_)
        self._loops: set[int] = set()
        self._steps = 0
        self.tokens = np.full(sentences, start_id, np.int64)
        self.beam_idx = np.arange(sentences)
        self.sentence_idx = np.arange(sentences)

    def __repr__(self) -> str:
        return f"<GreedySearch {len(self.tokens)} running, {self._steps} steps>"

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        return not self.tokens.size

    def advance(self, logprobs: LogProbs) -> None:
        """Take the log-probabilities of the running rows' next tokens, [N, V]."""
        logprobs = _without_early_end(logprobs, self._eos_id, self._decoding, self._steps)
        tokens = logprobs.argmax(axis=1)
        self._written[self.sentence_idx, self._steps] = tokens
        ends = tokens == self._eos_id
        self._lengths[self.sentence_idx[ends]] = self._steps
        self._is_complete[self.sentence_idx[ends]] = True
        self._steps += 1
        goes_on = ~ends & (self._steps < self._decoding.max_new_tokens)
        self._stop_loops(goes_on)
        self.tokens, self.beam_idx = tokens[goes_on], np.flatnonzero(goes_on)
        self.sentence_idx = self.sentence_idx[goes_on]

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return every sentence's tokens."""
        rows = zip(self._written, self._lengths, self._is_complete, strict=True)
        return [
            [Hypothesis(row[:length], bool(is_complete), ran_into_loop=sentence in self._loops)]
            for sentence, (row, length, is_complete) in enumerate(rows)
        ]

    def _stop_loops(self, goes_on: NDArray[np.bool_]) -> None:
        steps, window = self._steps, self._decoding.loop_window
        if not 0 < window <= steps:
            return
        written = self._written[self.sentence_idx, :steps]
        for row, length in looping(written, window):
            if goes_on[row]:
                sentence = int(self.sentence_idx[row])
                self._lengths[sentence] = len(said_once(written[row], length))
                self._loops.add(sentence)
                goes_on[row] = False


@dataclass(eq=False, slots=True)
class _Pool:
    """The best finished hypotheses of one sentence, at most `size`."""

    size: int
    scored: list[tuple[float, Hypothesis]] = field(default_factory=list)
    ran_into_loop: bool = False

    def add(self, score: float, hypothesis: Hypothesis) -> None:
        """Take it in if there is room or it is better than the worst, which then leaves."""
        if self.is_full:
            if score <= self.worst:
                return
            scores = [known for known, _ in self.scored]
            del self.scored[scores.index(min(scores))]
        self.scored.append((score, hypothesis))

    @property
    def is_full(self) -> bool:
        return len(self.scored) == self.size

    @property
    def worst(self) -> float:
        return min(score for score, _ in self.scored)

    @property
    def best_first(self) -> list[Hypothesis]:
        """Return all; of equals the one found last comes first."""
        ordered = sorted(reversed(self.scored), key=lambda pair: -pair[0])
        return [
            replace(one, score=score, ran_into_loop=self.ran_into_loop) for score, one in ordered
        ]


class BeamSearch:
    """Keeps the `num_beams` most probable beginnings of each sentence."""

    def __init__(self, sentences: int, decoding: Decoding, start_id: int, eos_id: int) -> None:
        self._decoding, self._eos_id = decoding, eos_id
        self._pools = [_Pool(decoding.num_beams) for _ in range(sentences)]
        self._running = np.arange(sentences)
        # All beams of a sentence begin alike, so one row stands for them at the first step.
        self._scores = np.zeros((sentences, 1), np.float32)
        self._written = np.empty((sentences, 1, 0), np.int64)
        self._steps = 0
        self.tokens = np.full(sentences, start_id, np.int64)
        self.beam_idx = np.arange(sentences)
        self.sentence_idx = np.arange(sentences)

    def __repr__(self) -> str:
        return f"<BeamSearch {len(self._running)} running, {self._steps} steps>"

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        return not self._running.size

    def advance(self, logprobs: LogProbs) -> None:
        """Take the log-probabilities of the running rows' next tokens, [N, V]."""
        logprobs = _without_early_end(logprobs, self._eos_id, self._decoding, self._steps)
        sentences, beams = self._scores.shape
        vocabulary = logprobs.shape[1]
        scores = logprobs.reshape(sentences, beams, vocabulary) + self._scores[:, :, None]
        # Twice as many candidates as beams: even if every beam ends, enough of them go on.
        scores, chosen = _largest(scores.reshape(sentences, -1), 2 * self._decoding.num_beams)
        parents, tokens = np.divmod(chosen, vocabulary)
        self._steps += 1
        self._keep_ended(scores, parents, tokens)
        first_running = np.argmin(tokens == self._eos_id, axis=1)  # the best that does not end
        goes_on = ~self._is_decided(scores[np.arange(sentences), first_running])
        self._continue(goes_on, scores, parents, tokens)
        if self._steps == self._decoding.max_new_tokens:
            self._stop()
        else:
            self._stop_loops()

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of every sentence, best first."""
        return [pool.best_first for pool in self._pools]

    def _worth(self, logprob: Any) -> Any:
        return logprob / self._steps**self._decoding.length_penalty

    def _keep_ended(self, scores: LogProbs, parents: Ints, tokens: Ints) -> None:
        """Pool what ends here, unless better candidates would fill all the beams."""
        ends = tokens[:, : self._decoding.num_beams] == self._eos_id
        for sentence, candidate in zip(*np.nonzero(ends), strict=True):
            ids = self._written[sentence, parents[sentence, candidate]]
            worth = self._worth(float(scores[sentence, candidate]))
            self._pools[self._running[sentence]].add(worth, Hypothesis(ids, True))

    def _is_decided(self, best: LogProbs) -> NDArray[np.bool_]:
        """Tell which sentences have a full pool that nothing now running is likely to beat."""
        pools = [self._pools[sentence] for sentence in self._running]
        worst = np.array([pool.worst if pool.is_full else -np.inf for pool in pools])
        decided: NDArray[np.bool_] = worst >= self._worth(best.astype(np.float64))
        return decided

    def _continue(
        self, goes_on: NDArray[np.bool_], scores: LogProbs, parents: Ints, tokens: Ints
    ) -> None:
        """Let the best candidates that do not end be the beams of the sentences that go on."""
        ends = tokens[goes_on] == self._eos_id
        beams = np.argsort(ends, axis=1, kind="stable")[:, : self._decoding.num_beams]
        rows = np.flatnonzero(goes_on)[:, None]
        parents, tokens = parents[rows, beams], tokens[rows, beams]
        before = self._scores.shape[1]
        self._scores = scores[rows, beams]
        self._written = np.concatenate([self._written[rows, parents], tokens[:, :, None]], axis=2)
        self._running = self._running[goes_on]
        self.tokens = tokens.ravel()
        self.beam_idx = (rows * before + parents).ravel()
        self.sentence_idx = np.repeat(self._running, beams.shape[1])

    def _stop(self) -> None:
        """Pool what still runs: the limit of tokens is reached."""
        for sentence, scores, written in zip(
            self._running, self._scores, self._written, strict=True
        ):
            for score, ids in zip(scores, written, strict=True):
                self._pools[sentence].add(self._worth(float(score)), Hypothesis(ids, False))
        self._running = self._running[:0]

    def _stop_loops(self) -> None:
        """Let sentences leave whose best beam says the same over and over."""
        window, beams = self._decoding.loop_window, self._decoding.num_beams
        if not 0 < window <= self._steps:
            return
        goes_on = np.ones(len(self._running), np.bool_)
        for line, length in looping(self._written[:, 0], window):
            pool = self._pools[self._running[line]]
            pool.ran_into_loop = True
            if not pool.scored:
                ids = said_once(self._written[line, 0], length)
                pool.add(self._worth(float(self._scores[line, 0])), Hypothesis(ids, False))
            goes_on[line] = False
        rows = np.repeat(goes_on, beams)
        self._running, self._scores = self._running[goes_on], self._scores[goes_on]
        self._written = self._written[goes_on]
        self.tokens, self.beam_idx = self.tokens[rows], self.beam_idx[rows]
        self.sentence_idx = self.sentence_idx[rows]


def _largest(values: LogProbs, count: int) -> tuple[LogProbs, Ints]:
    """Return the largest values of each row, descending, and where they are; ties by place."""
    places = np.argpartition(values, values.shape[1] - count, axis=1)[:, -count:]
    places.sort(axis=1)
    found = np.take_along_axis(values, places, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(places, order, axis=1)


def _without_early_end(logprobs: LogProbs, eos_id: int, decoding: Decoding, steps: int) -> LogProbs:
    if steps >= decoding.min_new_tokens:
        return logprobs
    logprobs = logprobs.copy()
    logprobs[:, eos_id] = -np.inf
    return logprobs
