"""Greedy search: transformers' `_sample` without sampling, for sentences at steps of their own."""

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


class GreedySearch:
    """Takes the most probable token at every step. Satisfies `SearchBatch`."""

    def __init__(self, rules: SearchRules) -> None:
        self._rules, self._candidate_rules = rules, CandidateRules(rules)
        self._table = SequenceTable()
        self._rows = np.zeros(0, np.int64)
        self._written = np.zeros((0, 16), np.int64)
        self.tokens = self.parents = self._rows
        # Steps in which a sentence can only continue or end; None if not computed yet.
        self._quiet: int | None = None

    def __repr__(self) -> str:
        return f"<GreedySearch {len(self)} running>"

    def __len__(self) -> int:
        return len(self._table.keys)

    @property
    def stands_still(self) -> bool:
        """Tell whether every hypothesis continues in the row of its parent."""
        return self.parents is self._rows

    @property
    def rows(self) -> Ints:
        """Return the rows of the hypotheses at the last step."""
        return self._rows

    @property
    def candidates(self) -> int:
        """Return how many candidates per row `advance` needs."""
        if self._quiet is None:
            self._quiet = self._count_quiet()
        if self._quiet:
            return 1
        extra = self._candidate_rules.extra_candidates(self._written, self._table.steps)
        return 1 + bool(self._table.may_not_end.any()) * len(self._rules.eos_ids) + extra

    @property
    def needs_scores(self) -> bool:
        """Tell whether there is a repetition penalty: in greedy search it applies to logits."""
        return self._rules.repetition_penalty != 1

    def add(self, key: Hashable, decoding: Decoding, row: int) -> None:
        """Start a sentence."""
        self._table.add(key, decoding, self._rules)
        self._rows = np.append(self._rows, row)
        self._written = wide_enough(self._written, 0, 1)
        self._quiet = None

    def advance(self, ids: Ints, scores: LogProbs) -> Sequence[Finished]:
        """Take the best candidates of every row; return who is finished."""
        if self._quiet:
            self._quiet -= 1
            return self._advance_quietly(ids[self._rows, 0])
        table = self._table
        tokens, ended_itself = self._chosen(ids[self._rows], scores[self._rows])
        self._written = wide_enough(self._written, int(table.steps.max()) + 1, 0)
        self._written[np.arange(len(tokens)), table.steps] = tokens
        table.steps += 1
        ended = self._rules.ends(tokens)
        stay = ~(ended | (table.steps >= table.limits))
        finished = [
            self._result(line, bool(ended[line]), bool(ended_itself[line]))
            for line in np.flatnonzero(~stay).tolist()
        ]
        finished += self._stop_repetitions(stay)
        self.tokens, self.parents = tokens, self._rows
        self._quiet = None
        if finished:
            self._keep(stay)
        return finished

    def place(self, rows: Ints) -> None:
        """Set the rows of the hypotheses in `tokens` and `parents`."""
        self._rows = rows

    def drop(self, keys: frozenset[Hashable]) -> None:
        """Forget some sentences."""
        self._keep(self._table.others_than(keys))

    def progress(self) -> Sequence[tuple[Hashable, Ints]]:
        """Return the text so far of every sentence."""
        lines = zip(self._table.keys, self._written, self._table.steps, strict=True)
        return [(key, written[:steps].copy()) for key, written, steps in lines]

    def _count_quiet(self) -> int:
        if not self._candidate_rules.is_empty:
            return 0
        return self._table.quiet_steps(self._written.shape[1])

    def _advance_quietly(self, tokens: Ints) -> Sequence[Finished]:
        self._written[np.arange(len(tokens)), self._table.steps] = tokens
        self._table.steps += 1
        self.tokens, self.parents = tokens, self._rows
        ended = self._rules.ends(tokens)
        if not ended.any():
            return ()
        finished = [self._result(line, True, True) for line in np.flatnonzero(ended).tolist()]
        self._keep(~ended)
        return finished

    def _chosen(self, ids: Ints, scores: LogProbs) -> tuple[Ints, Bools]:
        """Return each sentence's next token, and whether the model itself chose to end."""
        table, rules = self._table, self._rules
        scores = self._candidate_rules.apply(ids, scores, self._written, table.steps)
        early = table.may_not_end[:, None] & rules.ends(ids)
        best = np.where(early, -np.inf, scores).argmax(axis=1)
        tokens: Ints = ids[np.arange(len(ids)), best]
        ended_itself = rules.ends(tokens)
        tokens = np.where(table.first_is_forced, table.first_ids, tokens)
        is_last = table.steps == table.limits - 1
        if rules.forced_last_id is not None:
            tokens = np.where(is_last, rules.forced_last_id, tokens)
        if rules.last_is_forced:
            ended_itself &= ~is_last
        return tokens, ended_itself

    def _stop_repetitions(self, stay: Bools) -> list[Finished]:
        """Finish sentences that repeat a phrase, and mark that they do not stay."""
        table, finished = self._table, []
        for line, length in repetitions_in(self._written, table.steps, table.windows * stay):
            ids = first_round(self._written[line, : table.steps[line]], length).copy()
            hypothesis = Hypothesis(ids, False, stopped_repeating=True)
            finished.append(Finished(table.keys[line], [hypothesis]))
            stay[line] = False
        return finished

    def _result(self, line: int, has_end: bool, is_complete: bool) -> Finished:
        ids = self._written[line, : self._table.steps[line] - has_end].copy()
        return Finished(self._table.keys[line], [Hypothesis(ids, is_complete)])

    def _keep(self, stay: Bools) -> None:
        self.tokens, self.parents = self.tokens[stay], self.parents[stay]
        self._table.keep(stay)
        self._written = self._written[stay]
