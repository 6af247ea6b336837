"""What an ONNX file says of itself: inputs, outputs, operator sets, metadata.

Read straight from the file: nothing is loaded, and the weights are skipped unread.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.repository.graph_file import mapped
from service.transforms.protobuf import numbers, parts
from service.types import TensorSpec

# Field numbers of onnx.proto.
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA = 1, 7, 8, 14
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_TENSOR_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENTS, _TENSOR_SHAPE = 1, 2
_SHAPE_DIMENSION = 1
_DIMENSION_VALUE = 1
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_KEY, _VALUE = 1, 2

_LONGEST_TEXT = 1 << 20
_SIGNED = 1 << 63

_DTYPES: Mapping[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}


@dataclass(frozen=True, slots=True)
class GraphSignature:
    """The header of an ONNX file."""

    inputs: Mapping[str, TensorSpec]
    """In the file's order; without those that have a value in the file."""
    outputs: Mapping[str, TensorSpec]
    ir_version: int
    opsets: Mapping[str, int]
    """Version by domain; "" is ONNX's own."""
    metadata: Mapping[str, str]
    """What the exporter wrote beside the graph, such as Ultralytics' class names."""


def read_signature(graph: Path) -> GraphSignature:
    """Read the header of an ONNX file.

    Raises:
        ModelLoadError: the file cannot be read, or is no ONNX graph.
    """
    with mapped(graph) as content:
        return _signature(content)


def _signature(data: mmap.mmap) -> GraphSignature:
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    opsets: dict[str, int] = {}
    metadata: dict[str, str] = {}
    has_graph = False
    for number, start, end in parts(data, 0, len(data)):
        if number == _MODEL_GRAPH:
            has_graph = True
            inputs.update(_values(data, start, end, _GRAPH_INPUT))
            outputs.update(_values(data, start, end, _GRAPH_OUTPUT))
            for name in _initializers(data, start, end):
                inputs.pop(name, None)  # before IR version 4, constants were inputs too
        elif number == _MODEL_OPSET:
            domain = _texts(data, start, end).get(_OPSET_DOMAIN, "")
            opsets[domain] = dict(numbers(data, start, end)).get(_OPSET_VERSION, 0)
        elif number == _MODEL_METADATA:
            entry = _texts(data, start, end)
            metadata[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    if not has_graph:
        raise ValueError("there is no graph in it")
    version = dict(numbers(data, 0, len(data))).get(_MODEL_IR_VERSION, 0)
    return GraphSignature(inputs, outputs, version, opsets, metadata)


def _initializers(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    for number, at, to in parts(data, start, end):
        if number == _GRAPH_INITIALIZER:
            for field, first, last in parts(data, at, to):
                if field == _TENSOR_NAME:
                    yield _text(data, first, last)


def _values(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[str, TensorSpec]]:
    for number, at, to in parts(data, start, end):
        if number != wanted:
            continue
        name, spec = "", TensorSpec("unknown", ())
        for field, first, last in parts(data, at, to):
            if field == _VALUE_NAME:
                name = _text(data, first, last)
            elif field == _VALUE_TYPE:
                spec = _spec(data, first, last)
        yield name, spec


def _spec(data: mmap.mmap, start: int, end: int) -> TensorSpec:
    dtype, shape = "unknown", []
    for _, at, to in _numbered(data, start, end, _TYPE_TENSOR):
        elements = dict(numbers(data, at, to)).get(_TENSOR_ELEMENTS, 0)
        dtype = _DTYPES.get(elements, f"type {elements}")
        for _, first, last in _numbered(data, at, to, _TENSOR_SHAPE):
            for _, low, high in _numbered(data, first, last, _SHAPE_DIMENSION):
                size = dict(numbers(data, low, high)).get(_DIMENSION_VALUE)
                shape.append(size if size is not None and 0 < size < _SIGNED else None)
    return TensorSpec(dtype, tuple(shape))


def _numbered(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int, int]]:
    return (part for part in parts(data, start, end) if part[0] == wanted)


def _texts(data: mmap.mmap, start: int, end: int) -> Mapping[int, str]:
    return {number: _text(data, at, to) for number, at, to in parts(data, start, end)}


def _text(data: mmap.mmap, start: int, end: int) -> str:
    if end - start > _LONGEST_TEXT:
        raise ValueError("a text in it is too long")
    return data[start:end].decode("utf-8")
