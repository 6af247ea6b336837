"""Overlap, suppression and the way back to the original image."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from service.transforms.vision.boxes import (
    MAX_CANDIDATES,
    corners,
    iou_matrix,
    suppress,
    to_original,
)
from service.transforms.vision.geometry import Placement
from service.transforms.vision.processing import ImageProcessor, Processing

coordinate = st.integers(0, 20)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
scored = st.lists(st.tuples(box, st.integers(0, 5), st.integers(0, 2)), max_size=40)


def cells(one: tuple[int, int, int, int]) -> set[tuple[int, int]]:
    return set(product(range(one[0], one[2]), range(one[1], one[3])))


@given(st.lists(box, min_size=1, max_size=5), st.lists(box, min_size=1, max_size=5))
def test_overlap_is_the_share_of_common_cells(
    first: list[tuple[int, int, int, int]], second: list[tuple[int, int, int, int]]
) -> None:
    counted = [
        [len(cells(a) & cells(b)) / max(1, len(cells(a) | cells(b))) for b in second] for a in first
    ]
    found = iou_matrix(np.array(first, np.float32), np.array(second, np.float32))
    assert found.dtype == np.float32
    assert_allclose(found, counted, atol=1e-6)


def greedy(
    boxes: np.ndarray, scores: np.ndarray, iou: float, limit: int, labels: np.ndarray | None
) -> list[int]:
    """The definition, one box at a time."""
    overlap = iou_matrix(boxes, boxes)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not any(
            overlap[other, index] > iou and (labels is None or labels[other] == labels[index])
            for other in kept
        ):
            kept.append(int(index))
    return kept[:limit]


@given(scored, st.floats(0, 1), st.integers(1, 50), st.booleans())
def test_suppression_equals_its_definition(
    found: list, iou: float, limit: int, per_label: bool
) -> None:
    boxes = np.array([b for b, _, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([s / 5 for _, s, _ in found], np.float32)
    labels = np.array([c for _, _, c in found], np.int64) if per_label else None
    kept = suppress(boxes, scores, iou, limit, labels)
    assert_array_equal(kept, greedy(boxes, scores, iou, limit, labels))


@pytest.mark.parametrize("limit", [1, 50, 1000])
@pytest.mark.parametrize("size", [4.0, 30.0, 200.0])
def test_suppression_of_many_candidates_equals_its_definition(size: float, limit: int) -> None:
    rng = np.random.default_rng(int(size))
    corner = rng.uniform(0, 300, (600, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, size, (600, 2))], 1).astype(np.float32)
    scores = rng.random(600).astype(np.float32)
    labels = rng.integers(0, 3, 600)
    expected = greedy(boxes, scores, 0.5, limit, labels)
    assert_array_equal(suppress(boxes, scores, 0.5, limit, labels), expected)


def test_of_too_many_candidates_the_best_compete() -> None:
    count = MAX_CANDIDATES + 500
    left = np.arange(count, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 5, left * 0 + 5], axis=1)
    scores = np.linspace(0, 1, count, dtype=np.float32)
    kept = suppress(boxes, scores, 0.5, count)
    assert_array_equal(kept, np.arange(count)[::-1][:MAX_CANDIDATES])


def test_boxes_of_other_labels_do_not_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    labels = np.array([0, 0, 1])
    assert_array_equal(suppress(boxes, scores, 0.5, 9, labels), [1, 2])
    assert_array_equal(suppress(boxes, scores, 0.5, 9), [1])


def test_nothing_found_is_nothing_kept() -> None:
    assert suppress(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5, 9).size == 0


def test_centred_boxes_become_corners() -> None:
    centred = np.array([[10, 20, 4, 6], [0, 0, 2, 2]], np.float32)
    assert_array_equal(corners(centred), [[8, 17, 12, 23], [-1, -1, 1, 1]])


def test_boxes_go_back_to_the_original_image() -> None:
    where = Placement(0.5, 0.5, 0, 40, 640, 480)
    found = np.array([[10, 50, 30, 60]], np.float32)
    assert_array_equal(to_original(found, where), [[20, 20, 60, 40]])


def test_boxes_are_cut_at_the_edges_of_the_original() -> None:
    where = Placement(0.5, 0.5, 0, 40, 640, 480)
    found = np.array([[-5, 0, 400, 400], [0, 0, 320, 40]], np.float32)
    assert_array_equal(to_original(found, where), [[0, 0, 640, 480], [0, 0, 640, 0]])


@pytest.mark.parametrize("size", [(640, 480), (37, 91), (320, 320), (1000, 12)])
def test_what_the_letterbox_moved_comes_back(size: tuple[int, int]) -> None:
    recipe = Processing(resize="letterbox", size=(320, 320))
    _, where = ImageProcessor(recipe)(Image.new("RGB", size))
    original = np.array([[0, 0, *size], [1, 2, size[0] / 2, size[1] / 2]], np.float32)
    scales = np.float32([where.scale_x, where.scale_y] * 2)
    moved = original * scales + np.float32([where.left, where.top] * 2)
    assert_allclose(to_original(moved, where), original, atol=1e-2)
