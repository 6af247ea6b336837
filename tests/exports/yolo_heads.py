"""Small graphs with the outputs of Ultralytics' exports: masks, keypoints, rotated boxes, labels.

Weights are random, from a seed. `python -m tests.exports.yolo_heads` writes what Ultralytics finds
with them into `ultralytics.json`; it needs the package, which no environment of this project has
because of its licence, so the answers are recorded.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.transforms.vision.regions import Region, counts_of
from tests.exports.pictures import picture

SIDE, CELL, MAP = 64, 8, 16
COUNT = (SIDE // CELL) ** 2
NAMES = {0: "person", 1: "traffic light", 2: "it's"}
POINTS = (5, 3)
PROTOTYPES = 4
EXTRAS = {"segment": PROTOTYPES, "pose": POINTS[0] * POINTS[1], "obb": 1}
KINDS = [(task, is_final) for task in EXTRAS for is_final in (False, True)]
SIZES = [(64, 48), (40, 64), (201, 147), (90, 611)]
IMAGES = [picture(size, seed) for seed, size in enumerate(SIZES)]
THRESHOLD, IOU = 0.62, 0.5
RECORD = Path(__file__).with_name("ultralytics.json")


def metadata(task: str, is_final: bool = False, is_dynamic: bool = False) -> Mapping[str, str]:
    written = {"stride": "8", "names": repr(NAMES), "task": task, "imgsz": f"[{SIDE}, {SIDE}]"}
    written |= {"batch": "1", "end2end": str(is_final), "args": repr({"batch": 1, "nms": None})}
    if is_dynamic:
        written["args"] = repr({"batch": 1, "dynamic": True, "nms": None})
    return written | ({"kpt_shape": repr(list(POINTS))} if task == "pose" else {})


class Builder:
    """Nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def __call__(self, operator: str, *inputs: Any, dtype: Any = np.float32, **more: Any) -> str:
        names = [one if isinstance(one, str) else self.constant(one, dtype) for one in inputs]
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [name], **more))
        return name

    def convolved(self, kernel: int, count: int, gain: float, seed: int) -> str:
        random = np.random.default_rng(seed)
        weights = random.normal(0, gain / kernel, (count, 3, kernel, kernel))
        weights -= weights.mean(axis=(2, 3), keepdims=True)  # plain grey gives zero
        shape = [kernel, kernel]
        return self("Conv", "images", weights, kernel_shape=shape, strides=shape)


def model(task: str, is_final: bool = False, is_dynamic: bool = False) -> onnx.ModelProto:
    """A network of one layer that looks at cells of 8 pixels.

    Args:
        task: of its metadata: "segment", "pose", "obb" or "semantic".
        is_final: whether it gives objects [1, N, 6 + numbers] instead of candidates.
        is_dynamic: whether it takes images of any size; for "segment".
    """
    make = Builder()
    shapes: dict[str, Sequence[int | str]]
    if task == "semantic":
        labels = make("ArgMax", make.convolved(4, len(NAMES), 1.0, 3), axis=1, keepdims=0)
        make.nodes.append(helper.make_node("Cast", [labels], ["output0"], to=TensorProto.INT32))
        shapes = {"output0": [1, MAP, MAP]}
    else:
        extra = EXTRAS[task]
        names = [*_candidates(make, extra, task, is_dynamic)]
        shapes = {"output0": [1, 4 + len(NAMES) + extra, COUNT]}
        if is_final:
            names = [*_objects(make, *names, task)]
            shapes = {"output0": [1, COUNT, 6 + extra]}
        axis = 2 if is_final else 1
        make.nodes.append(helper.make_node("Concat", names, ["output0"], axis=axis))
    if task == "segment":
        maps = make.convolved(SIDE // MAP, PROTOTYPES, 4.0, 1)
        make.nodes.append(helper.make_node("Tanh", [maps], ["output1"]))
        shapes["output1"] = [1, PROTOTYPES, MAP, MAP]
    taken: Sequence[int | str] = [1, 3, SIDE, SIDE]
    if is_dynamic:
        taken = ["batch", 3, "height", "width"]
        shapes = {name: [*"bdef"[: len(shape)]] for name, shape in shapes.items()}
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, taken)
    kinds = {"output0": TensorProto.INT32 if task == "semantic" else TensorProto.FLOAT}
    outputs = [
        helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), shape)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(make.nodes, "g", [image], outputs, make.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in metadata(task, is_final, is_dynamic).items():
        made.metadata_props.add(key=key, value=value)
    return made


def _candidates(make: Builder, extra: int, task: str, is_dynamic: bool) -> Iterator[str]:
    """Yield boxes, scores and further numbers, [1, numbers, N] each."""
    widths = [2, 2, len(NAMES), extra]
    whole = make.convolved(CELL, sum(widths), 4.0, 0)
    flat = make("Reshape", whole, make.constant([0, sum(widths), -1], np.int64))
    parts = [f"{name}_raw" for name in ("middle", "size", "score", "extra")]
    split = make.constant(widths, np.int64)
    make.nodes.append(helper.make_node("Split", [flat, split], parts, axis=1))
    ys, xs = np.mgrid[:SIDE:CELL, :SIDE:CELL] + CELL / 2
    centres = np.stack([xs.ravel(), ys.ravel()])[None]
    places_of = _centres(make, whole) if is_dynamic else make.constant(centres)
    yield make("Add", make("Mul", make("Tanh", parts[0]), [4.0]), places_of)
    yield make("Add", make("Mul", make("Tanh", parts[1]), [9.0]), [14.0])
    yield make("Sigmoid", make("Mul", parts[2], [0.5]))
    numbers = make("Tanh", parts[3])
    if task == "obb":
        numbers = make("Mul", numbers, [1.5])
    if task == "pose":
        # x and y around the middle of the cell, and how likely the point is visible.
        turns = np.tile([[20.0], [20.0], [0.5]], (POINTS[0], 1))[None]
        visible = np.array([[[0.5]]])
        places = np.concatenate([*[np.concatenate([centres, visible.repeat(COUNT, 2)], 1)] * 5], 1)
        numbers = make("Add", make("Mul", numbers, turns), places)
    yield numbers


def _centres(make: Builder, maps: str) -> str:
    """Return the middles of cells, [1, 2, N], of maps of any size."""
    first = make("Slice", maps, [0], [1], [1], dtype=np.int64)
    ones = make("Add", make("Mul", first, [0.0]), [1.0])
    xy = [make("CumSum", ones, make.constant(axis, np.int64)) for axis in (3, 2)]
    cells = make("Concat", *xy, axis=1)
    middles = make("Sub", make("Mul", cells, [float(CELL)]), [CELL / 2])
    return make("Reshape", middles, make.constant([0, 2, -1], np.int64))


def _objects(
    make: Builder, middle: str, size: str, scores: str, extra: str, task: str
) -> Iterator[str]:
    """Yield corners, score, label and further numbers, [1, N, numbers] each."""

    def row(name: str) -> str:
        return make("Transpose", name, perm=[0, 2, 1])

    half = make("Mul", size, [0.5])
    boxes = (
        (middle, size) if task == "obb" else (make("Sub", middle, half), make("Add", middle, half))
    )
    yield from map(row, boxes)
    yield row(make("ReduceMax", scores, axes=[1]))
    yield row(make("Cast", make("ArgMax", scores, axis=1), to=TensorProto.FLOAT))
    yield row(extra)


def _recorded(results: Any, task: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of one image as Ultralytics has them."""
    found = results.obb if task == "obb" else results.boxes
    for place in range(len(found)):
        one = {
            "label": results.names[int(found.cls[place])],
            "score": float(found.conf[place]),
            "box": found.xyxy[place].tolist(),
        }
        if task == "obb":
            one["rotated_box"] = found.xywhr[place].tolist()
        if task == "pose":
            one["keypoints"] = results.keypoints.data[place].tolist()
        if task == "segment":
            one["mask"] = _counts(results.masks.data[place].numpy() > 0)
        yield one


def _counts(mask: NDArray[np.bool_]) -> str:
    return counts_of(Region(mask, 0, 0, (mask.shape[0], mask.shape[1]))).decode()


def _semantic(results: Any) -> Mapping[str, str]:
    labels = results.semantic_mask.data.numpy().squeeze()
    return {name: _counts(labels == number) for number, name in NAMES.items()}


def record() -> None:
    """Write what Ultralytics finds in every image with every graph."""
    ultralytics = import_module("ultralytics")
    written: dict[str, Any] = {"made with": f"ultralytics {ultralytics.__version__}"}
    kinds = [(*kind, False) for kind in [*KINDS, ("semantic", False)]]
    for task, is_final, is_dynamic in [*kinds, ("segment", False, True)]:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "best.onnx"
            onnx.save(model(task, is_final, is_dynamic), path)
            network = ultralytics.YOLO(str(path), task=task)
            chosen: dict[str, Any] = {
                "conf": THRESHOLD,
                "iou": IOU,
                "retina_masks": True,
                "verbose": False,
            }
            if is_dynamic:  # whose size it does not take from the metadata
                chosen["imgsz"] = SIDE
            answers = [network.predict(image, **chosen)[0] for image in IMAGES]
        written[f"{task} {is_final}" + is_dynamic * " dynamic"] = [
            _semantic(one) if task == "semantic" else [*_recorded(one, task)] for one in answers
        ]
    text = json.dumps(json.loads(json.dumps(written), parse_float=lambda x: round(float(x), 6)))
    RECORD.write_text(text.replace('}, {"label', '},\n{"label') + "\n")


if __name__ == "__main__":
    sys.exit(record())
