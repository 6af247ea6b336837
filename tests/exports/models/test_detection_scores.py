"""Answers are read as they are served, and scored as COCO does."""

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("faster_coco_eval")

from models.datasets.detection import Photo
from models.evaluate.detection_answers import Detections, detect, read_output
from models.evaluate.detection_scores import detection_scores
from service.transforms.vision.geometry import Placement

LABELS = ("ace", "king")
BOXES = np.array([[10, 20, 110, 180], [150, 30, 250, 190]], np.float32)
PHOTO = Photo("one.jpg", np.zeros((200, 400, 3), np.uint8), BOXES, np.array([0, 1]))
AS_IT_IS = Placement(1.0, 1.0, left=0, top=0, width=400, height=400)


def output_of(*cells: tuple[tuple[float, ...], tuple[float, ...]]):
    """The served layout [4 + C, N] of cells: centre and size, then scores."""
    return np.array([[*box, *scores] for box, scores in cells], np.float32).T


def test_boxes_return_to_the_photo_through_the_letterbox() -> None:
    place = Placement(0.8, 0.8, left=0, top=80, width=400, height=200)
    found = read_output(output_of(((48, 160, 80, 128), (0.9, 0.1))), place, 0.25)
    np.testing.assert_allclose(found.boxes, [[10, 20, 110, 180]])
    assert found.labels.tolist() == [0]
    assert found.scores.tolist() == [np.float32(0.9)]


def test_doubles_of_a_label_go_and_low_scores_too() -> None:
    output = output_of(
        ((60, 100, 100, 160), (0.6, 0.1)),
        ((62, 100, 100, 160), (0.8, 0.1)),
        ((62, 100, 100, 160), (0.1, 0.7)),
        ((300, 300, 50, 50), (0.2, 0.1)),
    )
    found = read_output(output, AS_IT_IS, 0.25)
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == [np.float32(0.8), np.float32(0.7)]


def test_a_photo_is_fitted_before_and_boxes_are_in_its_own_pixels() -> None:
    shapes = []

    def network(images):
        shapes.append(images.shape)
        assert images[0, :, 0, 0].tolist() == [np.float32(114 / 255)] * 3  # the grey above
        return output_of(((48, 160, 80, 128), (0.9, 0.1)))[None]

    (found,) = detect(network, [PHOTO], 0.25)
    assert shapes == [(1, 3, 320, 320)]
    np.testing.assert_allclose(found.boxes, [[10, 20, 110, 180]], atol=1e-3)


def detections(boxes, labels, scores=(0.9, 0.8)) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores[: len(labels)], np.float32),
        np.array(labels, np.int64),
    )


def test_right_answers_score_one() -> None:
    scores = detection_scores([PHOTO], [detections(BOXES, [0, 1])], LABELS)
    assert (scores.map50, scores.map, scores.recall) == pytest.approx((1, 1, 1))


def test_a_missed_label_counts_for_its_share_of_the_mean() -> None:
    scores = detection_scores([PHOTO], [detections(BOXES[:1], [0])], LABELS)
    assert scores.map50 == pytest.approx(0.5)


def test_swapped_labels_score_nothing() -> None:
    scores = detection_scores([PHOTO], [detections(BOXES, [1, 0])], LABELS)
    assert scores.map50 == 0


def test_a_loose_box_is_right_at_half_overlap_only() -> None:
    loose = BOXES + np.array([0, 0, 0, 80], np.float32)  # overlap 2/3: right at 0.50 to 0.65
    scores = detection_scores([PHOTO], [detections(loose, [0, 1])], LABELS)
    assert scores.map50 == pytest.approx(1)
    assert scores.map == pytest.approx(0.4)


def test_nothing_found_scores_nothing() -> None:
    scores = detection_scores([PHOTO], [detections([], [])], LABELS)
    assert (scores.map50, scores.map, scores.recall) == (0, 0, 0)
