"""How a translation is searched for, and what a search finds."""

from collections.abc import Hashable, Sequence
from math import nan
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from service.tasks import FinishReason
from service.types import PreparedItem

Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
LogProbs: TypeAlias = NDArray[np.float32]


class Decoding(NamedTuple):
    """The decoding options of one translation. Items with equal options can share a batch."""

    num_beams: int
    length_penalty: float
    """A hypothesis scores log-probability / length ** length_penalty."""
    max_new_tokens: int
    """Includes the end token."""
    min_new_tokens: int = 0
    """The end token is not allowed before this many tokens."""
    first_id: int | None = None
    """Forced first token, e.g. the target language; only used in flight."""
    repetition_window: int = 0
    """Stop when the last tokens of the best hypothesis, this many, repeat one phrase; 0 never."""

    @classmethod
    def of(cls, prepared: PreparedItem) -> "Decoding":
        """Return the options of a prepared item, which are its group."""
        return cls(*cast(tuple[Any, ...], prepared.group))


class Hypothesis(NamedTuple):
    """One translation that a search found."""

    ids: Ints
    """Without the end token."""
    is_complete: bool
    """Whether the model ended it, rather than a limit."""
    score: float = nan
    """Log-probability / length ** length_penalty; NaN from greedy search, which keeps no score."""
    stopped_repeating: bool = False
    """Whether the search was stopped because it repeated a phrase. The repetition is kept once;
    other hypotheses had ended before."""

    @property
    def finish_reason(self) -> FinishReason:
        """Return why the hypothesis ends where it does."""
        if self.stopped_repeating:
            return FinishReason.REPETITION
        return FinishReason.STOP if self.is_complete else FinishReason.LENGTH


class Finished(NamedTuple):
    """A sentence whose search is over."""

    key: Hashable
    found: Sequence[Hypothesis]
    """Best first; greedy search finds one."""
