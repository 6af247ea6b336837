"""Beam search for sentences that are each at a step of their own."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.boards import (
    NEVER,
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

_ABSENT = -1


class BeamBoard:
    """Keeps the `num_beams` most probable beginnings of each sentence."""

    def __init__(self, num_beams: int, rules: SearchRules) -> None:
        self._beams, self._rules, self._next = num_beams, rules, NextTokens(rules)
        self._lines = SequenceTable()
        self._rows = np.zeros((0, num_beams), np.int64)
        self._scores = np.zeros((0, num_beams), np.float32)
        self._written = np.zeros((0, num_beams, 16), np.int64)
        self._pools: list[_Pool] = []
        self.tokens = self.parents = np.zeros(0, np.int64)
        self._quiet = 0
        """Steps in which nothing can happen but that hypotheses end by their end token."""

    def __repr__(self) -> str:
        return f"<BeamBoard {len(self)} running with {self._beams} beams>"

    def __len__(self) -> int:
        return len(self._lines.keys)

    @property
    def stands_still(self) -> bool:
        """Tell whether all go on in their rows, as they did before the last step."""
        return np.array_equal(self.parents, self.rows)

    @property
    def rows(self) -> Ints:
        """Return where everybody was at the last step."""
        return self._rows.ravel()

    @property
    def candidates(self) -> int:
        """Return how many candidates a row `advance` wants to see."""
        # Twice as many as beams: even if every beam ends, enough of them go on.
        if self._quiet:
            return 2 * self._beams
        written, steps = self._of_hypotheses()
        more = bool((self._lines.steps < self._lines.least).any()) + self._next.more(written, steps)
        return 2 * self._beams + more

    @property
    def wants_scores(self) -> bool:
        """Tell that it does not."""
        return False

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Begin a sentence. All its beams begin alike, so one row stands for them."""
        self._lines.add(key, decoding, self._rules)
        rows = np.full((1, self._beams), _ABSENT)
        rows[0, 0] = row
        self._rows = np.concatenate([self._rows, rows])
        scores = np.where(rows == _ABSENT, NEVER, np.float32(0))
        self._scores = np.concatenate([self._scores, scores])
        self._written = wide_enough(self._written, 0, 1)
        self._pools.append(_Pool(self._beams))
        self._quiet = 0

    def advance(self, ids: Ints, logprobs: Floats) -> Sequence[Finished]:
        """Choose the best continuations of every sentence; return who is done."""
        lines, beams = self._lines, self._beams
        tokens, parents, scores = self._best(ids, logprobs)
        lines.steps += 1
        hits = tokens == self._rules.eos_id
        if not self._quiet:
            self._written = wide_enough(self._written, int(lines.steps.max()), 0)
            hits |= (lines.steps >= lines.limits)[:, None]
        has_hits = bool(hits.any())
        if has_hits:
            self._keep_ended(tokens, parents, scores, hits & (np.arange(2 * beams) < beams))
            scores = scores + hits * NEVER
            order = np.argsort(-scores, axis=1, kind="stable")
            tokens, parents, scores = (
                np.take_along_axis(a, order, axis=1) for a in (tokens, parents, scores)
            )
        self._go_on(tokens[:, :beams], parents[:, :beams], scores[:, :beams])
        if self._quiet and not has_hits and not any(pool.is_full for pool in self._pools):
            self._quiet -= 1
            return ()
        return self._let_go(hits)

    def _go_on(self, tokens: Ints, parents: Ints, scores: Floats) -> None:
        """Let these be the beams, whoever is done by them."""
        line = np.arange(len(tokens))[:, None]
        self._scores = scores
        self._written = self._written[line, parents]
        self._written[line, np.arange(self._beams), self._lines.steps[:, None] - 1] = tokens
        self.tokens, self.parents = tokens.ravel(), self._rows[line, parents].ravel()

    def _let_go(self, hits: NDArray[np.bool_]) -> Sequence[Finished]:
        """Return who is done."""
        lines = self._lines
        stay = ~(self._is_decided() | hits.all(axis=1))
        finished = [
            Finished(lines.keys[index], self._pools[index].found) for index in np.flatnonzero(~stay)
        ]
        finished += self._stop_loops(stay)
        if finished:
            of_hypotheses = np.repeat(stay, self._beams)
            self.tokens, self.parents = self.tokens[of_hypotheses], self.parents[of_hypotheses]
            self._keep(stay)
        self._quiet = 0
        if self._next.takes_any:
            self._quiet = lines.quiet_steps(self._written.shape[2])
        return finished

    def place(self, rows: Ints) -> None:
        """Take note of where the hypotheses are now."""
        self._rows = rows.reshape(-1, self._beams)

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        stay = others_than(self._lines.keys, keys)
        self._keep(stay)
        self._quiet = 0
        of_hypotheses = np.repeat(stay, self._beams)
        self.tokens, self.parents = self.tokens[of_hypotheses], self.parents[of_hypotheses]

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return what every sentence would say if it ended here: its best beam."""
        lines = zip(self._lines.keys, self._written, self._lines.steps, strict=True)
        return [(key, written[0, :steps].copy()) for key, written, steps in lines]

    def _best(self, ids: Ints, logprobs: Floats) -> tuple[Ints, Ints, Floats]:
        """Return token, beam and score of twice as many continuations as beams, best first."""
        known, tokens = logprobs[self._rows], ids[self._rows]
        if not self._quiet:
            tokens, known = self._ruled(tokens, known)
        total = known + self._scores[:, :, None]
        if not self._quiet:
            total = np.where((self._rows == _ABSENT)[:, :, None], 2 * NEVER, total)
        total, tokens = total.reshape(len(total), -1), tokens.reshape(len(total), -1)
        order = np.argsort(-total, axis=1, kind="stable")[:, : 2 * self._beams]
        line = np.arange(len(total))[:, None]
        return tokens[line, order], order // ids.shape[1], total[line, order]

    def _ruled(self, tokens: Ints, known: Floats) -> tuple[Ints, Floats]:
        """Return what the rules leave of the candidates [N, beams, candidates]."""
        width = tokens.shape[2]
        written, steps = self._of_hypotheses()
        flat = (tokens.reshape(-1, width), known.reshape(-1, width))
        known = self._next.judged(*flat, written, steps).reshape(known.shape)
        tokens, known = self._forced(tokens, known)
        early = (self._lines.steps < self._lines.least)[:, None, None]
        return tokens, np.where(early & (tokens == self._rules.eos_id), NEVER, known)

    def _of_hypotheses(self) -> tuple[Ints, Ints]:
        """Return what every hypothesis has written, and how many tokens that are."""
        written = self._written.reshape(-1, self._written.shape[2])
        return written, np.repeat(self._lines.steps, self._beams)

    def _forced(self, tokens: Ints, known: Floats) -> tuple[Ints, Floats]:
        """Let the forced token be certain where it is due, and no other possible."""
        lines, last_id = self._lines, self._rules.forced_last_id
        forced, due = lines.first_ids, lines.must_begin()
        if last_id is not None:
            is_last = lines.steps == lines.limits - 1
            forced, due = np.where(is_last, last_id, forced), due | is_last
        if not due.any():
            return tokens, known
        tokens, known = tokens.copy(), known.copy()
        tokens[due, :, 0] = forced[due, None]
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
            self._pools[line].add(Hypothesis(ids.copy(), bool(is_complete), float(worth)))

    def _stop_loops(self, stay: NDArray[np.bool_]) -> list[Finished]:
        """Let sentences end whose best beam says the same over and over."""
        lines, finished = self._lines, []
        best = self._written[:, 0]
        for line, length in looping_at(best, lines.steps, lines.loop_windows * stay):
            found = self._pools[line].found
            if not found:
                steps = int(lines.steps[line])
                worth = self._scores[line, 0] / np.float32(steps ** lines.penalties[line])
                ids = said_once(best[line, :steps], length).copy()
                found = [Hypothesis(ids, False, float(worth))]
            looped = [replace(one, ran_into_loop=True) for one in found]
            finished.append(Finished(lines.keys[line], looped))
            stay[line] = False
        return finished

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
        self._lines.keep(stay)
        self._scores, self._written = self._scores[stay], self._written[stay]
        self._pools = [pool for pool, stays in zip(self._pools, stay, strict=True) if stays]


@dataclass(eq=False, slots=True)
class _Pool:
    """The best finished hypotheses of one sentence, at most `size`, best first."""

    size: int
    found: list[Hypothesis] = field(default_factory=list)

    def add(self, found: Hypothesis) -> None:
        """Take it in; the worst leaves if it is one too many."""
        at = next((i for i, known in enumerate(self.found) if found.score > known.score), None)
        self.found.insert(len(self.found) if at is None else at, found)
        del self.found[self.size :]

    @property
    def is_full(self) -> bool:
        return len(self.found) == self.size

    @property
    def worst(self) -> float:
        return self.found[-1].score if self.found else float(NEVER)
