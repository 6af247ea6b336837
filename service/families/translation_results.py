"""What a search found: as the arrays that a batch hands over, and as a translation."""

from collections.abc import Callable, Sequence
from math import isnan

import numpy as np
from numpy.typing import NDArray

from service.families.decoding import Hypothesis
from service.tasks import Alternative, FinishReason, Translation
from service.types import Tensors, Work

_REASONS = tuple(FinishReason)


def result_of(found: Sequence[Hypothesis], work: Work) -> Tensors:
    """Return hypotheses, best first, as a work's result.

    `ids` and `is_truncated` are of the best; `others` holds the ids of the rest one after another,
    `lengths` how many each has; `scores` and `reasons` are of all.
    """
    best, *others = found
    return {
        "ids": best.ids,
        "is_truncated": work.tensors["is_cut"] | (not best.is_complete),
        "others": np.concatenate([one.ids for one in others]) if others else best.ids[:0],
        "lengths": np.array([len(one.ids) for one in others], np.int64),
        "scores": np.array([one.score for one in found]),
        "reasons": np.array([_REASONS.index(one.finish_reason) for one in found], np.int8),
    }


def translation_of(
    result: Tensors,
    alternatives: int,
    decode: Callable[[NDArray[np.int64]], str],
    languages: tuple[str, str],
) -> Translation:
    """Return a result as text, with so many alternatives if as many were found.

    Args:
        result: what `result_of` made.
        alternatives: 0 for none; else the best itself is the first of them.
        decode: turns ids into text.
        languages: of the source and of the target.
    """
    reasons = [_REASONS[number] for number in result["reasons"].tolist()]
    text = decode(result["ids"])
    scores = [None if isnan(score) else score for score in result["scores"].tolist()]
    others = np.split(result["others"], np.cumsum(result["lengths"])[:-1])
    texts = [text, *(decode(ids) for ids in others[: max(alternatives - 1, 0)])]
    found = [Alternative(*one) for one in zip(texts, scores, reasons, strict=False)]
    return Translation(
        text, *languages, bool(result["is_truncated"]), reasons[0], tuple(found[:alternatives])
    )
