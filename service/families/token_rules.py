"""What a generation_config.json forbids and forces, token by token, as plain arrays.

The order and the arithmetic are those of the logits processors of `generate` in transformers.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.families.decoding import Ints, LogProbs
from service.families.token_bans import TokenBans

EarlyStopping: TypeAlias = bool | Literal["never"]

UNFORCED = -1
"""In place of a first token, where the model is free to choose it."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How a model's own files want it to write. Its histories begin with the start token."""

    start_id: int
    eos_ids: tuple[int, ...]
    early_stopping: EarlyStopping = False
    """When a beam search ends: True at the first `num_beams` hypotheses, False when a better one
    is unlikely, "never" when there can be none."""
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that are never written."""
    min_length: int = 0
    """Tokens before the end, the start token counts as one."""
    forced_eos_id: int | None = None
    """What the last token is when the limit is reached."""
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.eos_ids:
            raise ValueError("eos_ids must be one or more ids")
        if self.repetition_penalty <= 0:
            raise ValueError("repetition_penalty must be over 0")
        _ = self.bans  # which checks what it is made of

    @property
    def bans(self) -> TokenBans:
        """Return what is forbidden for what was written before, or always; never to end."""
        ends = {(end,) for end in self.eos_ids}
        words = tuple(word for word in self.bad_words if word not in ends)
        return TokenBans(self.no_repeat_ngram_size, words)

    def ends(self, tokens: Ints) -> NDArray[np.bool_]:
        """Tell which tokens end a text."""
        return np.isin(tokens, self.eos_ids)

    def applied(
        self, scores: LogProbs, history: Ints, forced: Ints, limit: int, least: int = 0
    ) -> LogProbs:
        """Return the scores of the next token, -inf where it is forbidden.

        Args:
            scores: of the running rows' next tokens, [N, V].
            history: what each row has written, the start token first, [N, L].
            forced: the first token of each row, or UNFORCED, [N].
            limit: the length at which a row ends, the start token counts as one.
            least: tokens after the start token before the end may come.
        """
        scores, length = scores.copy(), history.shape[1]
        self._discourage(scores, history)
        self._forbid(scores, history)
        if length < max(self.min_length, least + 1):
            scores[:, list(self.eos_ids)] = -np.inf
        if length == 1:
            _force(scores, np.flatnonzero(forced != UNFORCED), forced[forced != UNFORCED])
        if self.forced_eos_id is not None and length == limit - 1:
            _force(scores, np.arange(len(scores)), np.full(len(scores), self.forced_eos_id))
        scores[:, list(self.suppressed)] = -np.inf
        if self.suppressed_first:
            first = length == np.where(forced == UNFORCED, 1, 2)
            scores[np.ix_(first, self.suppressed_first)] = -np.inf
        return scores

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


def _force(scores: LogProbs, rows: Ints, tokens: Ints) -> None:
    scores[rows] = -np.inf
    scores[rows, tokens] = 0


def log_softmax(logits: LogProbs) -> LogProbs:
    """Return the logarithms of the probabilities of each row, in float32."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: LogProbs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
