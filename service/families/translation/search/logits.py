"""A search over a batch of sentences that start together, from the logits of a whole vocabulary.

Its owner runs the decoder on `history` (or on its last column), rows chosen by `beam_idx`, hands
the logits to `advance`, and repeats until `is_finished`. A finished sentence leaves the running
rows at once, so nothing is computed for it any more.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from service.families.translation.search import open_search
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import Decoding, Hypothesis, Ints, LogProbs
from service.families.translation.search.rules import Texts, TokenRules, log_softmax


class LogitsSearch:
    """Applies all rules of a model to logits, and searches with the best candidates."""

    def __init__(self, decoding: Decoding, rules: TokenRules, texts: Texts) -> None:
        """Start a search over as many sentences as there are texts."""
        self._decoding, self._rules, self._texts = decoding, rules, texts
        self._found: dict[int, Sequence[Hypothesis]] = {}
        sentences = range(len(texts.forced))
        self._search = open_search(
            decoding.num_beams,
            SearchRules(
                rules.start_id,
                rules.eos_ids,
                early_stopping=rules.early_stopping,
                last_is_forced=rules.forced_eos_id is not None,
            ),
        )
        for sentence in sentences:  # the rules already hold for the scores that it is given
            options = decoding._replace(min_new_tokens=0, first_id=None)
            self._search.add(sentence, options, sentence)
        self.history: Ints = np.full((len(sentences), 1), rules.start_id, np.int64)
        """[N, L]: the text of each running row, the start token first."""
        self.beam_idx: Ints = np.arange(len(sentences))
        """[N]: the row of the previous step that each row continues."""
        self.sentence_idx: Ints = np.arange(len(sentences))
        """[N]: the sentence that each row belongs to."""

    def __repr__(self) -> str:
        return f"<LogitsSearch {self._search}, {self.history.shape[1]} long>"

    @property
    def is_finished(self) -> bool:
        """Tell whether no sentence is running any more."""
        return not len(self._search)

    def advance(self, logits: LogProbs) -> None:
        """Take the logits of the running rows' next tokens, float32 [N, V]."""
        decoding, texts = self._decoding, self._texts.of(self.sentence_idx)
        scores = logits if decoding.num_beams == 1 else log_softmax(logits)
        limit = decoding.max_new_tokens + 1
        scores = self._rules.applied(scores, self.history, texts, limit, decoding.min_new_tokens)
        search = self._search
        for key, found in search.advance(*_best(scores, search.candidates)):
            self._found[cast(int, key)] = found
        self.beam_idx = search.parents
        self.history = np.concatenate([self.history[self.beam_idx], search.tokens[:, None]], axis=1)
        self.sentence_idx = self.sentence_idx[self.beam_idx]
        search.place(np.arange(len(self.history)))

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of every sentence, best first. Only when finished."""
        return [self._found[sentence] for sentence in range(len(self._texts.forced))]


def _best(scores: LogProbs, count: int) -> tuple[Ints, LogProbs]:
    """Return the best tokens of each row and their scores, best first; ties by token."""
    if count == 1:
        ids = scores.argmax(axis=1)[:, None]
        return ids, np.take_along_axis(scores, ids, axis=1)
    count = min(count, scores.shape[1])
    ids = np.argpartition(scores, scores.shape[1] - count, axis=1)[:, -count:]
    ids.sort(axis=1)
    best = np.take_along_axis(scores, ids, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(best, order, axis=1)
