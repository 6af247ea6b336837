"""Objects found in images, with boxes where a person would draw them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import tasks
from service.errors import InferenceError, InvalidInputError, ModelLoadError
from service.families.detector import DetectorParameters, open_detector
from service.families.family import Opened
from service.repository.manifest import read_parameters
from service.tasks import Detections, DetectItem
from tests.sentences import sentence
from tests.unit.families.cases import drawing
from tests.unit.families.sessions import DETECTOR_INPUTS, NumpySession, detector_session
from tests.unit.transforms.images import encoded

SIDE = 64


def detector(**changes: Any) -> Opened[DetectItem, Detections]:
    manifest = {"labels": ["red", "green"], "image_size": SIDE, **changes}
    return open_detector(Path(), read_parameters(manifest, DetectorParameters))


def detected(
    items: list[DetectItem], session: NumpySession | None = None, **changes: Any
) -> list[Detections]:
    family = detector(**changes)
    works = [family.processor.preprocess(item) for item in items]
    results = family.model.infer({"model": session or detector_session()}, works)
    return [family.processor.postprocess(r, item) for r, item in zip(results, items, strict=True)]


def item(data: bytes, **options: Any) -> DetectItem:
    return DetectItem(tasks.Image(data), **options)


def candidates(*columns: list[float]) -> NumpySession:
    """A graph that finds the same candidates in every image."""
    column = np.array(columns, np.float32).T
    return NumpySession(
        lambda feeds: {"output0": np.stack([column] * len(feeds["images"]))}, DETECTOR_INPUTS
    )


def test_boxes_are_in_the_pixels_of_the_original() -> None:
    (found,) = detected([item(drawing((SIDE, SIDE), (8, 8, 24, 40), (40, 40, 60, 60)))])
    assert (found.width, found.height) == (SIDE, SIDE)
    assert [(o.label, o.box) for o in found.objects] == [
        ("red", (8, 8, 24, 40)),
        ("green", (40, 40, 60, 60)),
    ]
    assert [o.score for o in found.objects] == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("size", [(256, 128), (128, 256), (32, 16), (16, 16), (320, 320)])
def test_boxes_are_moved_back_whatever_the_shape_of_the_image(size: tuple[int, int]) -> None:
    width, height = size
    box = (width // 4, height // 4, width // 2, height * 3 // 4)
    (found,) = detected([item(drawing(size, box))])
    assert (found.width, found.height) == size
    (red,) = found.objects
    # Resizing blurs the edges by a pixel, of the image or of the square, whichever is larger.
    assert red.box == pytest.approx(box, abs=1.01 * max(1, max(size) / SIDE))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_where_the_upright_image_has_them(orientation: int) -> None:
    upright = Image.new("RGB", (64, 32))
    upright.paste((255, 0, 0), (8, 4, 24, 28))
    turns = {
        1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4,
    }  # fmt: skip
    # Pillow's Transpose that stores it so that the EXIF orientation brings it back.
    turn = turns[orientation]
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (found,) = detected([item(encoded(stored, exif=exif))])
    assert (found.width, found.height) == (64, 32)
    assert [o.box for o in found.objects] == [(8, 4, 24, 28)]


def test_each_item_of_a_batch_keeps_its_own_thresholds() -> None:
    data = drawing((SIDE, SIDE), (8, 8, 24, 40), (40, 40, 60, 60))
    found = detected(
        [
            item(data),
            item(data, threshold=0.85),
            item(data, threshold=0.95),
            item(data, max_detections=1),
            item(data, iou=1.0, threshold=0.0),
            item(data, iou=0.99),
        ]
    )
    assert [[o.label for o in one.objects] for one in found] == [
        ["red", "green"],
        ["red"],
        [],
        ["red"],
        ["red", "green", "red", "green"],
        ["red", "green", "red", "green"],
    ]


def test_a_score_of_exactly_the_threshold_counts() -> None:
    session = candidates([30, 30, 10, 10, 0.25, 0], [10, 10, 4, 4, 0.2499, 0])
    (found,) = detected([item(drawing((SIDE, SIDE)))], session)
    assert [o.score for o in found.objects] == [0.25]


def test_boxes_end_at_the_edges_of_the_image() -> None:
    session = candidates([0, 32, 40, 400, 0.9, 0])
    (found,) = detected([item(drawing((SIDE, 32)))], session)
    assert [o.box for o in found.objects] == [(0, 0, 20, 32)]


def test_a_candidate_has_its_best_label_only() -> None:
    session = candidates([30, 30, 10, 10, 0.6, 0.7])
    (found,) = detected([item(drawing((SIDE, SIDE)))], session)
    assert [(o.label, o.score) for o in found.objects] == [("green", pytest.approx(0.7))]


def test_objects_of_different_labels_may_lie_on_one_another() -> None:
    session = candidates(
        [30, 30, 10, 10, 0.9, 0], [30, 30, 10, 10, 0.8, 0], [30, 30, 10, 10, 0, 0.7]
    )
    (found,) = detected([item(drawing((SIDE, SIDE)))], session)
    assert [o.label for o in found.objects] == ["red", "green"]


def test_an_image_without_objects_has_none() -> None:
    (found,) = detected([item(drawing((10, 10)))])
    assert found == Detections((), 10, 10)


def test_transparent_pixels_show_the_background() -> None:
    clear = encoded(Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0)))
    (found,) = detected([item(clear)], background=[255, 0, 0])
    assert [(o.label, o.box) for o in found.objects] == [("red", (0, 0, SIDE, SIDE))]


def test_padding_has_the_value_the_manifest_names() -> None:
    work = detector(pad_value=51).processor.preprocess(item(drawing((SIDE, SIDE // 2))))
    assert (work.tensors["pixel_values"][:, 0] == np.float32(0.2)).all()
    assert work.length == SIDE * SIDE


def test_a_graph_of_other_labels_is_found_out() -> None:
    with pytest.raises(InferenceError, check=sentence):
        detected([item(drawing((9, 9)))], labels=["red", "green", "blue"])


@pytest.mark.parametrize(
    "options",
    [
        {"threshold": -0.1},
        {"threshold": 1.1},
        {"threshold": float("nan")},
        {"iou": -0.1},
        {"iou": float("inf")},
        {"max_detections": 0},
        {"max_detections": 10**6},
    ],
)
def test_a_threshold_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        detector().processor.preprocess(item(drawing((9, 9)), **options))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []},
        {"image_size": 0},
        {"resize": "crop"},
        {"pad_value": 300},
        {"score_threshold": 2.0},
        {"iou_threshold": -1.0},
        {"max_detections": 0},
    ],
)
def test_a_manifest_that_makes_no_sense_does_not_load(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        detector(**changes)
