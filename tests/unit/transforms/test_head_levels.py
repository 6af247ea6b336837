"""Declarations of heads that do not fit their graph, or themselves."""

import re
from typing import Any

import numpy as np
import pytest

from service.transforms.vision.head_reader import HeadReader
from service.transforms.vision.heads import Head
from tests.sentences import sentence
from tests.unit.transforms.head_samples import (
    SHAPE,
    cells,
)

LEVELS = (("cls_8", "bbox_8"), ("cls_16", "bbox_16"), ("cls_32", "bbox_32"))


SHAPES = {
    f"{kind}_{stride}": (1, len(cells(stride)), numbers)
    for stride in (8, 16, 32)
    for kind, numbers in (("cls", 2), ("bbox", 4), ("kps", 10))
}


THREE = {"scores_at": 0, "box_at": 2, "levels": LEVELS, "strides": (8, 16, 32)}


DYNAMIC = {name: (None, None, shape[2]) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (THREE, None),
        ({**THREE, "levels": LEVELS[:1], "strides": (8,)}, "also gives cls_16, bbox_16, cls_32"),
        ({**THREE, "levels": (), "strides": (), "outputs": LEVELS[0]}, "further levels"),
        ({**THREE, "strides": (8, 16, 64)}, r"bbox_32|cls_32.*stride 64"),
        ({**THREE, "strides": (16, 8, 32)}, r"cls_8 .* 96 candidates; with stride 16"),
        ({**THREE, "per_cell": (2, 2, 2)}, "96 candidates; with stride 8 there are 8 x 12 cells"),
        ({**THREE, "levels": (*LEVELS[:2], ("cls_64", "bbox_32"))}, "no output cls_64; it has"),
        (
            {**THREE, "levels": (("cls_8", "kps_8"), *LEVELS[1:])},
            "different numbers per candidate .*kps_8: 12; cls_16, bbox_16: 6",
        ),
        ({**THREE, "candidates": "maps"}, r"cls_8 of shape \[1, 96, 2\] is not a list"),
        ({**THREE, "box_at": 1, "scores_at": 5}, "scores for 2 labels"),
        ({"outputs": ("cls_8", "bbox_16"), "scores_at": 0, "box_at": 2}, None),
    ],
)
def test_a_head_is_compared_with_the_graph_level_by_level(
    declared: dict[str, Any], said: str | None
) -> None:
    reader = HeadReader.of(Head(**declared), 2, SHAPE)
    problem = reader.misfit(SHAPES)
    if said is None and "levels" in declared:
        assert problem is None
        assert reader.misfit(DYNAMIC) is None
    elif said is None:
        with pytest.raises(ValueError, check=sentence):
            reader.arranged({n: np.zeros(s, np.float32) for n, s in SHAPES.items()})
    else:
        assert problem is not None
        assert re.search(said, problem), problem


def test_the_first_of_three_maps_is_not_all_of_a_head() -> None:
    shapes = {f"out{s}": (1, 7, SHAPE[0] // s, SHAPE[1] // s) for s in (8, 16, 32)}
    head = Head("maps", objectness_at=4, scores_at=5)
    said = HeadReader.of(head, 2, SHAPE).misfit(shapes)
    assert said is not None
    assert "further levels" in said


@pytest.mark.parametrize("candidates", ["maps", "grids"])
def test_a_level_with_anchors_that_is_not_declared_is_found(candidates: Any) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        f"out{s}": (1, 3, SHAPE[0] // s, SHAPE[1] // s, 7)
        if candidates == "grids"
        else (1, 21, SHAPE[0] // s, SHAPE[1] // s)
        for s in (8, 16, 32)
    }
    head = Head(
        candidates, strides=(8, 16), levels=(("out8",), ("out16",)), objectness_at=4, scores_at=5,
        per_cell=(3, 3),
    )  # fmt: skip
    said = HeadReader.of(head, 2, SHAPE).misfit(shapes)
    assert said is not None
    assert "also gives out32" in said


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": (("a",),)},
        {"anchors": (((1.0, 1.0),),), "size_unit": "anchors"},
        {"boxes": "distances"},
        {"strides": (8,), "boxes": "distances", "size": "linear"},
        {"strides": (8,), "relative": True},
        {"strides": (8,), "size_unit": "anchors"},
        {"strides": (8,), "anchors": (((1.0, 1.0),),)},
        {"strides": (8,), "levels": (("a",),), "outputs": ("a",)},
        {"strides": (8, 16), "levels": (("a",),)},
        {"strides": (8,), "levels": ((),)},
        {"strides": (8,), "per_cell": (0,)},
        {"strides": (8, 16), "candidates": "maps"},
        {"strides": (8,), "candidates": "columns", "per_cell": (2,)},
        {"strides": (8,), "grouped": True},
        {"bins": 8},
        {"powers": (0.0, 1.0)},
        {"strides": (8,), "anchors": (((0.0, 1.0),),), "size_unit": "anchors"},
        {
                "strides": (8,), "anchors": (((2.0, 1.0),),), "size_unit": "anchors",
                "per_cell": (3,),
            },
    ],
)  # fmt: skip
def test_keys_that_contradict_one_another_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, check=sentence):
        Head(**wrong)
