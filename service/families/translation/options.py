"""The options of a search: an item's, and the model's defaults; and results on their way back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.families.translation.search.decoding import Decoding, Hypothesis
from service.families.translation.search.repetition import has_repetition
from service.tasks import Alternative, FinishReason, GenerateItem, TranslateItem, Translation
from service.types import PreparedItem, Tensors

_REASONS = tuple(FinishReason)


def result_of(found: Sequence[Hypothesis], prepared: PreparedItem) -> Tensors:
    """Return hypotheses, best first, as the result of a prepared item.

    `ids` and `is_truncated` belong to the best; `others` holds the ids of the rest, concatenated,
    and `lengths` their lengths; `scores` and `reasons` have one entry for each.
    """
    best, *others = found
    return {
        "ids": best.ids,
        "is_truncated": prepared.tensors["is_cut"] | (not best.is_complete),
        "others": np.concatenate([one.ids for one in others]) if others else best.ids[:0],
        "lengths": np.array([len(one.ids) for one in others], np.int64),
        "scores": np.array([one.score for one in found]),
        "reasons": np.array([_REASONS.index(one.finish_reason) for one in found], np.int8),
    }


class Written(NamedTuple):
    """A result as text."""

    text: str
    is_truncated: bool
    reason: FinishReason
    alternatives: tuple[Alternative, ...]


def written_of(
    result: Tensors, alternatives: int, decode: Callable[[NDArray[np.int64]], str]
) -> Written:
    """Return a result as text, with up to this many alternatives.

    Args:
        result: what `result_of` made.
        alternatives: 0 for none; the best text is the first of them.
        decode: turns ids into text.
    """
    reasons = [_REASONS[number] for number in result["reasons"].tolist()]
    text = decode(result["ids"])
    scores = [None if isnan(score) else score for score in result["scores"].tolist()]
    others = np.split(result["others"], np.cumsum(result["lengths"])[:-1])
    texts = [text, *(decode(ids) for ids in others[: max(alternatives - 1, 0)])]
    found = [Alternative(*one) for one in zip(texts, scores, reasons, strict=False)]
    return Written(text, bool(result["is_truncated"]), reasons[0], tuple(found[:alternatives]))


def translation_of(
    result: Tensors,
    alternatives: int,
    decode: Callable[[NDArray[np.int64]], str],
    languages: tuple[str, str],
) -> Translation:
    """Return a result as `written_of` does; `languages` are source and target."""
    text, is_truncated, reason, found = written_of(result, alternatives, decode)
    return Translation(text, *languages, is_truncated, reason, found)


# Tokens: a phrase of up to eight tokens three times, or one of a single token 24 times.
LOOP_WINDOW = 24

# Tokens. Longer texts are assumed to cost in proportion: reading 8,192 took 23 s and 4 GB.
_LONGEST_TIMED = 512

_MOST_BEAMS = 8
_LARGEST_PENALTY = 10.0
_LARGEST_WINDOW = 1024


@dataclass(frozen=True, slots=True)
class DefaultSearch:
    """The options of a search that an item leaves open."""

    num_beams: int
    length_penalty: float
    max_new_tokens: int
    most_new_tokens: int
    """Upper bound of what an item may ask for."""
    loop_window: int

    def __post_init__(self) -> None:
        try:
            _check(self.num_beams, self.length_penalty, self.most_new_tokens)
        except InvalidInputError as error:
            raise ValueError(str(error)) from None
        if not 0 <= self.loop_window <= _LARGEST_WINDOW:
            raise ValueError(f"loop_window must be from 0 to {_LARGEST_WINDOW}")

    def decoding(self, item: TranslateItem | GenerateItem, source: NDArray[np.int64]) -> Decoding:
        """Return the options of an item with these source tokens.

        Raises:
            InvalidInputError: an option is out of its range.
        """
        num_beams = self.num_beams if item.num_beams is None else item.num_beams
        penalty = self.length_penalty if item.length_penalty is None else item.length_penalty
        limit = self.max_new_tokens if item.max_new_tokens is None else item.max_new_tokens
        _check(num_beams, penalty, limit)
        if not 0 <= item.alternatives <= num_beams:
            raise InvalidInputError(
                f"alternatives is {item.alternatives} and the search keeps {num_beams}: "
                "set num_beams to at least as many"
            )
        if num_beams == 1:
            penalty = self.length_penalty  # greedy search ignores it: share a batch
        limit = min(limit, self.most_new_tokens)
        window = self.loop_window if self.loop_window < limit else 0
        if window and has_repetition(source, window):
            window = 0
        return Decoding(num_beams, penalty, limit, repetition_window=window)

    def timed(self, steps: int) -> Decoding:
        """Return the options of a search for exactly this many tokens, at most the upper bound."""
        steps = min(steps, self.most_new_tokens)
        return Decoding(self.num_beams, self.length_penalty, steps, min_new_tokens=steps)


def timed_lengths(lengths: Sequence[int]) -> Sequence[int]:
    """Return those of the ascending lengths that warm-up has time for."""
    longest = min(lengths[-1], _LONGEST_TIMED)
    return [*(length for length in lengths if length < longest), longest]


def _check(num_beams: int, length_penalty: float, max_new_tokens: int) -> None:
    if not 1 <= num_beams <= _MOST_BEAMS:
        raise InvalidInputError(f"num_beams must be from 1 to {_MOST_BEAMS}")
    if not abs(length_penalty) <= _LARGEST_PENALTY:
        raise InvalidInputError(f"length_penalty must be within {_LARGEST_PENALTY:g} of zero")
    if max_new_tokens < 1:
        raise InvalidInputError("max_new_tokens must be at least 1")
