import math
from dataclasses import replace

import numpy as np
import pytest

from service.repository.deviation import decides_otherwise, deviation, total_deviation
from service.tasks import (
    Answer,
    Classification,
    DetectedObject,
    Detections,
    Embedding,
    Label,
    Mask,
    Task,
    Translation,
)
from service.transforms.vision.regions import Region, counts_of

NAN = float("nan")


def labels(**scores: float) -> Classification:
    return Classification(tuple(Label(name, score) for name, score in scores.items()))


def vector(*values: float) -> Embedding:
    return Embedding(np.array(values, np.float32))


def text(said: str) -> Translation:
    return Translation(said, "zh", "en", truncated=False)


def found(*objects: DetectedObject) -> Detections:
    return Detections(objects, 100, 100)


def thing(label: str = "a", score: float = 0.8, left: float = 0.0) -> DetectedObject:
    return DetectedObject(label, score, (left, 0.0, left + 40.0, 40.0))


def masked(height: int, extra: bytes = b"") -> DetectedObject:
    window = np.ones((height, 40), np.bool_)
    counts = counts_of(Region(window, 0, 0, (100, 100))) + extra
    return replace(thing(), mask=Mask(rle=counts.decode()))


def turned(angle: float) -> DetectedObject:
    return replace(thing(), rotated_box=(20.0, 20.0, 50.0, 10.0, angle))


def posed(*points: tuple[float, ...]) -> DetectedObject:
    return replace(thing(), keypoints=points)


@pytest.mark.parametrize(
    ("answer", "golden", "distance"),
    [
        pytest.param(labels(a=0.7, b=0.3), labels(a=0.7, b=0.3), 0.0, id="equal scores"),
        pytest.param(labels(b=0.6, a=0.4), labels(a=0.5, b=0.5), 0.1, id="scores by label"),
        pytest.param(labels(a=0.7, c=0.3), labels(a=0.7, b=0.3), math.inf, id="other labels"),
        pytest.param(labels(a=0.7), labels(a=0.7, b=0.3), math.inf, id="fewer labels"),
        pytest.param(labels(a=0.5, b=NAN), labels(a=0.4, b=0.6), math.inf, id="a NaN, last"),
        pytest.param(labels(a=NAN, b=0.5), labels(a=0.4, b=0.6), math.inf, id="a NaN, first"),
        pytest.param(vector(0.6, 0.8), vector(0.6, 0.8), 0.0, id="equal vectors"),
        pytest.param(vector(0.5, 0.75), vector(0.25, 1.25), 0.5, id="largest element"),
        pytest.param(vector(1.0), vector(0.6, 0.8), math.inf, id="another length"),
        pytest.param(vector(NAN, 0.8), vector(0.6, 0.8), math.inf, id="a vector with NaN"),
        pytest.param(text("hi"), text("hi"), 0.0, id="equal texts"),
        pytest.param(text("hi "), text("hi"), 1.0, id="texts that differ"),
        pytest.param(found(), found(), 0.0, id="nothing there"),
        pytest.param(found(thing()), found(thing()), 0.0, id="the same object"),
        pytest.param(found(thing(score=0.7)), found(thing(score=0.8)), 0.1, id="less certain"),
        pytest.param(found(thing(left=1)), found(thing()), 0.0, id="overlap 0.95"),
        pytest.param(found(thing(left=3)), found(thing()), 1.0, id="overlap 0.86"),
        pytest.param(found(thing("b")), found(thing("a")), 1.0, id="another label"),
        pytest.param(found(), found(thing()), 1.0, id="an object missed"),
        pytest.param(found(), found(thing(score=0.29)), 0.0, id="an uncertain object missed"),
        pytest.param(found(thing(score=NAN)), found(thing()), math.inf, id="a score that is NaN"),
        pytest.param(found(thing(left=NAN)), found(thing()), 1.0, id="a box that is NaN"),
        pytest.param(
            found(thing("b", 0.5), thing(left=50), thing(score=0.6)),
            found(thing(left=50), thing("b", 0.55), thing(score=0.8)),
            0.2,
            id="several objects in another order",
        ),
        pytest.param(found(masked(39)), found(masked(40)), 0.0, id="a mask, overlap 0.98"),
        pytest.param(found(masked(35)), found(masked(40)), 1.0, id="a mask, overlap 0.88"),
        pytest.param(found(masked(40, b"1")), found(masked(40)), 1.0, id="a mask of another size"),
        pytest.param(found(thing()), found(masked(40)), 1.0, id="no mask"),
        pytest.param(found(masked(40)), found(thing()), 0.0, id="a mask that no golden has"),
        pytest.param(found(turned(0.01)), found(turned(0.0)), 0.0, id="turned a little"),
        pytest.param(found(turned(0.3)), found(turned(0.0)), 1.0, id="turned too far"),
        pytest.param(found(thing()), found(turned(0.0)), 1.0, id="no rotated box"),
        pytest.param(found(posed((1, 2, 0.1))), found(posed((3, 3, 0.9))), 0.0, id="near points"),
        pytest.param(found(posed((1, 2))), found(posed((3, 5))), 1.0, id="a point too far"),
        pytest.param(found(posed((1, 2, 0))), found(posed((1, 2))), 1.0, id="points unlike"),
        pytest.param(text("hi"), vector(1.0), math.inf, id="answers of two tasks"),
    ],
)
def test_the_distance_of_an_answer_from_the_golden_one(
    answer: Classification, golden: Classification, distance: float
) -> None:
    assert deviation(answer, golden) == pytest.approx(distance)


def test_of_translations_the_share_that_differs_counts() -> None:
    assert total_deviation(Task.TRANSLATE, [0.0, 1.0, 0.0, 0.0]) == 0.25


@pytest.mark.parametrize("task", [Task.CLASSIFY, Task.DETECT, Task.EMBED])
def test_of_other_answers_the_largest_deviation_counts(task: Task) -> None:
    assert total_deviation(task, [0.0, 0.2, 0.1]) == 0.2


@pytest.mark.parametrize(
    ("answer", "golden", "otherwise"),
    [
        pytest.param(labels(a=0.6, b=0.4), labels(a=0.9, b=0.1), False, id="the same label"),
        pytest.param(labels(b=0.6, a=0.4), labels(a=0.9, b=0.1), True, id="another label"),
        pytest.param(labels(b=0.5, a=0.5), labels(a=0.5, b=0.5), False, id="a tie is no decision"),
        pytest.param(text("tea"), text("tea"), False, id="the same text"),
        pytest.param(text("tea"), text("coffee"), True, id="another text"),
        pytest.param(found(thing()), found(thing(score=0.7)), False, id="the same objects"),
        pytest.param(found(), found(thing()), True, id="an object that is missing"),
        pytest.param(vector(1.0, 0.0), vector(0.0, 1.0), False, id="a vector decides nothing"),
    ],
)
def test_what_decides_otherwise(answer: Answer, golden: Answer, otherwise: bool) -> None:
    assert decides_otherwise(answer, golden) is otherwise


def test_labels_of_one_name_are_compared_in_their_order() -> None:
    golden = Classification((Label("crane", 0.6), Label("cat", 0.3), Label("crane", 0.1)))
    other = Classification((Label("crane", 0.5), Label("cat", 0.3), Label("crane", 0.1)))
    assert deviation(other, golden) == pytest.approx(0.1)
    assert deviation(Classification(golden.labels[:2]), golden) == math.inf
