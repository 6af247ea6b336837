"""How far the answers of another engine may be from those of the original. Pure functions."""

from typing import Final, Literal, TypeAlias

import numpy as np

from service.repository.deviation import CERTAIN_SCORE, decides_otherwise, deviation
from service.tasks import Answer, Detections, Embedding, Generation, Translation
from service.transforms.vision.boxes import iou_matrix

Exactness: TypeAlias = Literal["strict", "close", "fast"]
"""`strict`: float32 is computed in float32. `close`: decisions are the same, and scores nearly.
`fast`: whatever the manifest tolerates of a precision."""

CLOSE_SCORE: Final = 0.01
"""Largest difference of scores between close answers; of tensors, as a share of the largest."""

CLOSE_COSINE: Final = 0.999
CLOSE_IOU: Final = 0.97


def agrees(exactness: Exactness, answer: Answer, other: Answer, tolerance: float) -> bool:
    """Tell whether an answer is as near to another one as this exactness asks.

    Args:
        exactness: of the two answers.
        answer: of the engine that is compared.
        other: recorded, or of another engine.
        tolerance: largest deviation that the manifest allows.
    """
    if exactness == "close":
        return is_close(answer, other)
    is_tolerable = deviation(answer, other) <= tolerance
    if exactness == "strict":
        return is_tolerable and not decides_otherwise(answer, other)
    return is_tolerable or is_close(answer, other)


def is_close(answer: Answer, other: Answer) -> bool:
    """Tell whether two answers decide the same, with nearly the same scores.

    Scores differ by at most `CLOSE_SCORE`, boxes overlap by at least `CLOSE_IOU`, vectors have a
    cosine of at least `CLOSE_COSINE`, and texts are equal.
    """
    match answer, other:
        case (Translation(), _) | (Generation(), _):
            return deviation(answer, other) == 0
        case Embedding(indices=None), Embedding(indices=None):
            return _cosine(answer, other) >= CLOSE_COSINE
        case Detections(), Detections():
            return _boxes_are_close(answer, other) and _scores_are_close(answer, other)
        case _:
            return _scores_are_close(answer, other)


def _scores_are_close(answer: Answer, other: Answer) -> bool:
    return deviation(answer, other) <= CLOSE_SCORE and not decides_otherwise(answer, other)


def _cosine(one: Embedding, other: Embedding) -> float:
    if one.vector.shape != other.vector.shape:
        return -1.0
    first, second = (each.vector.astype(np.float64).ravel() for each in (one, other))
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norms if norms else float(np.array_equal(first, second))


def _boxes_are_close(found: Detections, golden: Detections) -> bool:
    """Tell whether every certain object has a box of its label that nearly covers it."""
    wanted = [one for one in golden.objects if one.score >= CERTAIN_SCORE]
    if not wanted:
        return True
    boxes = [
        np.array([one.box for one in objects], np.float32).reshape(-1, 4)
        for objects in (wanted, found.objects)
    ]
    overlaps = iou_matrix(boxes[0], boxes[1])
    labels = np.array(
        [[one.label == mine.label for one in found.objects] for mine in wanted], np.bool_
    )
    return bool(((overlaps >= CLOSE_IOU) & labels).any(axis=1).all())
