"""What an ONNX file says of itself: inputs, outputs, operator sets, metadata.

Read straight from the file: nothing is loaded, and the weights are skipped unread.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.repository.onnx_file.tensors import mapped
from service.transforms.protobuf import numbers, parts
from service.types import TensorSpec

BATCH_WIDE = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that compute one scale over a whole tensor, and so over all rows of a batch: a row's
result depends on its neighbours (onnxruntime #10111). The last two are what ONNX Runtime makes of
the first where it saves a graph that it has optimised."""

_OWN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
        "org.pytorch.aten",
    }
)
"""Of operators that ONNX Runtime brings along."""

_OP_TYPE, _DOMAIN = 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_NESTED: Mapping[str, Mapping[int, str]] = {
    # onnx.proto: message -> field number -> message of that field, on the way to a node.
    "Model": {7: "Graph", 25: "Function"},
    "Function": {7: "Node"},
    "Graph": {1: "Node"},
    "Node": {5: "Attribute"},
    "Attribute": {6: "Graph", 11: "Graph"},
}


def operators(graph: Path) -> frozenset[str]:
    """Return the types of all operators of a graph, those of nested graphs included.

    Raises:
        ModelLoadError: the file cannot be read, or is no ONNX graph.
    """
    with mapped(graph) as content:
        return frozenset(_types(content))


def foreign_operators(graph: Path) -> frozenset[str]:
    """Return the operators of domains that ONNX Runtime does not know, as `domain.Operator`.

    Functions that the file itself defines are none.

    Raises:
        ModelLoadError: the file cannot be read, or is no ONNX graph.
    """
    with mapped(graph) as content:
        used, defined = set(), set()
        for message, fields in _named(content):
            if message == "Node" and fields.get(_DOMAIN, "") not in _OWN_DOMAINS:
                used.add(f"{fields[_DOMAIN]}.{fields.get(_OP_TYPE, '')}")
            elif message == "Function":
                name = fields.get(_FUNCTION_NAME, "")
                defined.add(f"{fields.get(_FUNCTION_DOMAIN, '')}.{name}")
        return frozenset(used - defined)


def _named(data: mmap.mmap) -> Iterator[tuple[str, Mapping[int, str]]]:
    """Yield the nodes and functions, each with those of its fields that name it."""
    wanted = {"Node": (_OP_TYPE, _DOMAIN), "Function": (_FUNCTION_NAME, _FUNCTION_DOMAIN)}
    for message, start, end in _messages(data):
        if message in wanted:
            yield (
                message,
                {
                    number: data[at:to].decode(errors="replace")
                    for number, at, to in parts(data, start, end)
                    if number in wanted[message]
                },
            )


def _types(data: mmap.mmap) -> Iterator[str]:
    for message, start, end in _messages(data):
        if message == "Node":
            for number, at, to in parts(data, start, end):
                if number == _OP_TYPE:
                    yield data[at:to].decode()


def _messages(data: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Yield every message on the way to a node, and where it is."""
    waiting = [("Model", 0, len(data))]  # a stack: a hostile file can nest as deeply as it likes
    while waiting:
        message, start, end = waiting.pop()
        yield message, start, end
        nested = _NESTED[message]
        for number, at, to in parts(data, start, end):
            if number in nested:
                waiting.append((nested[number], at, to))


_MODEL_GRAPH_EMBEDDING_ROWS = 7
_GRAPH_NODE, _GRAPH_INITIALIZER_EMBEDDING_ROWS = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME_EMBEDDING_ROWS = 1, 8

_LOOK_UPS = frozenset({"Gather", "GatherBlockQuantized"})
_SAME_VALUES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_SAME_ROWS = frozenset({"DequantizeLinear", "Cast", "Identity"})


def embedding_rows(graph: Path, ids: str = "input_ids") -> int | None:
    """Return the number of rows of the table that ids are looked up in; None if it is not told.

    The smallest one counts, where there are several. An embedding that the graph looks up in any
    other way than by a Gather from a constant is not found.

    Args:
        graph: an ONNX file, sound as far as `refuse_unsound` can tell.
        ids: the input that holds them.

    Raises:
        ModelLoadError: the file is no ONNX graph.
    """
    with mapped(graph) as content:
        for number, start, end in parts(content, 0, len(content)):
            if number == _MODEL_GRAPH_EMBEDDING_ROWS:
                return _rows(content, start, end, ids)
    return None


def _rows(data: mmap.mmap, start: int, end: int, ids: str) -> int | None:
    tables: dict[bytes, int] = {}
    for number, at, to in parts(data, start, end):
        if number == _GRAPH_INITIALIZER_EMBEDDING_ROWS:
            name = b"".join(
                data[low:high]
                for field, low, high in parts(data, at, to)
                if field == _TENSOR_NAME_EMBEDDING_ROWS
            )
            dims = [value for field, value in numbers(data, at, to) if field == _TENSOR_DIMS]
            if len(dims) > 1:
                tables[name] = dims[0]
    # Nodes come in an order in which each finds its inputs made, as ONNX demands.
    same, found = {ids.encode()}, []
    for op, inputs, outputs in _nodes(data, start, end):
        if op in _LOOK_UPS and len(inputs) > 1 and inputs[1] in same and inputs[0] in tables:
            found.append(tables[inputs[0]])
        elif op in _SAME_VALUES and inputs and inputs[0] in same:
            same.update(outputs)
        if op in _SAME_ROWS and inputs and inputs[0] in tables:
            tables.update(dict.fromkeys(outputs, tables[inputs[0]]))
    return min(found, default=None)


def _nodes(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[str, list[bytes], list[bytes]]]:
    for number, at, to in parts(data, start, end):
        if number == _GRAPH_NODE:
            op, inputs, outputs = "", [], []
            for field, low, high in parts(data, at, to):
                if field == _NODE_OP_TYPE:
                    op = data[low:high].decode("utf-8", "replace")
                elif field == _NODE_INPUT:
                    inputs.append(data[low:high])
                elif field == _NODE_OUTPUT:
                    outputs.append(data[low:high])
            yield op, inputs, outputs


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
