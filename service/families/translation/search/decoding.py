"""How a translation is searched for, and what a search finds."""

from dataclasses import dataclass
from math import nan
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.tasks import FinishReason

Ints: TypeAlias = NDArray[np.int64]
LogProbs: TypeAlias = NDArray[np.float32]


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
