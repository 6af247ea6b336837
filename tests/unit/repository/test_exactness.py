"""When two answers are close."""

import numpy as np
import pytest

from service.repository.exactness import Exactness, agrees, is_close
from service.tasks import Answer, DetectedObject, Detections, Embedding


def found(*objects: DetectedObject) -> Detections:
    return Detections(objects, 100, 100)


def thing(label: str = "a", score: float = 0.8, left: float = 0.0) -> DetectedObject:
    return DetectedObject(label, score, (left, 0.0, left + 40.0, 40.0))


@pytest.mark.parametrize(
    ("answer", "other", "wanted"),
    [
        (found(thing()), found(thing()), True),
        (found(thing(left=0.5)), found(thing()), True),
        (found(thing(left=0.7)), found(thing()), False),
        (found(thing(score=0.78)), found(thing()), False),
        (found(thing(label="b")), found(thing()), False),
        (found(), found(thing()), False),
        (found(), found(), True),
        (found(), found(thing(score=0.2)), True),
        (found(thing(), thing(left=50)), found(thing(), thing(left=50)), True),
    ],
)
def test_objects_are_close_if_each_has_a_partner(
    answer: Detections, other: Detections, wanted: bool
) -> None:
    assert is_close(answer, other) is wanted


@pytest.mark.parametrize(
    ("exactness", "angle", "wanted"),
    [
        ("strict", 0.0005, True),
        ("strict", 0.02, False),
        ("close", 0.02, True),
        ("close", 0.06, False),
        ("fast", 0.02, True),
        ("fast", 0.06, False),
    ],
)
def test_vectors_are_close_by_their_angle(exactness: Exactness, angle: float, wanted: bool) -> None:
    one, other = (
        Embedding(np.array([np.cos(turn), np.sin(turn)], np.float32)) for turn in (0.0, angle)
    )
    pair: tuple[Answer, Answer] = (other, one)
    assert agrees(exactness, *pair, tolerance=0.001) is wanted
