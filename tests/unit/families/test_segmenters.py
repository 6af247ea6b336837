"""Labels of pixels, as objects with masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service import tasks
from service.errors import LimitExceededError, ModelLoadError
from service.families import FAMILIES
from service.repository.manifest import read_parameters
from service.tasks import DetectedObject, Detections, DetectItem
from service.transforms.vision import label_maps
from service.transforms.vision.geometry import Placement
from service.transforms.vision.label_maps import best_map, places
from service.transforms.vision.masks import Grid
from service.transforms.vision.regions import mask_of
from tests.sentences import sentence
from tests.unit.families.cases import CASES, drawing
from tests.unit.families.sessions import IMAGE_INPUTS, NumpySession, map_session, query_session

RED, GREEN = (8, 8, 32, 24), (40, 8, 56, 32)


def found(
    family: str, session: NumpySession, size: tuple[int, int] = (64, 32), **options: Any
) -> Detections:
    entry = FAMILIES[family]
    parameters = {**CASES[family].parameters, **options.pop("parameters", {})}
    opened = entry.open(Path(), read_parameters(parameters, entry.parameters))
    scale = size[0] // 64
    boxes = [tuple(scale * edge for edge in box) for box in (RED, GREEN)]
    item = DetectItem(tasks.Image(drawing(size, *boxes)), **options)  # type: ignore[arg-type]
    (result,) = opened.model.infer({"model": session}, [opened.processor.preprocess(item)])
    answer = opened.processor.postprocess(result, item)
    assert isinstance(answer, Detections)
    return answer


def pixels(one: DetectedObject, answer: Detections) -> NDArray[np.bool_]:
    assert one.mask is not None
    assert one.mask.rle is not None
    return mask_of(one.mask.rle.encode(), (answer.height, answer.width))


def painted(box: tuple[int, int, int, int], scale: int = 1) -> NDArray[np.bool_]:
    mask = np.zeros((32 * scale, 64 * scale), np.bool_)
    left, top, right, bottom = (scale * edge for edge in box)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize("scale", [1, 3])
def test_each_label_that_is_there_is_an_object(scale: int) -> None:
    answer = found("segmenter", map_session(), (64 * scale, 32 * scale))
    by_label = {one.label: one for one in answer.objects}
    assert by_label.keys() == {"black", "red", "green"}
    total = sum(pixels(one, answer).astype(int) for one in answer.objects)
    assert (total == 1).all()  # each pixel has one label
    for label, box in (("red", RED), ("green", GREEN)):
        wrong = pixels(by_label[label], answer) ^ painted(box, scale)
        inner = painted((box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1), scale)
        assert not (wrong & inner).any()
        assert by_label[label].box == pytest.approx([scale * edge for edge in box], abs=scale)
    scores = [one.score for one in answer.objects]
    assert scores == sorted(scores, reverse=True)


def test_the_score_is_the_mean_probability_of_the_label() -> None:
    answer = found("segmenter", map_session())
    red = next(one for one in answer.objects if one.label == "red")
    logits = np.array([2.0, 4.0, 0.0])
    assert red.score == pytest.approx(np.exp(4) / np.exp(logits).sum(), abs=1e-5)


def test_labels_may_be_chosen_by_score_and_number() -> None:
    whole = found("segmenter", map_session(), masks="none")
    assert all(one.mask is None for one in whole.objects)
    least = whole.objects[1].score
    assert (
        found("segmenter", map_session(), masks="none", threshold=least).objects
        == (whole.objects[:2])
    )
    assert (
        found("segmenter", map_session(), masks="none", max_detections=1).objects
        == (whole.objects[:1])
    )


def test_a_graph_may_give_the_labels_themselves() -> None:
    labels = np.zeros((1, 16, 32), np.int32)
    labels[:, 4:8, 8:16], labels[:, 0, 0] = 2, 7  # 7 is no label
    session = NumpySession(lambda feeds: {"map": labels}, IMAGE_INPUTS)
    answer = found("segmenter", session)
    black, green = answer.objects
    assert (black.label, green.label, green.score) == ("black", "green", 1.0)
    np.testing.assert_array_equal(pixels(green, answer), painted((16, 8, 32, 16)))
    assert pixels(black, answer).sum() == 64 * 32 - 16 * 8 - 4


def test_queries_share_the_pixels_among_them() -> None:
    answer = found("set_segmenter", query_session(), masks="rle")
    red, green = answer.objects
    assert (red.label, green.label) == ("red", "green")
    assert red.score > green.score > 0.5
    assert not (pixels(red, answer) & pixels(green, answer)).any()
    assert (pixels(red, answer) & painted(RED)).sum() == painted(RED).sum()


def test_an_object_that_others_cover_is_left_out() -> None:
    logits = np.float32([[[5, 0, 0], [0, 1.5, 0]]])
    masks = np.full((1, 2, 8, 16), 6, np.float32)
    masks[:, 0, 6:] = -6  # the first covers three quarters of the second
    session = NumpySession(
        lambda feeds: {"class_queries_logits": logits, "masks_queries_logits": masks}, IMAGE_INPUTS
    )
    assert [one.label for one in found("set_segmenter", session).objects] == ["red"]
    kept = found("set_segmenter", session, parameters={"visible_share": 0.1})
    assert [one.label for one in kept.objects] == ["red", "green"]


def overlapping() -> NumpySession:
    """Two queries, red and green, of which the second covers part of the first."""
    logits = np.array([[[5, 0, 0], [0, 4, 0]]], np.float32)
    masks = np.full((1, 2, 8, 16), -6, np.float32)
    masks[:, 0, :, :8], masks[:, 1, :, 4:] = 6, 6
    return NumpySession(lambda feeds: {"logits": logits, "pred_masks": masks}, IMAGE_INPUTS)


def test_masks_of_instances_may_overlap() -> None:
    red, green = found(
        "set_segmenter", overlapping(), parameters={"segments": "instance"}, threshold=0.9
    ).objects
    assert (red.label, green.label) == ("red", "green")
    assert red.box == (0, 0, 32, 32)
    assert green.box == (16, 0, 64, 32)
    few = {"segments": "instance", "max_detections": 1}
    assert len(found("set_segmenter", overlapping(), parameters=few).objects) == 1


def test_an_instance_without_pixels_is_left_out() -> None:
    logits, masks = np.float32([[[9, 0, 0]]]), np.full((1, 1, 8, 16), -6, np.float32)
    session = NumpySession(lambda feeds: {"logits": logits, "pred_masks": masks}, IMAGE_INPUTS)
    answer = found("set_segmenter", session, parameters={"segments": "instance"}, threshold=0)
    assert answer.objects == ()


def test_queries_may_name_all_pixels_of_a_label() -> None:
    answer = found("set_segmenter", overlapping(), parameters={"segments": "semantic"})
    assert {one.label for one in answer.objects} == {"red", "green"}
    total = sum(pixels(one, answer).astype(int) for one in answer.objects)
    assert (total == 1).all()
    assert all(0 < one.score < 1 for one in answer.objects)


def test_masks_may_be_resized_before_they_are_read() -> None:
    whole = found("set_segmenter", overlapping(), parameters={"visible_share": 0.1})
    again = found(
        "set_segmenter",
        overlapping(),
        parameters={"visible_share": 0.1, "mask_size": [24, 24]},
    )
    assert [one.label for one in again.objects] == [one.label for one in whole.objects]
    for one, other in zip(again.objects, whole.objects, strict=True):
        assert (pixels(one, again) != pixels(other, whole)).mean() < 0.05
    with pytest.raises(ModelLoadError, check=sentence):
        found("set_segmenter", overlapping(), parameters={"mask_size": [0, 24]})


def test_nothing_certain_is_nothing() -> None:
    assert found("set_segmenter", query_session(), threshold=0.99).objects == ()


def test_what_cannot_win_is_not_computed_and_changes_nothing() -> None:
    random = np.random.default_rng(0)
    maps = random.normal(size=(9, 6, 7)).astype(np.float32)
    maps[3] -= 9
    grid = Grid.of((6, 7), (6, 7), Placement(7 / 50, 6 / 40, 0, 0, 50, 40))
    every = np.stack([grid.at(one, range(40), range(50)) for one in maps])
    np.testing.assert_array_equal(best_map(maps, grid), every.argmax(axis=0))
    assert 3 not in label_maps._winners(maps)


def test_places_are_the_extents_of_labels() -> None:
    labels = np.full((6, 8), -1, np.int32)
    labels[1:3, 2:5], labels[5, 7] = 4, 0
    assert [(one.label, one.box) for one in places(labels)] == [
        (0, (7, 5, 8, 6)),
        (4, (2, 1, 5, 3)),
    ]


def test_too_many_maps_of_a_large_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_maps, "MOST_WRITTEN", 1000)
    for family, session in (("segmenter", map_session()), ("set_segmenter", query_session())):
        with pytest.raises(LimitExceededError, check=sentence):
            found(family, session)


@pytest.mark.parametrize("family", ["segmenter", "set_segmenter"])
def test_cropped_images_are_refused(family: str) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        found(family, map_session(), parameters={"processing": {"size": [32, 64], "crop": [8, 8]}})
