"""Candidates of declared heads."""

from typing import Any

import numpy as np
import pytest

from service.transforms.vision.head_reader import Candidates, HeadReader
from service.transforms.vision.heads import HEADS, Head
from tests.sentences import sentence

SHAPE = (40, 80)


def found(head: Head, labels: int, threshold: float = 0.3, **outputs: Any) -> Candidates:
    """What a head finds in the first image of these outputs."""
    reader = HeadReader.of(head, labels, SHAPE)
    output = reader.arranged({name: np.asarray(v, np.float32) for name, v in outputs.items()})
    best = reader.best_scores(output)
    return reader.found(output[0], best[0], threshold, SHAPE)


def test_a_score_is_the_labels_times_the_objects() -> None:
    one = found(HEADS["yolov5"], 2, out=[[[10, 20, 4, 8, 0.5, 0.2, 0.8], [0, 0, 1, 1, 0.1, 1, 1]]])
    assert one.boxes.tolist() == [[8, 16, 12, 24]]
    assert one.scores.tolist() == pytest.approx([0.4])
    assert one.labels.tolist() == [1]


def test_cells_and_logarithms_become_pixels() -> None:
    rows = np.zeros((1, 5 * 10 + 3 * 5 + 2 * 3, 6), np.float32)
    rows[0, 50 + 7] = [0.5, 0.25, np.log(2), np.log(3), 1, 1]  # stride 16, second row, third cell
    one = found(HEADS["yolox"], 1, out=rows)
    np.testing.assert_allclose(one.boxes, [[40 - 16, 20 - 24, 40 + 16, 20 + 24]], rtol=1e-6)


def test_rows_that_only_fill_the_tensor_are_no_objects() -> None:
    rows = [[[1, 2, 3, 4, 0.9, 1], [0, 0, 0, 0, 0, 0], [1, 1, 2, 2, 0.5, -1], [1, 1, 2, 2, 0.8, 7]]]
    one = found(HEADS["end_to_end"], 2, threshold=0.0, out=rows)
    assert (one.boxes.tolist(), one.labels.tolist()) == ([[1, 2, 3, 4]], [1])


@pytest.mark.parametrize("large", [0.0, 500.0])
def test_sigmoids_are_applied_to_scores_and_objectness(large: float) -> None:
    head = Head(objectness_at=4, scores_at=5, activation="sigmoid")
    one = found(head, 1, out=[[[0, 0, 2, 2, large, -large]]], threshold=0.0)
    assert one.scores.tolist() == pytest.approx([0.25 if large == 0 else 0.0])


@pytest.mark.parametrize(("place", "label"), [("first", 1), ("last", 1)])
def test_a_score_for_nothing_is_no_label(place: Any, label: int) -> None:
    logits = [0.0, np.log(3), np.log(4)] if place == "last" else [np.log(4), 0.0, np.log(3)]
    head = Head(activation="softmax", no_object=place)
    one = found(head, 2, out=[[[0, 0, 2, 2, *logits]]])
    assert one.labels.tolist() == [label]
    assert one.scores.tolist() == pytest.approx([3 / 8])


def test_boxes_may_be_shares_of_the_input_and_begin_at_their_corner() -> None:
    one = found(Head(boxes="corner_size", relative=True), 1, out=[[[0.25, 0.5, 0.5, 0.25, 1]]])
    assert one.boxes.tolist() == [[20, 20, 60, 30]]


def test_several_outputs_are_laid_side_by_side() -> None:
    head = Head(boxes="corners", outputs=("boxes", "scores", "classes"), label_at=5, suppress=False)
    one = found(head, 9, count=[[1]], boxes=[[[1, 2, 3, 4]]], scores=[[0.75]], classes=[[3]])
    assert (one.boxes.tolist(), one.scores.tolist(), one.labels.tolist()) == (
        [[1, 2, 3, 4]], [0.75], [3],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("head", "outputs"),
    [
        (HEADS["yolov8"], {"out": np.zeros((1, 7, 9))}),
        (HEADS["yolox"], {"out": np.zeros((1, 9, 7))}),
        (HEADS["yolov8"], {"out": np.zeros((1, 6, 3, 3))}),
        (Head(outputs=("a", "b")), {"a": np.zeros((1, 9, 6))}),
    ],
)
def test_an_output_of_another_head_is_found_out(head: Head, outputs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, check=sentence):
        HeadReader.of(head, 2, SHAPE).arranged(outputs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"box_at": -1},
        {"strides": (0,)},
        {"strides": (8,), "boxes": "corners"},
        {"label_at": 5, "no_object": "first"},
    ],
)
def test_a_head_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"negative|strides|no_object"):
        Head(**wrong)
