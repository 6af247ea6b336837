"""YOLO exports: a lone graph that says in its metadata what it finds, and in which sizes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown, graph_facts
from service.repository.layouts.graphs import (
    batch_facts,
    graph_name,
    literal,
    names_in,
    pixel_spec,
)
from service.repository.signature import GraphSignature
from service.tasks import Task
from service.transforms.heads import HEADS

_DETECT, _CLASSIFY = "detect", "classify"
_SINGLE = {"model": "model"}
_FOUND_NUMBERS = 6
"""Of an object that the graph has chosen itself: four of its box, a score and a label."""
_MOST_DETECTIONS = 300
_IOU = {"yolov8": 0.7, "yolov5": 0.45, "end_to_end": 0.7}
"""What their own programs suppress doubles by, unless told."""


def _task(files: ExportFiles) -> str | None:
    """Return the task that the graph's metadata names; None if it is no such graph."""
    if files.architecture or MODEL_ROLE not in files.graphs:
        return None
    metadata = files.signature().metadata
    if "names" not in metadata or not metadata.keys() & {"stride", "task"}:
        return None
    return metadata.get("task", _DETECT)  # YOLOv5 of old writes stride and names alone


def _is_detector(files: ExportFiles) -> str | None:
    task = _task(files)
    if task not in (None, _DETECT, _CLASSIFY):
        raise ModelLoadError(
            f"{graph_name(files)} is for the task {task!r} (its metadata), which is not served"
        )
    return f"{graph_name(files)}: its metadata" if task == _DETECT else None


def _is_classifier(files: ExportFiles) -> str | None:
    return f"{graph_name(files)}: its metadata" if _task(files) == _CLASSIFY else None


def _read_detector(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    if MODEL_ROLE not in files.graphs:
        return
    signature, name = files.signature(), graph_name(files)
    yield from _label_facts(signature, name)
    yield from batch_facts(files)
    if _task(files) != _DETECT:
        return  # any other head: model.toml declares it
    if (size := _image_size(signature)) is None:
        yield Unknown("parameters.processing", f"{name} does not tell its image size")
    else:
        yield from _processing("letterbox", list(size), f"{name}: metadata imgsz, or its input")
        yield Fact("parameters.processing.antialias", False, f"{name}: its metadata")
    if (layout := _layout(signature)) is None:
        said = f"the shape of {name}'s output is that of no layout known here"
        yield Unknown("parameters.layout", said)
    else:
        yield Fact("parameters.layout", layout, f"{name}: its output's shape")
        yield Fact("parameters.iou_threshold", _IOU[layout], f"{name}: its output's shape")
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
    yield from batch_facts(files)


def _processing(resize: str, size: list[int], source: str) -> Iterator[Finding]:
    yield Fact("parameters.processing.resize", resize, source)
    yield Fact("parameters.processing.size", size, source)


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


def _layout(signature: GraphSignature) -> str | None:
    """Tell the layout by the one axis that is as long as a candidate has numbers."""
    names = names_in(signature.metadata)
    first = next(iter(signature.outputs.values()), None)
    if names is None or first is None or len(first.shape) != 3:  # noqa: PLR2004 - a list each
        return None
    _, middle, last = first.shape
    if _selects(signature.metadata) and last in (_FOUND_NUMBERS, None):
        return "end_to_end"
    # Only the newer exporter says its task, and none of its heads has a fifth number.
    is_old = "task" not in signature.metadata
    if middle is None and last is None:
        return "yolov5" if is_old else "yolov8"
    numbers: Mapping[str, int] = {n: h.numbers(len(names)) for n, h in HEADS.items()}
    if is_old and last == numbers["yolov5"]:
        return "yolov5"
    if middle == numbers["yolov8"]:
        return "yolov8"
    return "end_to_end" if last == _FOUND_NUMBERS else None


def _selects(metadata: Mapping[str, str]) -> bool:
    """Tell whether suppression is in the graph, by what the exporter was asked for."""
    arguments = literal(metadata.get("args", ""))
    asked = isinstance(arguments, dict) and bool(arguments.get("nms"))
    return asked or metadata.get("end2end") == "True"


LAYOUTS: Final = (
    Layout(Task.DETECT, "detector", _is_detector, _read_detector),
    Layout(Task.CLASSIFY, "image_classifier", _is_classifier, _read_classifier),
)
