"""What a generation_config.json forbids and forces, applied to the scores of a whole vocabulary.

The order and the arithmetic are those of the logits processors of `generate` in transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.decoding import Ints, LogProbs


@dataclass(frozen=True, slots=True)
class TokenBans:
    """Tokens that are never written, and phrases that are not written twice."""

    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens."""
    suppressed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(not word for word in self.bad_words):
            raise ValueError("bad_words must be lists of one id or more")

    @property
    def always(self) -> tuple[int, ...]:
        """Return the tokens that are always forbidden."""
        alone = {word for *before, word in self.bad_words if not before}
        return tuple(sorted(alone.union(self.suppressed)))

    @property
    def looks_back(self) -> bool:
        """Tell whether a ban depends on the text so far."""
        return self.no_repeat_ngram_size > 0 or any(len(word) > 1 for word in self.bad_words)

    def after(self, history: Ints) -> tuple[Ints, Ints]:
        """Return pairs of a row and a token that its text forbids next; pairs may repeat.

        `history` [N, L] begins with the start token.
        """
        rows, tokens = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        size, length = self.no_repeat_ngram_size, history.shape[1]
        if 0 < size <= length:
            # Every place where the last `size - 1` tokens occur.
            windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=1)
            last = history[:, None, length - size + 1 :]
            again, places = np.nonzero((windows[:, :, :-1] == last).all(axis=2))
            rows.append(again)
            tokens.append(windows[again, places, -1])
        for *before, word in self.bad_words:
            if before and len(before) < length:
                due = np.flatnonzero((history[:, -len(before) :] == before).all(axis=1))
                rows.append(due)
                tokens.append(np.full(len(due), word))
        return np.concatenate(rows), np.concatenate(tokens)


EarlyStopping: TypeAlias = bool | Literal["never"]

_LOWEST, _TINIEST = np.finfo(np.float32).min, np.finfo(np.float32).tiny

UNFORCED = -1
"""Stands for the first token where the model is free to choose it."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The rules of a model's generation_config.json. Histories begin with the start token."""

    start_id: int
    """Token that a translation begins with; it is not part of the text."""
    eos_ids: tuple[int, ...]
    """Tokens that end a translation."""
    early_stopping: EarlyStopping = False
    """When beam search ends: True at the first `num_beams` hypotheses, False when a better one
    is unlikely, "never" when a better one is impossible."""
    no_repeat_ngram_size: int = 0
    """Sequences of this many tokens are not written twice; 0 allows it."""
    repetition_penalty: float = 1.0
    """Scores of tokens that were written are divided by it; 1 does nothing."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that are never written."""
    min_length: int = 0
    """Least number of tokens before the end token; the start token counts."""
    forced_eos_id: int | None = None
    """Last token of a text that reaches the limit."""
    suppressed: tuple[int, ...] = ()
    """Tokens that are never written."""
    suppressed_first: tuple[int, ...] = ()
    """Tokens that are not written first."""
    forced_bos_id: int | None = None
    """First token after the start token, unless the target language has one."""
    encoder_no_repeat_ngram_size: int = 0
    """Sequences of this many tokens that occur in the source are never written."""
    sequence_bias: tuple[tuple[tuple[int, ...], float], ...] = ()
    """Added to the score of a sequence's last token where the others precede it."""
    exponential_decay: tuple[int, float] | None = None
    """After this many tokens the end token's score grows by this factor at each step."""
    renormalize: bool = False
    """Whether probabilities are normalised to sum to 1 after all other rules."""

    def __post_init__(self) -> None:
        if not self.eos_ids:
            raise ValueError("eos_ids must be one or more ids")
        if self.repetition_penalty <= 0:
            raise ValueError("repetition_penalty must be over 0")
        if not all(sequence for sequence, _ in self.sequence_bias):
            raise ValueError("sequence_bias must be of lists of one id or more")
        if self.exponential_decay and (self.encoder_no_repeat_ngram_size or self.min_length > 1):
            raise ValueError(
                "exponential_decay together with min_length or encoder_no_repeat_ngram_size is not "
                "served: where the end is forbidden, its score would be no number"
            )
        _ = self.bans  # validates the bans

    @property
    def bans(self) -> TokenBans:
        """Return the bans; the end token is never among them."""
        ends = {(end,) for end in self.eos_ids}
        words = tuple(word for word in self.bad_words if word not in ends)
        return TokenBans(self.no_repeat_ngram_size, words)

    def ends(self, tokens: Ints) -> NDArray[np.bool_]:
        """Tell which tokens end a text."""
        return np.isin(tokens, self.eos_ids)

    def first_tokens(self, chosen: Ints) -> Ints:
        """Return first tokens with the model's own forced one in place of UNFORCED."""
        if self.forced_bos_id is None:
            return chosen
        return np.where(chosen == UNFORCED, self.forced_bos_id, chosen)

    def applied(
        self, scores: LogProbs, history: Ints, texts: "Texts", limit: int, least: int = 0
    ) -> LogProbs:
        """Return the scores of the next tokens by the rules, -inf where a token is forbidden.

        Args:
            scores: of the running rows' next tokens, [N, V].
            history: the text of each row, the start token first, [N, L].
            texts: what each row translates.
            limit: the length at which a row ends; the start token counts.
            least: least number of tokens after the start token before the end token.
        """
        scores, length, forced = scores.copy(), history.shape[1], texts.forced
        self._bias(scores, history)
        self._discourage(scores, history)
        self._forbid(scores, history)
        if self.encoder_no_repeat_ngram_size:
            self._forbid_sources(scores, history, texts.sources)
        if length < max(self.min_length, least + 1):
            scores[:, list(self.eos_ids)] = -np.inf
        if length == 1:
            _force(scores, np.flatnonzero(forced != UNFORCED), forced[forced != UNFORCED])
        if self.forced_eos_id is not None and length == limit - 1:
            _force(scores, np.arange(len(scores)), np.full(len(scores), self.forced_eos_id))
        self._hasten(scores, length)
        scores[:, list(self.suppressed)] = -np.inf
        if self.suppressed_first:
            first = length == np.where(forced == UNFORCED, 1, 2)
            scores[np.ix_(first, self.suppressed_first)] = -np.inf
        return log_softmax(scores) if self.renormalize else scores

    def _bias(self, scores: LogProbs, history: Ints) -> None:
        if not self.sequence_bias:
            return
        bias = np.zeros_like(scores)
        for (*before, last), value in self.sequence_bias:
            if not before:
                bias[:, last] = np.float32(value)  # the last bias of a token wins
        for (*before, last), value in self.sequence_bias:
            if before and len(before) < history.shape[1]:
                due = (history[:, -len(before) :] == before).all(axis=1)
                bias[due, last] += np.float32(value)
        scores += bias

    def _discourage(self, scores: LogProbs, history: Ints) -> None:
        if self.repetition_penalty == 1:
            return
        known = np.take_along_axis(scores, history, axis=1)
        penalty = np.float32(self.repetition_penalty)
        found = np.where(known < 0, known * penalty, known / penalty)
        np.put_along_axis(scores, history, found, axis=1)

    def _forbid(self, scores: LogProbs, history: Ints) -> None:
        bans = self.bans
        rows, tokens = bans.after(history)
        scores[rows, tokens] = -np.inf
        scores[:, list(bans.always)] = -np.inf

    def _forbid_sources(self, scores: LogProbs, history: Ints, sources: Sequence[Ints]) -> None:
        size, length = self.encoder_no_repeat_ngram_size, history.shape[1]
        if length < size - 1:
            return
        last = history[:, length - size + 1 :]
        for row, source in enumerate(sources):
            if len(source) >= size:
                windows = np.lib.stride_tricks.sliding_window_view(source, size)
                due = (windows[:, :-1] == last[row]).all(axis=1)
                scores[row, windows[due, -1]] = -np.inf

    def _hasten(self, scores: LogProbs, length: int) -> None:
        if self.exponential_decay is None:
            return
        start, factor = self.exponential_decay
        steps = length - 1 - start
        if steps > 0:
            ends = scores[:, list(self.eos_ids)]
            lifted = np.where(np.isfinite(ends), np.abs(ends), 0)  # one may be forced just now
            scores[:, list(self.eos_ids)] = ends + lifted * np.float32(factor**steps - 1)


class Texts(NamedTuple):
    """The sources of the running rows."""

    forced: Ints
    """The first token of each row, or UNFORCED, [N]."""
    sources: Sequence[Ints]
    """The tokens that each row reads, without padding."""

    def of(self, places: Ints) -> "Texts":
        """Return the texts of these sentences."""
        return Texts(self.forced[places], [self.sources[place] for place in places.tolist()])


def _force(scores: LogProbs, rows: Ints, tokens: Ints) -> None:
    scores[rows] = -np.inf
    scores[rows, tokens] = 0


def log_softmax(logits: LogProbs) -> LogProbs:
    """Return the log-probabilities of each row, in float32; a row of -inf stays one."""
    shifted = logits - np.maximum(logits.max(axis=1, keepdims=True), _LOWEST)
    sums = np.exp(shifted).sum(axis=1, keepdims=True)
    found: LogProbs = shifted - np.log(np.maximum(sums, _TINIEST))
    return found
