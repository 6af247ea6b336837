"""Which head a lone YOLO graph has, by its metadata and the shape of its output."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import ModelLoadError
from service.families import FAMILIES
from service.repository.layouts.inference import describe, infer
from service.repository.manifest import read_parameters
from tests.sentences import sentence

ONE, TWO, THREE = {0: "card"}, {0: "a", 1: "b"}, {0: "a", 1: "b", 2: "c"}
OLD = {"stride": "32"}
NEW = {"stride": "32", "task": "detect", "imgsz": "[64, 64]"}
CHOSEN = {**NEW, "args": "{'batch': 1, 'nms': True}"}


def write(
    path: Path, shapes: list[list[int | str]], metadata: dict[str, str], *operators: str,
    batch: int | str = "batch",
) -> None:  # fmt: skip
    """Write a graph that has these outputs and operators; it is looked at, and never run."""
    outputs = [
        helper.make_tensor_value_info(f"output{number}", TensorProto.FLOAT, shape)
        for number, shape in enumerate(shapes)
    ]
    nodes = [helper.make_node("Identity", ["images"], [one.name]) for one in outputs]
    nodes += [
        helper.make_node(operator, ["images"], [f"unused{number}"])
        for number, operator in enumerate(operators)
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 64, 64])
    built = helper.make_model(helper.make_graph(nodes, "g", [images], outputs))
    helper.set_model_props(built, metadata)
    onnx.save(built, path)


@pytest.mark.parametrize(
    ("names", "shape", "metadata", "operators", "layout"),
    [
        (THREE, ["batch", 7, 84], NEW, [], "yolov8"),
        (THREE, ["batch", 7, "anchors"], NEW, [], "yolov8"),
        (THREE, ["batch", "numbers", "anchors"], NEW, ["Softmax"], "yolov8"),
        (THREE, ["batch", 84, 8], OLD, [], "yolov5"),
        (THREE, ["batch", "rows", 8], OLD, [], "yolov5"),
        (THREE, ["batch", "rows", "numbers"], OLD, [], "yolov5"),
        (THREE, ["batch", 84, 8], OLD, ["Softmax"], "yolov5"),
        (THREE, ["batch", 7, 84], OLD, ["Softmax"], "yolov8"),
        (THREE, [1, "found", "numbers"], CHOSEN, [], "end_to_end"),
        (THREE, [1, 300, 6], {**NEW, "end2end": "True"}, [], "end_to_end"),
        # What a graph has chosen has six numbers. Those of a candidate of YOLOv5 with one label,
        # or of YOLOv8 with two, are as many, and what is chosen may be as many as a candidate has.
        (ONE, ["batch", 5, 84], NEW, [], "yolov8"),
        (ONE, ["batch", 84, 6], OLD, [], "yolov5"),
        (ONE, [1, 300, 6], CHOSEN, [], "end_to_end"),
        (ONE, ["batch", 5, 6], NEW, [], "yolov8"),
        (ONE, ["batch", 5, 6], OLD, [], "yolov5"),
        *(
            (names, [1, found, 6], metadata, [operator], "end_to_end")
            for names in (ONE, TWO, THREE)
            for found in (5, 6, 7, 300)
            for metadata in (OLD, NEW)
            for operator in ("NonMaxSuppression", "TopK")
        ),
    ],
)
def test_the_layout_is_told_by_exporter_and_shape(
    names: dict[int, str],
    shape: list[int | str],
    metadata: dict[str, str],
    operators: list[str],
    layout: str,
    tmp_path: Path,
) -> None:
    write(tmp_path / "best.onnx", [shape], {**metadata, "names": repr(names)}, *operators)
    parameters = infer(tmp_path).table["parameters"]
    assert parameters["layout"] == layout
    assert parameters["labels"] == list(names.values())


def test_what_an_old_graph_gives_beside_its_candidates_is_left_alone(tmp_path: Path) -> None:
    shapes: list[list[int | str]] = [["batch", 84, 8], ["batch", 3, 8, 8, 8]]
    write(tmp_path / "best.onnx", shapes, {**OLD, "names": repr(THREE)})
    assert infer(tmp_path).table["parameters"]["layout"] == "yolov5"


@pytest.mark.parametrize(
    ("names", "shape", "metadata", "operators"),
    [
        (THREE, ["batch", 9, 84], NEW, []),
        (THREE, ["batch", 84, 9], NEW, []),
        (THREE, ["batch", 84], NEW, []),
        # A list of six numbers, in a graph that does not choose and an export without NMS.
        (THREE, [1, 300, 6], NEW, []),
        (ONE, [1, 300, 6], NEW, []),
        (THREE, ["batch", "n", "m"], OLD, ["Softmax"]),
        # An RT-DETR of two labels has six numbers a query, and chooses queries by TopK.
        (TWO, [1, 300, 6], NEW, ["GridSample", "TopK"]),
        # A graph that chooses, but not as these layouts do.
        (THREE, [1, 7, 84], NEW, ["NonMaxSuppression"]),
    ],
)
def test_what_nothing_but_a_shape_tells_is_to_be_named(
    names: dict[int, str],
    shape: list[int | str],
    metadata: dict[str, str],
    operators: list[str],
    tmp_path: Path,
) -> None:
    write(tmp_path / "best.onnx", [shape], {**metadata, "names": repr(names)}, *operators)
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)


@pytest.mark.parametrize("count", [4_585, 20_000])
def test_thousands_of_names_are_read(count: int, tmp_path: Path) -> None:
    names = {number: f"a class of a longer name {number}" for number in range(count)}
    write(tmp_path / "best.onnx", [["batch", 4 + count, 84]], {**NEW, "names": repr(names)})
    assert infer(tmp_path).table["parameters"]["labels"] == list(names.values())


ALL_SAID = """
task = "{task}"
family = "{family}"
{graphs}
[parameters]
labels = ["a", "a", "b"]
image_size = {size}
"""
COLOURS = "mean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n"
GRAPHS = '[graphs.fp32]\nmodel = "best.onnx"'
KINDS: dict[str, tuple[str, list[int | str], str, str]] = {
    "image_classifier": ("classify", [1, 3], "[64, 64]", COLOURS),
    "detector": ("detect", [1, 7, 84], "64", ""),
}


@pytest.mark.parametrize("graphs", ["", GRAPHS])
@pytest.mark.parametrize("family", KINDS)
def test_a_lone_graph_is_found_and_its_fixed_batch_too(
    family: str, graphs: str, tmp_path: Path
) -> None:
    task, shape, size, rest = KINDS[family]
    write(tmp_path / "best.onnx", [shape], {}, batch=1)
    text = ALL_SAID.format(task=task, family=family, graphs=graphs, size=size) + rest
    (tmp_path / "model.toml").write_text(text, encoding="utf-8")
    told = describe(tmp_path, tmp_path, "m/1")
    assert told.manifest.graphs == {"fp32": {"model": "best.onnx"}}
    assert told.manifest.batching.max_batch_size == 1
    assert told.sources["batching.max_batch_size"] == "best.onnx: its inputs' shape"
    entry = FAMILIES[family]
    entry.open(tmp_path, read_parameters(told.manifest.parameters, entry.parameters))


def test_a_batch_size_that_is_said_counts(tmp_path: Path) -> None:
    write(tmp_path / "best.onnx", [[1, 7, 84]], {}, batch=1)
    text = ALL_SAID.format(task="detect", family="detector", graphs=GRAPHS, size=64)
    text = "batching = { max_batch_size = 4 }\n" + text
    (tmp_path / "model.toml").write_text(text, encoding="utf-8")
    assert describe(tmp_path, tmp_path, "m/1").manifest.batching.max_batch_size == 4


@pytest.mark.parametrize("graphs", ["", GRAPHS])
def test_a_graph_for_several_images_at_once_is_refused(graphs: str, tmp_path: Path) -> None:
    write(tmp_path / "best.onnx", [[4, 7, 84]], {}, batch=4)
    text = ALL_SAID.format(task="detect", family="detector", graphs=graphs, size=64)
    (tmp_path / "model.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelLoadError, check=sentence):
        describe(tmp_path, tmp_path, "m/1")
