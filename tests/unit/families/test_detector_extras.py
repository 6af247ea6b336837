"""Detectors that find masks, keypoints or rotated boxes."""

from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import tasks
from service.errors import InvalidInputError, LimitExceededError, ModelLoadError
from service.families.detector import DetectorParameters, open_detector
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.tasks import Detections, DetectItem, MaskForm
from service.transforms.vision import masks
from service.transforms.vision.regions import mask_of
from service.types import TensorSpec
from tests.sentences import sentence
from tests.unit.families.cases import drawing
from tests.unit.families.sessions import DETECTOR_INPUTS, NumpySession

SIDE = 64
MASKS = {"prototypes": "maps"}
POINTS = {"keypoints": [2, 3]}
ROTATED = {"rotated": True}


def detector(**changes: Any) -> Opened[DetectItem, Detections]:
    manifest = {"labels": ["red", "green"], "image_size": SIDE, **changes}
    return open_detector(Path(), read_parameters(manifest, DetectorParameters))


def graph(*candidates: list[float], maps: Any = None) -> NumpySession:
    """A graph that finds the same candidates in every image."""
    column = np.array(candidates, np.float32).T
    outputs = {"output0": column} | ({} if maps is None else {"maps": np.float32(maps)})
    return NumpySession(
        lambda feeds: {n: np.stack([one] * len(feeds["images"])) for n, one in outputs.items()},
        DETECTOR_INPUTS,
    )


def found(
    session: NumpySession, size: tuple[int, int], masks: MaskForm | None = None, **changes: Any
) -> Detections:
    family = detector(**changes)
    item = DetectItem(tasks.Image(drawing(size)), masks=masks)
    (result,) = family.model.infer({"model": session}, [family.processor.preprocess(item)])
    return family.processor.postprocess(result, item)


# Two maps of 16 x 16: the left half of the input, and the upper half.
HALVES = np.full((2, 16, 16), -1.0)
HALVES[0, :, :8] = HALVES[1, :8] = 1.0
LEFT = [32.0, 32, 40, 40, 0.9, 0, 1, 0]
UPPER = [32.0, 32, 40, 40, 0, 0.8, 0, 1]


def test_a_mask_is_a_sum_of_prototypes_within_the_box() -> None:
    answer = found(graph(LEFT, UPPER, maps=HALVES), (SIDE, SIDE), **MASKS)
    left, upper = answer.objects
    for one, rows, columns in ((left, (12, 52), (12, 32)), (upper, (12, 32), (12, 52))):
        assert one.mask is not None
        assert one.mask.rle is not None
        wanted = np.zeros((SIDE, SIDE), np.bool_)
        wanted[slice(*rows), slice(*columns)] = True
        np.testing.assert_array_equal(mask_of(one.mask.rle.encode(), (SIDE, SIDE)), wanted)


@pytest.mark.parametrize("size", [(128, 64), (40, 100), (64, 32)])
def test_a_mask_is_as_large_as_the_image(size: tuple[int, int]) -> None:
    width, height = size
    answer = found(graph([32.0, 32, 64, 64, 0.9, 0, 1, 0], maps=HALVES), size, **MASKS)
    (one,) = answer.objects
    assert one.mask is not None
    assert one.mask.rle is not None
    wanted = np.zeros((height, width), np.bool_)
    wanted[:, : width // 2] = True
    np.testing.assert_array_equal(mask_of(one.mask.rle.encode(), (height, width)), wanted)


@pytest.mark.parametrize(
    ("form", "member"), [("rle", "rle"), ("polygons", "polygons"), ("png", "png"), ("none", None)]
)
def test_a_request_chooses_the_form_of_masks(form: MaskForm, member: str | None) -> None:
    answer = found(graph(LEFT, maps=HALVES), (SIDE, SIDE), form, **MASKS)
    (one,) = answer.objects
    if member is None:
        assert one.mask is None
        return
    assert one.mask is not None
    there = [name for name in ("rle", "polygons", "png") if getattr(one.mask, name) is not None]
    assert there == [member]
    if form == "polygons":
        (ring,) = one.mask.polygons or ()
        assert set(ring) == {(12.0, 12.0), (32.0, 12.0), (32.0, 52.0), (12.0, 52.0)}


def test_an_object_whose_mask_is_empty_is_left_out() -> None:
    session = graph(LEFT, [*UPPER[:6], 0, -0.0], maps=HALVES)
    assert [one.label for one in found(session, (SIDE, SIDE), **MASKS).objects] == ["red"]
    assert len(found(session, (SIDE, SIDE), "none", **MASKS).objects) == 2


def test_masks_are_refused_where_the_model_finds_none() -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        found(graph(LEFT[:6]), (SIDE, SIDE), "rle")
    assert found(graph(LEFT[:6]), (SIDE, SIDE), "none").objects[0].mask is None


@pytest.mark.parametrize(
    ("limit", "value"), [("MOST_PIXELS", 1000), ("MOST_WRITTEN", 1000), ("MOST_BYTES", 5)]
)
def test_masks_that_take_too_much_are_refused(
    limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, limit, value)
    with pytest.raises(LimitExceededError, match="max_detections"):
        found(graph(LEFT, UPPER, maps=HALVES), (SIDE, SIDE), **MASKS)


def test_a_mask_computed_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 16, 16))
    session = graph(LEFT, UPPER, maps=maps)
    whole = found(session, (300, 200), **MASKS)
    monkeypatch.setattr(masks, "_BLOCK", 700)
    assert found(session, (300, 200), **MASKS) == whole


def test_keypoints_are_moved_to_the_image_and_end_at_its_edges() -> None:
    session = graph([32.0, 32, 20, 20, 0.9, 0, 20, 40, 0.75, -9, 10, 0.25])
    (one,) = found(session, (128, 64), **POINTS).objects
    # The image of 128 x 64 is halved, with 16 rows above it.
    assert one.keypoints == ((40.0, 48.0, 0.75), (0.0, 0.0, 0.25))
    assert one.box == (44, 12, 84, 52)


def test_a_rotated_box_has_an_upright_one_around_it() -> None:
    session = graph([32.0, 32, 20, 10, 0.9, 0, pi / 2])
    (one,) = found(session, (128, 64), **ROTATED).objects
    assert one.rotated_box == pytest.approx((64, 32, 40, 20, pi / 2))
    assert one.box == pytest.approx((54, 12, 74, 52))


def test_rotated_boxes_of_a_label_that_overlap_are_one_object() -> None:
    box = [32.0, 32, 30, 6]
    session = graph(
        [*box, 0.9, 0, 0.0],
        [*box, 0.8, 0, pi / 2],  # crosses it
        [*box, 0.7, 0, 0.05],
        [*box, 0, 0.6, 0.0],  # another label
    )
    answer = found(session, (SIDE, SIDE), **ROTATED)
    assert [one.score for one in answer.objects] == pytest.approx([0.9, 0.8, 0.6])


def test_numbers_that_are_none_do_no_harm() -> None:
    nan = float("nan")
    session = graph([nan, 32, 40, 40, 0.9, 0, 1, 0], UPPER, maps=HALVES)
    assert [one.label for one in found(session, (SIDE, SIDE), **MASKS).objects] == ["green"]
    flat = [[32.0, 32, 0, 0, 0.9, 0, 0.0], [32.0, 32, 0, 0, 0.8, 0, 0.3], [nan] * 4 + [0.7, 0, nan]]
    assert len(found(graph(*flat), (SIDE, SIDE), **ROTATED).objects) >= 1


def test_a_final_head_keeps_every_object() -> None:
    rows = np.float32([[32, 32, 30, 6, 0.9, 1, 0.5], [32, 32, 30, 6, 0.8, 1, 0.5], [0] * 7])
    session = NumpySession(
        lambda feeds: {"output0": np.stack([rows] * len(feeds["images"]))}, DETECTOR_INPUTS
    )
    answer = found(session, (SIDE, SIDE), layout="end_to_end", **ROTATED)
    assert [one.label for one in answer.objects] == ["green", "green"]
    assert answer.objects[0].rotated_box == pytest.approx((32, 32, 30, 6, 0.5))


@pytest.mark.parametrize(
    ("changes", "shapes", "said"),
    [
        (MASKS, {"output0": (1, 8, 84), "maps": (1, 2, 16, 16)}, None),
        (MASKS, {"output0": (1, 8, 84), "maps": (1, None, 16, 16)}, None),
        (MASKS, {"output0": (1, 9, 84), "maps": (1, 2, 16, 16)}, "3 numbers after"),
        (MASKS, {"output0": (1, 6, 84), "maps": (1, None, 16, 16)}, "must be some"),
        (MASKS, {"output0": (1, 8, 84)}, "no output maps for prototypes; it has output0"),
        (MASKS, {"output0": (1, 8, 84), "maps": (1, 2, 16)}, "is not prototypes"),
        (POINTS, {"output0": (1, 12, 84)}, None),
        (POINTS, {"output0": (1, 11, 84)}, "there must be 6"),
        (ROTATED, {"output0": (1, 7, 84)}, None),
        (ROTATED, {"output0": (1, 6, 84)}, "there must be 1"),
        ({}, {"output0": (1, 7, 84)}, "3 scores for 2 labels"),
    ],
)
def test_the_numbers_of_a_candidate_are_checked(
    changes: dict[str, Any], shapes: dict[str, tuple[int | None, ...]], said: str | None
) -> None:
    specs = {name: TensorSpec("float32", shape) for name, shape in shapes.items()}
    problem = detector(**changes).traits.head_problem
    assert problem is not None
    answer = problem({"model": specs})
    assert answer is None if said is None else said in (answer or "")


@pytest.mark.parametrize(
    "changes",
    [
        {**MASKS, **ROTATED},
        {"keypoints": [0, 3]},
        {"keypoints": [17, 4]},
    ],
)
def test_extras_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        detector(**changes)
