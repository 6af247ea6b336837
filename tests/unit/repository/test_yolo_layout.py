"""Which head a lone YOLO graph has, by its metadata and the shape of its output."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import ModelLoadError
from service.repository.layouts.inference import infer

ONE, THREE = {0: "card"}, {0: "a", 1: "b", 2: "c"}
OLD = {"stride": "32"}
NEW = {"stride": "32", "task": "detect", "imgsz": "[64, 64]"}
CHOSEN = {**NEW, "args": "{'batch': 1, 'nms': True}"}


def write(path: Path, shapes: list[list[int | str]], metadata: dict[str, str]) -> None:
    """Write a graph that has these outputs; it is looked at, and never run."""
    outputs = [
        helper.make_tensor_value_info(f"output{number}", TensorProto.FLOAT, shape)
        for number, shape in enumerate(shapes)
    ]
    nodes = [helper.make_node("Identity", ["images"], [one.name]) for one in outputs]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])
    built = helper.make_model(helper.make_graph(nodes, "g", [images], outputs))
    helper.set_model_props(built, metadata)
    onnx.save(built, path)


@pytest.mark.parametrize(
    ("names", "shape", "metadata", "layout"),
    [
        (THREE, ["batch", 7, 84], NEW, "yolov8"),
        (THREE, ["batch", 7, "anchors"], NEW, "yolov8"),
        (THREE, ["batch", "numbers", "anchors"], NEW, "yolov8"),
        (THREE, ["batch", 84, 8], OLD, "yolov5"),
        (THREE, ["batch", "rows", 8], OLD, "yolov5"),
        (THREE, ["batch", "rows", "numbers"], OLD, "yolov5"),
        (THREE, [1, 300, 6], NEW, "end_to_end"),
        (THREE, [1, "found", "numbers"], CHOSEN, "end_to_end"),
        (THREE, [1, 300, 6], {**NEW, "end2end": "True"}, "end_to_end"),
        # Of one label a candidate of v5 has six numbers too, as has what a graph has chosen.
        (ONE, ["batch", 5, 84], NEW, "yolov8"),
        (ONE, ["batch", 84, 6], OLD, "yolov5"),
        (ONE, [1, 300, 6], NEW, "end_to_end"),
        (ONE, [1, 300, 6], CHOSEN, "end_to_end"),
        (ONE, ["batch", 5, 6], NEW, "yolov8"),
        (ONE, ["batch", 5, 6], OLD, "yolov5"),
    ],
)
def test_the_layout_is_told_by_exporter_and_shape(
    names: dict[int, str],
    shape: list[int | str],
    metadata: dict[str, str],
    layout: str,
    tmp_path: Path,
) -> None:
    write(tmp_path / "best.onnx", [shape], {**metadata, "names": repr(names)})
    parameters = infer(tmp_path).table["parameters"]
    assert parameters["layout"] == layout
    assert parameters["labels"] == list(names.values())


def test_what_an_old_graph_gives_beside_its_candidates_is_left_alone(tmp_path: Path) -> None:
    shapes: list[list[int | str]] = [["batch", 84, 8], ["batch", 3, 8, 8, 8]]
    write(tmp_path / "best.onnx", shapes, {**OLD, "names": repr(THREE)})
    assert infer(tmp_path).table["parameters"]["layout"] == "yolov5"


@pytest.mark.parametrize("shape", [["batch", 9, 84], ["batch", 84, 9], ["batch", 84]])
def test_a_head_of_another_shape_is_to_be_named(shape: list[int | str], tmp_path: Path) -> None:
    write(tmp_path / "best.onnx", [shape], {**NEW, "names": repr(THREE)})
    with pytest.raises(ModelLoadError, match=r"add parameters\.layout"):
        infer(tmp_path)
