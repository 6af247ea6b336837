"""Beam search: transformers' `_beam_search`, for sentences at steps of their own."""

from collections.abc import Hashable, Sequence

import numpy as np

from service.families.translation.search.candidates import CandidateRules, SearchRules
from service.families.translation.search.decoding import (
    Bools,
    Decoding,
    Finished,
    Hypothesis,
    Ints,
    LogProbs,
)
from service.families.translation.search.repetition import first_round, repetitions_in
from service.families.translation.search.sequences import SequenceTable, wide_enough

# Added to the score of what must not win; transformers' own number, as sums and ties depend on it.
NEVER = np.float32(-1e9)


class BeamSearch:
    """Keeps the `num_beams` most probable beginnings of each sentence. Satisfies `SearchBatch`."""

    def __init__(self, num_beams: int, rules: SearchRules) -> None:
        self._beams, self._rules, self._candidate_rules = num_beams, rules, CandidateRules(rules)
        self._table = SequenceTable()
        self._rows = np.zeros((0, num_beams), np.int64)
        self._scores = np.zeros((0, num_beams), np.float32)
        self._written = np.zeros((0, num_beams, 16), np.int64)
        self._ended: list[_Ended] = []
        self.tokens = self.parents = np.zeros(0, np.int64)
        # Steps in which hypotheses can only continue, or end by their end token.
        self._quiet = 0
        self._has_joined = False

    def __repr__(self) -> str:
        return f"<BeamSearch {len(self)} running with {self._beams} beams>"

    def __len__(self) -> int:
        return len(self._table.keys)

    @property
    def stands_still(self) -> bool:
        """Tell whether every hypothesis continues in the row of its parent."""
        return not self._has_joined and np.array_equal(self.parents, self.rows)

    @property
    def rows(self) -> Ints:
        """Return the rows of the hypotheses at the last step."""
        return self._rows.ravel()

    @property
    def candidates(self) -> int:
        """Return how many candidates per row `advance` needs."""
        needed = self._rules.candidates_per_beam * self._beams
        if self._quiet:
            return needed
        extra = self._candidate_rules.extra_candidates(*self._hypotheses())
        return needed + bool(self._table.may_not_end.any()) * len(self._rules.eos_ids) + extra

    @property
    def needs_scores(self) -> bool:
        """Return False: transformers' beam search applies all rules to log-probabilities."""
        return False

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Start a sentence, in one row: its beams are equal, and all but the first cannot win."""
        self._table.add(key, decoding, self._rules)
        self._rows = np.concatenate([self._rows, np.full((1, self._beams), row)])
        scores = np.full((1, self._beams), NEVER)
        scores[0, 0] = 0
        self._scores = np.concatenate([self._scores, scores])
        self._written = wide_enough(self._written, 0, 1)
        self._ended.append(_Ended(self._beams))
        self._quiet, self._has_joined = 0, True

    def advance(self, ids: Ints, scores: LogProbs) -> Sequence[Finished]:
        """Take the best candidates of every row; return who is finished."""
        table, beams = self._table, self._beams
        tokens, parents, scores = self._best(ids, scores)
        table.steps += 1
        ends = self._rules.ends(tokens)
        if not self._quiet:
            self._written = wide_enough(self._written, int(table.steps.max()), 0)
            ends |= (table.steps >= table.limits)[:, None]
        has_ends = bool(ends.any())
        if has_ends:
            self._keep_ended(tokens, parents, scores, ends[:, :beams])
            scores = np.where(ends, scores + NEVER, scores)
            order = np.argsort(-scores, axis=1, kind="stable")
            tokens, parents = (np.take_along_axis(a, order, axis=1) for a in (tokens, parents))
            scores = np.take_along_axis(scores, order, axis=1)
        self._continue(tokens[:, :beams], parents[:, :beams], scores[:, :beams])
        if self._quiet and not has_ends and not self._may_be_decided():
            self._quiet -= 1
            return ()
        return self._finish(ends)

    def place(self, rows: Ints) -> None:
        """Set the rows of the hypotheses in `tokens` and `parents`."""
        self._rows, self._has_joined = rows.reshape(-1, self._beams), False

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        self._keep(self._table.others_than(keys))
        self._quiet = 0

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return the text so far of every sentence's best beam."""
        lines = zip(self._table.keys, self._written, self._table.steps, strict=True)
        return [(key, written[0, :steps].copy()) for key, written, steps in lines]

    def _best(self, ids: Ints, scores: LogProbs) -> tuple[Ints, Ints, LogProbs]:
        """Return token, beam and score of each sentence's best candidates, best first."""
        scores, tokens = scores[self._rows], ids[self._rows]
        if not self._quiet:
            tokens, scores = self._ruled(tokens, scores)
        scores = scores + self._scores[:, :, None]
        scores, tokens = scores.reshape(len(scores), -1), tokens.reshape(len(scores), -1)
        wanted = self._rules.candidates_per_beam * self._beams
        order = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        line = np.arange(len(scores))[:, None]
        return tokens[line, order], order // ids.shape[1], scores[line, order]

    def _ruled(self, tokens: Ints, scores: LogProbs) -> tuple[Ints, LogProbs]:
        """Return candidates [N, beams, C] and their scores by the rules."""
        flat = tokens.reshape(-1, tokens.shape[2]), scores.reshape(-1, tokens.shape[2])
        scores = self._candidate_rules.apply(*flat, *self._hypotheses()).reshape(scores.shape)
        early = self._table.may_not_end
        if early.any():
            scores = np.where(early[:, None, None] & self._rules.ends(tokens), -np.inf, scores)
        return self._forced(tokens, scores)

    def _hypotheses(self) -> tuple[Ints, Ints]:
        """Return the text of every hypothesis [H, T], and its number of tokens [H]."""
        written = self._written.reshape(-1, self._written.shape[2])
        return written, np.repeat(self._table.steps, self._beams)

    def _forced(self, tokens: Ints, scores: LogProbs) -> tuple[Ints, LogProbs]:
        """Make a forced token certain where one is due, and all others impossible."""
        table, last_id = self._table, self._rules.forced_last_id
        forced, due = table.first_ids, table.first_is_forced
        if last_id is not None:
            is_last = table.steps == table.limits - 1
            forced, due = np.where(is_last, last_id, forced), due | is_last
        if not due.any():
            return tokens, scores
        tokens, scores = tokens.copy(), scores.copy()
        tokens[due, :, 0] = forced[due, None]
        scores[due] = -np.inf
        scores[due, :, 0] = 0.0
        return tokens, scores

    def _keep_ended(self, tokens: Ints, parents: Ints, scores: LogProbs, ends: Bools) -> None:
        """Add what ends here to the ended hypotheses of its sentence."""
        table, rules = self._table, self._rules
        forces_last = rules.last_is_forced or rules.forced_last_id is not None
        for line, place in zip(*np.nonzero(ends), strict=True):
            steps = int(table.steps[line])
            ids = self._written[line, parents[line, place], : steps - 1]
            token = tokens[line, place]
            if not (has_end := bool(rules.ends(token))):
                ids = np.append(ids, token)
            is_forced = forces_last and steps == table.limits[line]
            score = self._final_score(line, scores[line, place])
            self._ended[line].add(Hypothesis(ids.copy(), has_end and not is_forced, score))

    def _final_score(self, line: int, score: np.float32) -> float:
        steps = int(self._table.steps[line])
        return float(score / np.float32(steps ** self._table.penalties[line]))

    def _continue(self, tokens: Ints, parents: Ints, scores: LogProbs) -> None:
        """Make these candidates the beams."""
        line = np.arange(len(tokens))[:, None]
        self._scores = scores
        self._written = self._written[line, parents]
        self._written[line, np.arange(self._beams), self._table.steps[:, None] - 1] = tokens
        self.tokens, self.parents = tokens.ravel(), self._rows[line, parents].ravel()

    def _may_be_decided(self) -> bool:
        is_full = any(ended.is_full for ended in self._ended)
        return is_full or not (self._scores[:, 0] > NEVER).all()

    def _finish(self, ends: Bools) -> Sequence[Finished]:
        """Forget the sentences whose search is over; return what they found."""
        table = self._table
        stay = ~(self._is_decided() | ends.all(axis=1))
        finished = [
            Finished(table.keys[line], self._ended[line].found or self._unfinished(line))
            for line in np.flatnonzero(~stay).tolist()
        ]
        finished += self._stop_repetitions(stay)
        if finished:
            self._keep(stay)
        self._quiet = 0
        if self._candidate_rules.is_empty:
            self._quiet = table.quiet_steps(self._written.shape[2])
        return finished

    def _is_decided(self) -> Bools:
        """Tell for which sentences a better hypothesis is not expected."""
        rules, table = self._rules, self._table
        full = np.array([ended.is_full for ended in self._ended], np.bool_)
        lengths = table.steps
        if rules.early_stopping == "never":
            lengths = np.where(table.penalties > 0, table.limits, lengths)
        possible = self._scores[:, 0] / (lengths**table.penalties).astype(np.float32)
        worst = np.array([ended.worst for ended in self._ended], np.float32)
        decided: Bools = ~(possible > np.where(full, worst, NEVER))
        return decided | full if rules.early_stopping is True else decided

    def _unfinished(self, line: int) -> list[Hypothesis]:
        """Return the best beam of a sentence whose rules forbid every token."""
        ids = self._written[line, 0, : self._table.steps[line]]
        has_end = bool(self._rules.ends(ids[-1]))
        return [Hypothesis(ids[: len(ids) - has_end].copy(), has_end)]

    def _stop_repetitions(self, stay: Bools) -> list[Finished]:
        """Finish sentences whose best beam repeats a phrase, and mark that they do not stay."""
        table, finished = self._table, []
        best = self._written[:, 0]
        for line, length in repetitions_in(best, table.steps, table.windows * stay):
            found = self._ended[line].found
            if not found:
                ids = first_round(best[line, : table.steps[line]], length).copy()
                found = [Hypothesis(ids, False, self._final_score(line, self._scores[line, 0]))]
            stopped = [one._replace(stopped_repeating=True) for one in found]
            finished.append(Finished(table.keys[line], stopped))
            stay[line] = False
        return finished

    def _keep(self, stay: Bools) -> None:
        self._table.keep(stay)
        self._scores, self._written = self._scores[stay], self._written[stay]
        self._ended = [ended for ended, stays in zip(self._ended, stay, strict=True) if stays]
        hypotheses = np.repeat(stay, self._beams)
        self.tokens, self.parents = self.tokens[hypotheses], self.parents[hypotheses]


class _Ended:
    """The best ended hypotheses of one sentence, at most `size`, best first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.found: list[Hypothesis] = []

    def add(self, found: Hypothesis) -> None:
        """Insert it behind all that are as good; the worst leaves if there are too many."""
        at = next((i for i, known in enumerate(self.found) if found.score > known.score), None)
        self.found.insert(len(self.found) if at is None else at, found)
        del self.found[self._size :]

    @property
    def is_full(self) -> bool:
        return len(self.found) == self._size

    @property
    def worst(self) -> float:
        return self.found[-1].score if self.found else float(NEVER)
