"""The manifests of docs/detector-heads.md, on outputs of the shapes that each model has."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import tasks
from service.families.detector import DetectorModel, DetectorParameters, open_detector
from service.families.family import Opened
from service.repository.manifest import manifest_of, read_parameters
from service.tasks import Detections, DetectItem
from service.types import TensorSpec
from tests.unit.families.cases import drawing
from tests.unit.families.sessions import NumpySession

DOCUMENT = Path(__file__).parents[3] / "docs" / "detector-heads.md"
Shapes = Mapping[str, tuple[int, ...]]


def faces(*kinds: tuple[str, int]) -> Shapes:
    return {f"{n}_{s}": (1, (640 // s) ** 2, k) for n, k in kinds for s in (8, 16, 32)}


DET_10G = (("448", "451", "454"), ("471", "474", "477"), ("494", "497", "500"))
"""Score, box and points of each level, as insightface's file calls them."""
SHAPES: Mapping[str, Shapes] = {
    "YOLO with masks, keypoints or rotated boxes": {
        "output0": (1, 4 + 2 + 32, 8400),
        "output1": (1, 32, 160, 160),
    },
    "NanoDet": {"output": (1, 40**2 + 20**2 + 10**2 + 5**2, 2 + 32)},
    "YuNet": faces(("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)),
    "SCRFD": {
        name: (12800 >> (2 * level), numbers)
        for level, names in enumerate(DET_10G)
        for name, numbers in zip(names, (1, 4, 10), strict=True)
    },
    "RTMDet": {
        f"{name}_{s}": (1, numbers, 640 // s, 640 // s)
        for name, numbers in (("cls", 2), ("reg", 4))
        for s in (8, 16, 32)
    },
    "YOLO-Fastest, YOLOv3, YOLOv4": {f"out_{s}": (1, 21, 320 // s, 320 // s) for s in (16, 32)},
    "YOLO-FastestV2": {f"out_{s}": (1, 352 // s, 352 // s, 3 * 5 + 2) for s in (16, 32)},
    "YOLOv5 and YOLOv7, raw": {f"out_{s}": (1, 3, 640 // s, 640 // s, 7) for s in (8, 16, 32)},
    "BlazeFace": {"regressors": (1, 896, 16), "classificators": (1, 896, 1)},
    "RetinaFace and other SSDs": {
        name: (1, 16800, numbers) for name, numbers in (("loc", 4), ("conf", 2), ("landms", 10))
    },
    "FastestDet": {"output": (1, 7, 22, 22)},
    "RT-DETR of Ultralytics": {"output0": (1, 300, 6)},
}  # fmt: skip


def manifests() -> Mapping[str, list[dict[str, Any]]]:
    """The manifests of each section; one that is a head only stands in place of the first's."""
    found: dict[str, list[dict[str, Any]]] = {}
    for section in re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.M)[1:]:
        title = section.splitlines()[0]
        for block in re.findall(r"```toml\n(.*?)```", section, re.S):
            table = tomllib.loads(block)
            if "task" not in table:
                first = found[title][0]
                table = {**first, "parameters": {**first["parameters"], **table["parameters"]}}
            found.setdefault(title, []).append(table)
    return found


def family_of(table: dict[str, Any]) -> Opened[DetectItem, Detections]:
    manifest = manifest_of({**table, "graphs": {"fp32": {"model": "model.onnx"}}}, "x")
    return open_detector(Path(), read_parameters(manifest.parameters, DetectorParameters))


def problem_of(
    family: Opened[DetectItem, Detections], specs: Mapping[str, TensorSpec]
) -> str | None:
    assert family.traits.head_problem is not None
    return family.traits.head_problem({"model": specs})


def test_every_documented_model_has_shapes_here() -> None:
    assert manifests().keys() == SHAPES.keys()


@pytest.mark.parametrize("title", SHAPES)
def test_a_documented_manifest_reads_outputs_of_the_model(title: str) -> None:
    family, shapes = family_of(manifests()[title][0]), SHAPES[title]
    specs = {name: TensorSpec("float32", shape) for name, shape in shapes.items()}
    assert problem_of(family, specs) is None
    rng = np.random.default_rng(1)
    outputs = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    last = title == "BlazeFace"
    images = TensorSpec("float32", (None, None, None, 3) if last else (None, 3, None, None))
    session = NumpySession(lambda _: outputs, {"input": images})
    item = DetectItem(tasks.Image(drawing((90, 60))), threshold=0.0, masks="none")
    (result,) = family.model.infer({"model": session}, [family.processor.preprocess(item)])
    assert family.processor.postprocess(result, item).objects
    assert isinstance(family.model, DetectorModel)
    height, width = family.model.shape
    assert session.fed[0]["input"] == ((1, height, width, 3) if last else (1, 3, height, width))


def test_the_first_nanodet_is_another_head() -> None:
    family = family_of(manifests()["NanoDet"][1])
    shapes = {
        f"{kind}_pred_stride_{s}": (1, (320 // s) ** 2, numbers)
        for s in (8, 16, 32)
        for kind, numbers in (("cls", 2), ("dis", 32))
    }
    specs = {name: TensorSpec("float32", shape) for name, shape in shapes.items()}
    assert problem_of(family, specs) is None


@pytest.mark.parametrize("title", [title for title, shapes in SHAPES.items() if len(shapes) > 2])
def test_a_manifest_without_its_head_is_refused(title: str) -> None:
    """Three levels read as one list would find a part of the objects, in wrong places."""
    table = manifests()[title][0]
    del table["parameters"]["head"]
    shapes = SHAPES[title]
    specs = {name: TensorSpec("float32", shape) for name, shape in shapes.items()}
    assert problem_of(family_of(table), specs) is not None
