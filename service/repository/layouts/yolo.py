"""YOLO exports: a lone graph that says in its metadata what it finds, and in which sizes."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import (
    Fact,
    Finding,
    Layout,
    Unknown,
    graph_facts,
    graph_name,
    literal,
    names_in,
    pixel_spec,
)
from service.repository.onnx_file.analysis import operators
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.records import GraphSignature
from service.repository.paths import file_inside
from service.tasks import Task
from service.transforms.vision.head_outputs import shown
from service.transforms.vision.heads import HEADS

_DETECT, _CLASSIFY, _SEMANTIC = "detect", "classify", "semantic"
_SEGMENT, _POSE, _ROTATED = "segment", "pose", "obb"
_FINDING = frozenset({_DETECT, _SEGMENT, _POSE, _ROTATED})
"""Tasks of detectors."""
_SINGLE = {"model": "model"}
_FOUND_NUMBERS = 6
"""Of an object that the graph has chosen itself: four of its box, a score and a label."""
_CHOOSING = frozenset({"NonMaxSuppression", "EfficientNMS_TRT", "TopK"})
"""Operators of a graph that chooses objects among its candidates."""
_SAMPLING = "GridSample"
"""Operator of the deformable attention of RT-DETR, which no YOLO has."""
_OF_DISTRIBUTIONS = "Softmax"
"""Operator of the distributions that boxes are made of since YOLOv8."""
_MOST_DETECTIONS = 300
_IOU = {"yolov8": 0.7, "yolov5": 0.45, "end_to_end": 0.7}
"""What their own programs suppress doubles by, by default."""


def _task(files: ExportFiles) -> str | None:
    """Return the task that the graph's metadata names; None if it is no such graph."""
    if files.architecture or MODEL_ROLE not in files.graphs:
        return None
    metadata = files.signature().metadata
    if "names" not in metadata or not metadata.keys() & {"stride", "task"}:
        return None
    if "task" in metadata:
        return metadata["task"]
    # YOLOv5 of old writes stride and names alone.
    return _DETECT if _prototypes(files.signature()) is None else _SEGMENT


def _is_detector(files: ExportFiles) -> str | None:
    task = _task(files)
    if task not in (None, _CLASSIFY, _SEMANTIC, *_FINDING):
        raise ModelLoadError(
            f"{graph_name(files)} is for the task {task!r} (its metadata), which is not served"
        )
    return f"{graph_name(files)}: its metadata" if task in _FINDING else None


def _is_classifier(files: ExportFiles) -> str | None:
    return f"{graph_name(files)}: its metadata" if _task(files) == _CLASSIFY else None


def _is_segmenter(files: ExportFiles) -> str | None:
    return f"{graph_name(files)}: its metadata" if _task(files) == _SEMANTIC else None


def _read_segmenter(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    signature, name = files.signature(), graph_name(files)
    yield from _label_facts(signature, name)
    yield from _letterbox_facts(signature, name)


def _read_detector(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    if MODEL_ROLE not in files.graphs:
        return
    signature, name = files.signature(), graph_name(files)
    yield from _label_facts(signature, name)
    task = _task(files)
    if task not in _FINDING:
        return  # any other head: model.toml declares it
    yield from _letterbox_facts(signature, name)
    yield from _extra_facts(task, signature, name)
    yield from _layout_facts(files, signature, name)
    yield Fact("parameters.max_detections", _MOST_DETECTIONS, f"{name}: its metadata")


def _read_classifier(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    signature, name = files.signature(), graph_name(files)
    yield from _label_facts(signature, name)
    if (size := _image_size(signature)) is None:
        yield Unknown("parameters.processing", f"{name} does not tell its image size")
    else:
        source = f"{name}: metadata imgsz, or its input"
        yield Fact("parameters.processing.resize", "shortest_edge", source)
        yield Fact("parameters.processing.shortest_edge", min(size), source)
        yield Fact("parameters.processing.crop", list(size), source)
        yield Fact("parameters.processing.crop_rounds", "even", source)
    yield Fact("parameters.activation", "none", f"{name}: metadata task")


def _extra_facts(task: str, signature: GraphSignature, name: str) -> Iterator[Finding]:
    """Tell what the head says besides boxes."""
    source = f"{name}: metadata task"
    if task == _ROTATED:
        yield Fact("parameters.rotated", True, source)
    if task == _SEGMENT:
        prototypes = _prototypes(signature)
        if prototypes is None:
            yield Unknown("parameters.prototypes", f"{name} gives no maps for masks")
        else:
            yield Fact("parameters.prototypes", prototypes, f"{name}: its outputs")
    if task == _POSE:
        shape = literal(signature.metadata.get("kpt_shape", ""))
        if _are_sides(shape) and len(shape) == 2:  # noqa: PLR2004 - points, and numbers of each
            yield Fact("parameters.keypoints", list(shape), f"{name}: metadata kpt_shape")
        else:
            yield Unknown("parameters.keypoints", f"the metadata of {name} has no kpt_shape")


def _prototypes(signature: GraphSignature) -> str | None:
    """Return the output of maps for masks, which is not the first."""
    maps = [n for n, spec in signature.outputs.items() if len(spec.shape) == 4]  # noqa: PLR2004
    return maps[0] if len(maps) == 1 and maps[0] != next(iter(signature.outputs)) else None


def _letterbox_facts(signature: GraphSignature, name: str) -> Iterator[Finding]:
    if (size := _image_size(signature)) is None:
        yield Unknown("parameters.processing", f"{name} does not tell its image size")
        return
    source = f"{name}: metadata imgsz, or its input"
    yield Fact("parameters.processing.resize", "letterbox", source)
    yield Fact("parameters.processing.size", list(size), source)
    yield Fact("parameters.processing.antialias", False, f"{name}: its metadata")
    if (stride := _canvas_stride(signature)) is not None:
        yield Fact("parameters.processing.canvas_stride", stride, f"{name}: metadata stride")


def _canvas_stride(signature: GraphSignature) -> int | None:
    """Return the stride of a graph for any height and width whose program cuts canvases down.

    YOLOv5's own program, which names no task, does not.
    """
    spec, metadata = pixel_spec(signature), signature.metadata
    arguments, stride = literal(metadata.get("args", "")), literal(metadata.get("stride", ""))
    asked = arguments.get("dynamic", True) if isinstance(arguments, dict) else True
    is_free = spec is not None and spec.shape[2:] == (None, None)
    if not (is_free and asked and "task" in metadata and isinstance(stride, int) and stride > 0):
        return None
    return stride


def _label_facts(signature: GraphSignature, name: str) -> Iterator[Finding]:
    names = names_in(signature.metadata)
    if names is None:
        yield Unknown("parameters.labels", f"the metadata of {name} has no names")
    else:
        yield Fact("parameters.labels", list(names), f"{name}: metadata names")


def _image_size(signature: GraphSignature) -> tuple[int, int] | None:
    """Return height and width: the input's, if it has fixed ones, else the metadata's."""
    spec = pixel_spec(signature)
    height, width = spec.shape[2:] if spec is not None else (None, None)
    if height is not None and width is not None:
        return height, width
    named = literal(signature.metadata.get("imgsz", ""))
    sides = [named, named] if isinstance(named, int) else named
    if _are_sides(sides):
        return int(sides[0]), int(sides[-1])
    return None


def _are_sides(sides: Any) -> bool:
    return (
        isinstance(sides, (list, tuple))
        and len(sides) in (1, 2)
        and all(isinstance(side, int) and side > 0 for side in sides)
    )


def _layout_facts(files: ExportFiles, signature: GraphSignature, name: str) -> Iterator[Finding]:
    """Tell the layout by what the exporter says and what the graph does.

    A shape only rules layouts out: that of one may happen to fit another.
    """
    file = next(iter(files.graphs[MODEL_ROLE].values()))
    used = operators(read_onnx(file_inside(file, files.folder, files.root, "graphs")))
    fits = _fitting(signature, _task(files))
    layout, known_by = _evidence(signature.metadata, used, fits)
    if layout in fits:
        yield Fact("parameters.layout", layout, f"{name}: {known_by}")
        yield Fact("parameters.iou_threshold", _IOU[layout], f"{name}: {known_by}")
        return
    shape = shown(next(iter(signature.outputs.values())).shape) if signature.outputs else "[]"
    lines = " or ".join([*(f'layout = "{one}"' for one in fits), "a table [parameters.head]"])
    yield Unknown(
        "parameters.layout",
        f"the layout of the output {shape} of {name} is ambiguous: {known_by}; {lines} would "
        "decide (docs/detector-heads.md)",
    )


def _evidence(
    metadata: Mapping[str, str], used: Set[str], fits: Collection[str]
) -> tuple[str, str]:
    """Return the layout that the exporter or the graph's operators mean, and what says so.

    The layout is "" if they mean none that has a name.
    """
    if _SAMPLING in used:
        return "", f"it is an RT-DETR by its operator {_SAMPLING}, whose boxes are relative"
    if _selects(metadata):
        return "end_to_end", "metadata args or end2end"
    if chosen := sorted(used & _CHOOSING):
        return "end_to_end", f"its operator {', '.join(chosen)}"
    # None of the heads of the exporter that writes its task has a fifth number.
    return ("yolov8", "metadata task") if "task" in metadata else _of_old_exporter(used, fits)


def _of_old_exporter(used: Set[str], fits: Collection[str]) -> tuple[str, str]:
    older = [layout for layout in ("yolov5", "yolov8") if layout in fits]
    if len(older) == 1:
        return older[0], "metadata stride without task, and its output's shape"
    if older and _OF_DISTRIBUTIONS not in used:
        return "yolov5", f"metadata stride without task, and no operator {_OF_DISTRIBUTIONS}"
    return "", "it has metadata stride without task, so it may be of YOLOv5 or an early YOLOv8"


def _fitting(signature: GraphSignature, task: str | None) -> Sequence[str]:
    """Return the layouts that the shape of the first output does not rule out."""
    names = names_in(signature.metadata)
    first = next(iter(signature.outputs.values()), None)
    if names is None or first is None or len(first.shape) != 3:  # noqa: PLR2004 - a list each
        return ()
    _, middle, last = first.shape
    lengths: Mapping[str, int | None] = {"yolov8": middle, "yolov5": last, "end_to_end": last}
    wanted = {
        layout: _FOUND_NUMBERS if layout == "end_to_end" else HEADS[layout].numbers(len(names))
        for layout in lengths
    }
    if task == _DETECT:
        return [n for n, length in lengths.items() if length in (None, wanted[n])]
    # Numbers of masks, keypoints or angles follow.
    return [n for n, length in lengths.items() if length is None or length > wanted[n]]


def _selects(metadata: Mapping[str, str]) -> bool:
    """Tell whether suppression is in the graph, by what the exporter was asked for."""
    arguments = literal(metadata.get("args", ""))
    asked = isinstance(arguments, dict) and bool(arguments.get("nms"))
    return asked or metadata.get("end2end") == "True"


LAYOUTS: Final = (
    Layout(Task.DETECT, "detector", _is_detector, _read_detector),
    Layout(Task.DETECT, "segmenter", _is_segmenter, _read_segmenter),
    Layout(Task.CLASSIFY, "image_classifier", _is_classifier, _read_classifier),
)
