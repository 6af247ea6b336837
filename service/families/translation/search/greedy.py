"""Greedy search for sentences that are each at a step of their own."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.boards import (
    Finished,
    Floats,
    Ints,
    NextTokens,
    SearchRules,
    SequenceTable,
    others_than,
    wide_enough,
)
from service.families.translation.search.decoding import Decoding, Hypothesis
from service.families.translation.search.repetition import looping_at, said_once


class GreedyBoard:
    """The most probable token at every step."""

    def __init__(self, rules: SearchRules) -> None:
        self._rules, self._next = rules, NextTokens(rules)
        self._lines = SequenceTable()
        self._rows = np.zeros(0, np.int64)
        self._written = np.zeros((0, 16), np.int64)
        self.tokens = self.parents = self._rows
        self._quiet: int | None = None
        """Steps in which nothing can happen but that a token ends a sentence; None where that is
        to be found out."""

    def __repr__(self) -> str:
        return f"<GreedyBoard {len(self)} running>"

    def __len__(self) -> int:
        return len(self._lines.keys)

    @property
    def stands_still(self) -> bool:
        """Tell whether all go on in their rows, as they did before the last step."""
        return self.parents is self._rows

    @property
    def rows(self) -> Ints:
        """Return where everybody was at the last step."""
        return self._rows

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
        if self._quiet is None:
            self._quiet = self._count_quiet()
        if self._quiet:
            return 1
        more = self._next.more(self._written, self._lines.steps)
        return 1 + bool((self._lines.steps < self._lines.least).any()) + more

    @property
    def wants_scores(self) -> bool:
        """Tell whether there is a penalty: transformers lays it on scores in greedy search."""
        return self._rules.repetition_penalty != 1

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Begin a sentence."""
        self._lines.add(key, decoding, self._rules)
        self._rows = np.append(self._rows, row)
        self._written = wide_enough(self._written, 0, 1)
        self._quiet = None

    def advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        """Take the most probable tokens; return who is done."""
        if self._quiet:
            self._quiet -= 1
            return self._go_on(ids[self._rows, 0])
        return self._advance(ids, logprobs)

    def _go_on(self, tokens: Ints) -> Sequence[Finished]:
        """Take the tokens of a quiet step."""
        self._written[np.arange(len(tokens)), self._lines.steps] = tokens
        self._lines.steps += 1
        self.tokens, self.parents = tokens, self._rows
        ended = tokens == self._rules.eos_id
        if not ended.any():
            return ()
        finished = [self._result(line, True, True) for line in np.flatnonzero(ended).tolist()]
        self._let_go(~ended)
        return finished

    def _count_quiet(self) -> int:
        return self._lines.quiet_steps(self._written.shape[1]) if self._next.takes_any else 0

    def _advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        lines, rules = self._lines, self._rules
        tokens, scores = ids[self._rows], logprobs[self._rows]
        scores = self._next.judged(tokens, scores, self._written, lines.steps)
        early = (lines.steps < lines.least)[:, None] & (tokens == rules.eos_id)
        best = np.where(early, -np.inf, scores).argmax(axis=1)
        tokens = tokens[np.arange(len(tokens)), best]
        natural = tokens == rules.eos_id
        tokens = np.where(lines.must_begin(), lines.first_ids, tokens)
        if rules.forced_last_id is not None:
            tokens = np.where(lines.steps == lines.limits - 1, rules.forced_last_id, tokens)
        self._written = wide_enough(self._written, int(lines.steps.max()) + 1, 0)
        self._written[np.arange(len(tokens)), lines.steps] = tokens
        lines.steps += 1
        ended = tokens == rules.eos_id
        stay = ~(ended | (lines.steps >= lines.limits))
        finished = [
            self._result(line, bool(ended[line]), bool(natural[line]))
            for line in np.flatnonzero(~stay).tolist()
        ]
        for line, length in looping_at(self._written, lines.steps, lines.loop_windows * stay):
            ids = said_once(self._written[line, : lines.steps[line]], length).copy()
            hypothesis = Hypothesis(ids, False, ran_into_loop=True)
            finished.append(Finished(lines.keys[line], [hypothesis]))
            stay[line] = False
        self.tokens, self.parents = tokens, self._rows
        self._quiet = None
        if finished:
            self._let_go(stay)
        return finished

    def place(self, rows: Ints) -> None:
        """Take note of where the hypotheses are now."""
        self._rows = rows

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        stay = others_than(self._lines.keys, keys)
        self._let_go(stay)

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here."""
        lines = zip(self._lines.keys, self._written, self._lines.steps, strict=True)
        return [(key, written[:steps].copy()) for key, written, steps in lines]

    def _result(self, line: int, ended: bool, natural: bool) -> Finished:
        ids = self._written[line, : self._lines.steps[line] - ended].copy()
        return Finished(self._lines.keys[line], [Hypothesis(ids, natural)])

    def _let_go(self, stay: NDArray[np.bool_]) -> None:
        """Forget all others."""
        self.tokens, self.parents = self.tokens[stay], self.parents[stay]
        self._lines.keep(stay)
        self._written = self._written[stay]
