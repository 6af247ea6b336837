"""Measures of answers against the truth: pure functions over arrays and names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.tasks import Embedding

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """Shares of 0..1; the macro measures are means over the labels, each counting the same."""

    accuracy: float
    macro_recall: float
    macro_f1: float


def classification_scores(truth: Sequence[str], answers: Sequence[str]) -> ClassificationScores:
    """Compare labels with the truth.

    The labels counted are those that occur in the truth; one that is never answered has a
    recall and an F1 of 0.

    Raises:
        ValueError: if there is nothing to compare, or the lengths differ.
    """
    if not truth:
        raise ValueError("nothing to score")
    pairs = list(zip(truth, answers, strict=True))
    recalls, f1s = [], []
    for label in sorted(set(truth)):
        right = sum(true == answer == label for true, answer in pairs)
        wanted, given = truth.count(label), sum(answer == label for answer in answers)
        recalls.append(right / wanted)
        f1s.append(2 * right / (wanted + given))
    right = sum(true == answer for true, answer in pairs)
    return ClassificationScores(right / len(pairs), float(np.mean(recalls)), float(np.mean(f1s)))


def expected_calibration_error(
    scores: Sequence[float], right: Sequence[bool], bins: int = 15
) -> float:
    """Return how far scores are from the share of right answers, 0 (calibrated) to 1.

    Answers are put into bins of equal width by their score, 0..1; the distance of the mean
    score of a bin from its share of right answers is averaged over all answers.

    Raises:
        ValueError: if there is nothing to compare, or the lengths differ.
    """
    if not scores or len(scores) != len(right):
        raise ValueError(f"{len(scores)} scores of {len(right)} answers")
    apart = np.subtract(scores, np.asarray(right, dtype=np.float64))
    places = np.minimum((np.asarray(scores) * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(places, weights=apart)).sum() / len(scores))


def recall_at(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], own: Sequence[int], depth: int
) -> float:
    """Return the share of queries whose own gallery row is among their nearest `depth`.

    Rows are vectors of length 1. A tie counts against the query, so a model that answers the
    same vector to everything scores 0.
    """
    similarity = queries @ gallery.T
    mine = similarity[np.arange(len(queries)), list(own)][:, None]
    others = similarity >= mine
    others[np.arange(len(queries)), list(own)] = False
    return float((others.sum(axis=1) < depth).mean())


def dense_rows(answers: Sequence[Embedding]) -> NDArray[np.float32]:
    """Return sparse vectors with their zeros, as wide as the largest index needs."""
    places = [np.zeros(0, np.int32) if a.indices is None else a.indices for a in answers]
    dense = np.zeros((len(answers), 1 + max(one.max(initial=0) for one in places)), np.float32)
    for row, answer, indices in zip(dense, answers, places, strict=True):
        row[indices] = answer.vector
    return dense


def rouge_l(text: str, references: Sequence[str]) -> float:
    """Return the F1 of the longest common subsequence of words with the nearest reference.

    Words are letters and digits in lower case, without stemming; a text without words scores 0.
    """
    words = _WORD.findall(text.lower())
    return max(_common(words, _WORD.findall(one.lower())) for one in references)


def _common(words: Sequence[str], others: Sequence[str]) -> float:
    before = [0] * (len(others) + 1)
    for word in words:
        row = [0]
        for at, other in enumerate(others):
            row.append(before[at] + 1 if word == other else max(before[at + 1], row[at]))
        before = row
    return 2 * before[-1] / max(len(words) + len(others), 1)
