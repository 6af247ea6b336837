"""Masks, keypoints, rotated boxes and maps of labels, against recorded answers of Ultralytics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from service import tasks
from service.tasks import DetectedObject, Detections, DetectItem
from service.transforms.vision.regions import mask_of
from tests.exports import yolo_heads as heads
from tests.exports.serving import answers, serving
from tests.unit.transforms.images import encoded

pytestmark = pytest.mark.looptime(False)  # real threads

RECORD = json.loads(heads.RECORD.read_text())
FILES = [encoded(image) for image in heads.IMAGES]


def items(**options: Any) -> list[DetectItem]:
    chosen = {"threshold": heads.THRESHOLD, "iou": heads.IOU, **options}
    return [DetectItem(tasks.Image(file), **chosen) for file in FILES]


def exported(folder: Path, task: str, is_final: bool = False, is_dynamic: bool = False) -> Path:
    folder.mkdir()
    onnx.save(heads.model(task, is_final, is_dynamic), folder / "best.onnx")
    return folder


def pixels(counts: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    return mask_of(counts.encode(), (size[1], size[0]))


def mask(found: DetectedObject, size: tuple[int, int]) -> NDArray[np.bool_]:
    assert found.mask is not None
    assert found.mask.rle is not None
    return pixels(found.mask.rle, size)


def near(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    """Whether two masks differ at pixels next to an edge only, and at few of them."""
    wide = np.pad(other, 1, "edge")
    shifted = [wide[y : y + len(one), x : x + one.shape[1]] for y in range(3) for x in range(3)]
    off_edge = np.where(one, ~np.logical_or.reduce(shifted), np.logical_and.reduce(shifted))
    return not off_edge.any() and (one != other).sum() <= 0.01 * other.sum()


@pytest.mark.parametrize(("task", "is_final"), heads.KINDS)
async def test_it_answers_as_ultralytics(task: str, is_final: bool, tmp_path: Path) -> None:
    alone, _ = await answers(exported(tmp_path / "m", task, is_final), items())
    wanted = RECORD[f"{task} {is_final}"]
    assert min(map(len, wanted)) > 1
    compare(alone, wanted, task)


async def test_a_graph_of_any_size_gets_the_rectangles_of_ultralytics(tmp_path: Path) -> None:
    folder, asked = exported(tmp_path / "m", "segment", is_dynamic=True), items()
    alone, together = await answers(folder, [*asked, *asked[:2], asked[0]])
    assert together == alone
    assert alone[4:] == [*alone[:2], alone[0]]
    compare(alone[:4], RECORD["segment False dynamic"], "segment")
    fixed = RECORD["segment False"]
    assert [len(one.objects) for one in alone[:4]] != [len(one) for one in fixed]
    async with serving(folder) as loaded:
        assert loaded.files.manifest.parameters["processing"]["canvas_stride"] == heads.CELL
        read = loaded.pipeline.family.processor.preprocess(asked[0])
        assert read.tensors["pixel_values"].shape == (3, 48, 64)
        assert read.group == (48, 64)


def compare(alone: Sequence[Detections], wanted_of_all: Any, task: str) -> None:
    for found, recorded, image in zip(alone, wanted_of_all, heads.IMAGES, strict=True):
        edges = [image.width, image.height] * 2
        wanted = sorted(recorded, key=lambda one: -one["score"])  # a final head's are in its order
        assert [one.label for one in found.objects] == [one["label"] for one in wanted]
        for one, other in zip(found.objects, wanted, strict=True):
            assert one.score == pytest.approx(other["score"], abs=1e-4)
            assert one.box == pytest.approx(np.clip(other["box"], 0, edges), abs=0.05)
            if task == "obb":
                assert one.rotated_box == pytest.approx(other["rotated_box"], abs=0.05)
            elif task == "pose":
                np.testing.assert_allclose(one.keypoints, other["keypoints"], atol=0.05)
            else:
                assert near(mask(one, image.size), pixels(other["mask"], image.size))


async def test_each_pixel_has_the_label_that_ultralytics_gives_it(tmp_path: Path) -> None:
    alone, _ = await answers(exported(tmp_path / "m", "semantic"), items())
    for found, wanted, image in zip(alone, RECORD["semantic False"], heads.IMAGES, strict=True):
        regions = {one.label: mask(one, image.size) for one in found.objects}
        assert len(regions) > 1
        for label, counts in wanted.items():
            there = pixels(counts, image.size)
            assert near(regions.get(label, np.zeros_like(there)), there)


async def test_an_export_says_what_it_finds(tmp_path: Path) -> None:
    for task, wanted in (
        ("segment", {"prototypes": "output1"}),
        ("pose", {"keypoints": list(heads.POINTS)}),
        ("obb", {"rotated": True}),
    ):
        async with serving(exported(tmp_path / task, task)) as loaded:
            parameters = loaded.files.manifest.parameters
            assert {key: parameters.get(key) for key in wanted} == wanted
            (part,) = loaded.pipeline.family.traits.finds
            assert part in ("masks", "keypoints", "rotated_box")
