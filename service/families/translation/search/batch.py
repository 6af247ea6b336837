"""Greedy and beam search of models that transformers wrote: its `generate`, as plain arrays.

A search knows no session. Its owner runs the decoder on `history` (or on its last column), rows
chosen by `beam_idx`, hands the logits to `advance`, and repeats until `is_finished`. A sentence
that is done leaves the running rows at once, so nobody computes for it any more; what it found
does not depend on the others.

Against `decoding`, which the starter's own translator is taught and judged with, this follows
the release of transformers that the tests compare with in every rule and in float32, so that
the tokens are the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.decoding import Decoding, Hypothesis, Ints, LogProbs
from service.families.translation.search.repetition import looping, said_once
from service.families.translation.search.rules import Texts, TokenRules, log_softmax

_DEAD = np.float32(-1e9)
"""Added to the score of what must not be chosen, as transformers does."""


class TokenSearch(Protocol):
    """What greedy and beam search promise."""

    history: Ints
    """[N, L]: what each running row has written, the start token first."""
    beam_idx: Ints
    """[N]: which row of the step before each row continues."""
    sentence_idx: Ints
    """[N]: which sentence of the batch each row belongs to."""

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        ...

    def advance(self, logits: LogProbs) -> None:
        """Take the logits of the running rows' next tokens, float32 [N, V]."""
        ...

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of every sentence, best first. Only when finished."""
        ...


def start_token_search(decoding: Decoding, rules: TokenRules, texts: Texts) -> TokenSearch:
    """Return a search over as many sentences as there are texts."""
    search = GreedyTokens if decoding.num_beams == 1 else BeamTokens
    return search(decoding, rules, texts)


class GreedyTokens:
    """The most probable token at every step."""

    def __init__(self, decoding: Decoding, rules: TokenRules, texts: Texts) -> None:
        self._decoding, self._rules, self._texts = decoding, rules, texts
        self._limit = decoding.max_new_tokens + 1
        self._found: dict[int, Hypothesis] = {}
        sentences = len(texts.forced)
        self.history = np.full((sentences, 1), rules.start_id, np.int64)
        self.beam_idx = np.arange(sentences)
        self.sentence_idx = np.arange(sentences)

    def __repr__(self) -> str:
        return f"<GreedyTokens {len(self.history)} running, {self.history.shape[1]} long>"

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        return not len(self.history)

    def advance(self, logits: LogProbs) -> None:
        """Take the logits of the running rows' next tokens, float32 [N, V]."""
        texts, least = self._texts.of(self.sentence_idx), self._decoding.min_new_tokens
        scores = self._rules.applied(logits, self.history, texts, self._limit, least)
        tokens = scores.argmax(axis=1)
        history = np.concatenate([self.history, tokens[:, None]], axis=1)
        is_last = history.shape[1] >= self._limit
        goes_on = ~(self._rules.ends(tokens) | is_last)
        for row in np.flatnonzero(~goes_on).tolist():
            found = _hypothesis(history[row], self._rules, self._limit)
            self._found[int(self.sentence_idx[row])] = found
        for row, length in looping(history[:, 1:], self._decoding.loop_window):
            if goes_on[row]:
                found = Hypothesis(said_once(history[row, 1:], length), False, ran_into_loop=True)
                self._found[int(self.sentence_idx[row])] = found
                goes_on[row] = False
        self.history, self.beam_idx = history[goes_on], np.flatnonzero(goes_on)
        self.sentence_idx = self.sentence_idx[goes_on]

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return every sentence's tokens."""
        return [[self._found[sentence]] for sentence in range(len(self._texts.forced))]


class BeamTokens:
    """Keeps the `num_beams` most probable beginnings of each sentence, and as many ends."""

    def __init__(self, decoding: Decoding, rules: TokenRules, texts: Texts) -> None:
        self._decoding, self._rules, self._texts = decoding, rules, texts
        self._limit = decoding.max_new_tokens + 1
        self._found: dict[int, list[Hypothesis]] = {}
        beams, sentences = decoding.num_beams, len(texts.forced)
        self._candidates = max(2, 1 + len(rules.eos_ids)) * beams
        self._running = np.arange(sentences)
        # All beams begin alike: the others must not win, or they would stay alike.
        self._scores = np.full((sentences, beams), _DEAD, np.float32)
        self._scores[:, 0] = 0
        self._ended: list[list[Ints]] = [[] for _ in range(sentences)]
        self._ended_scores = np.full((sentences, beams), _DEAD, np.float32)
        self._ended_count = np.zeros(sentences, np.int64)
        # One row stands for all beams of a sentence at the first step.
        self.history = np.full((sentences, 1), rules.start_id, np.int64)
        self.beam_idx = np.arange(sentences)
        self.sentence_idx = np.arange(sentences)

    def __repr__(self) -> str:
        return f"<BeamTokens {len(self._running)} running, {self.history.shape[1]} long>"

    @property
    def is_finished(self) -> bool:
        """Tell whether no row is running any more."""
        return not self._running.size

    def advance(self, logits: LogProbs) -> None:
        """Take the logits of the running rows' next tokens, float32 [N, V]."""
        texts, least = self._texts.of(self.sentence_idx), self._decoding.min_new_tokens
        scores = self._rules.applied(log_softmax(logits), self.history, texts, self._limit, least)
        scores, parents, tokens = self._best(scores)
        ended = self._rules.ends(tokens) | (self.history.shape[1] + 1 >= self._limit)
        histories = np.concatenate([self.history[parents], tokens[:, :, None]], axis=2)
        self._take_ended(scores, histories, ended)
        self._continue(scores + ended.astype(np.float32) * _DEAD, parents, histories)
        self._drop_finished()

    def results(self) -> Sequence[Sequence[Hypothesis]]:
        """Return the hypotheses of every sentence, best first."""
        return [self._found[sentence] for sentence in range(len(self._texts.forced))]

    def _best(self, scores: LogProbs) -> tuple[LogProbs, Ints, Ints]:
        """Return the best candidates of each sentence: scores, rows they continue, tokens."""
        sentences, vocabulary = len(self._scores), scores.shape[1]
        rows = len(self.history) // sentences
        total = scores.reshape(sentences, rows, vocabulary) + self._scores[:, :, None]
        best, places = _largest(total.reshape(sentences, -1), self._candidates)
        parents, tokens = np.divmod(places, vocabulary)
        first = np.arange(sentences)[:, None] * rows
        return best, first + np.minimum(parents, rows - 1), tokens

    def _worth(self, scores: LogProbs, length: int) -> LogProbs:
        worth: LogProbs = scores / np.float32(length**self._decoding.length_penalty)
        return worth

    def _take_ended(self, scores: LogProbs, histories: Ints, ended: NDArray[np.bool_]) -> None:
        """Keep the best of the hypotheses that end here and those that ended before."""
        beams, length = self._decoding.num_beams, histories.shape[2] - 1
        worth = self._worth(scores[:, :beams], length)
        for place, sentence in enumerate(self._running):
            known = self._ended[sentence]
            known_scores = list(self._ended_scores[sentence, : len(known)])
            for candidate in np.flatnonzero(ended[place, :beams]):
                known.append(histories[place, candidate])
                known_scores.append(worth[place, candidate])
            order = np.argsort(-np.array(known_scores, np.float32), kind="stable")[:beams]
            self._ended[sentence] = [known[index] for index in order]
            self._ended_scores[sentence, : len(order)] = [known_scores[index] for index in order]
            self._ended_count[sentence] = len(order)

    def _continue(self, scores: LogProbs, parents: Ints, histories: Ints) -> None:
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self._decoding.num_beams]
        rows = np.arange(len(scores))[:, None]
        self._scores, self.beam_idx = scores[rows, order], parents[rows, order].ravel()
        self.history = histories[rows, order].reshape(-1, histories.shape[2])
        self.sentence_idx = np.repeat(self._running, order.shape[1])

    def _drop_finished(self) -> None:
        """Let the sentences leave that no running beam can, or may, improve."""
        length, penalty = self.history.shape[1] - 1, self._decoding.length_penalty
        early, beams = self._rules.early_stopping, self._decoding.num_beams
        reached = self._limit - 1 if early == "never" and penalty > 0 else length
        hoped = self._worth(self._scores[:, 0], reached)
        is_full = self._ended_count[self._running] == beams
        worst = np.where(is_full, self._ended_scores[self._running].min(axis=1), _DEAD)
        goes_on = (hoped > worst) & ~(is_full & (early is True))
        goes_on &= self.history.shape[1] < self._limit
        for place in np.flatnonzero(~goes_on).tolist():
            self._found[int(self._running[place])] = self._hypotheses(place)
        for line, length in looping(self.history[::beams, 1:], self._decoding.loop_window):
            if goes_on[line]:
                self._found[int(self._running[line])] = self._of_loop(line, length)
                goes_on[line] = False
        rows = np.repeat(goes_on, beams)
        self._running, self._scores = self._running[goes_on], self._scores[goes_on]
        self.history, self.beam_idx = self.history[rows], self.beam_idx[rows]
        self.sentence_idx = self.sentence_idx[rows]

    def _hypotheses(self, place: int) -> list[Hypothesis]:
        """Return what a sentence ended with."""
        sentence = self._running[place]
        if not self._ended[sentence]:  # where rules forbid every token, nothing ends
            row = self.history[place * self._decoding.num_beams]
            return [_hypothesis(row, self._rules, self._limit)]
        scored = zip(self._ended[sentence], self._ended_scores[sentence].tolist(), strict=False)
        return [
            replace(_hypothesis(row, self._rules, self._limit), score=score)
            for row, score in scored
        ]

    def _of_loop(self, place: int, length: int) -> list[Hypothesis]:
        """Return what had ended before the loop, or else one round of it."""
        if self._ended[self._running[place]]:
            return [replace(one, ran_into_loop=True) for one in self._hypotheses(place)]
        row = self.history[place * self._decoding.num_beams, 1:]
        score = float(self._worth(self._scores[place, :1], len(row))[0])
        return [Hypothesis(said_once(row, length), False, score, ran_into_loop=True)]


def _hypothesis(history: Ints, rules: TokenRules, limit: int) -> Hypothesis:
    """Return what a row has written after the start token, and whether it came to its end."""
    has_end = bool(rules.ends(history[-1:])[0])
    was_forced = rules.forced_eos_id is not None and len(history) >= limit
    return Hypothesis(history[1:-1] if has_end else history[1:], has_end and not was_forced)


def _largest(values: LogProbs, count: int) -> tuple[LogProbs, Ints]:
    """Return the largest values of each row, descending, and where they are; ties by place."""
    count = min(count, values.shape[1])
    places = np.argpartition(values, values.shape[1] - count, axis=1)[:, -count:]
    places.sort(axis=1)
    found = np.take_along_axis(values, places, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(places, order, axis=1)
