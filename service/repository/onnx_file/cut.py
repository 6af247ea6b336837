"""The part of an ONNX graph that one of its outputs needs, cut out of the file without loading it.

ONNX Runtime computes every node of a graph at every run, whichever outputs it is asked for.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from service.repository.onnx_file.tensors import StoredTensor, mapped, stored_tensor
from service.transforms.protobuf import field_header, fields, parts
from service.types import StoredTable

_MODEL_GRAPH = 7


_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_NAMES: Mapping[int, int] = {_INITIALIZER: 8, _INPUT: 1, _OUTPUT: 1, _VALUE: 1}
"""What a graph has by name: number of the field, and in it that of the name."""

_NESTED: Mapping[str, Mapping[int, str]] = {
    # onnx.proto: message -> field number -> message of that field, on the way to a name that a
    # nested graph takes from around it.
    "Node": {1: "Name", 5: "Attribute"},
    "Attribute": {6: "Graph", 11: "Graph"},
    "Graph": {1: "Node", 12: "Value"},
    "Value": {1: "Name"},
}

_Stretch: TypeAlias = tuple[int, int]
"""Of a file, from its first byte to behind its last."""


@dataclass(frozen=True, slots=True)
class GraphPart:
    """What one output of a graph needs: fewer nodes and weights, and perhaps fewer inputs."""

    file: Path
    output: str

    def content(self) -> bytes:
        """Return an ONNX model of it. External data stay where they are, beside the file.

        Raises:
            ModelLoadError: the file cannot be read, or is no ONNX graph.
        """
        with mapped(self.file) as data:
            before, graph, after = _around_graph(data)
            kept = _needed(data, graph, self.output).stretches
            header = field_header(_MODEL_GRAPH, sum(end - start for start, end in kept))
            with memoryview(data) as view:
                pieces = [view[start:end] for start, end in (*before, *kept, *after)]
                made = b"".join([*pieces[: len(before)], header, *pieces[len(before) :]])
                for piece in pieces:  # a file is not closed while something looks into it
                    piece.release()
            return made


def disjoint_parts(file: Path, outputs: Mapping[str, str]) -> Mapping[str, GraphPart]:
    """Return the parts of a graph that outputs need, by the same keys as the outputs.

    None of them where cutting would not help: an output is not there, or two parts share an input.

    Raises:
        ModelLoadError: the file cannot be read, or is no ONNX graph.
    """
    seen: set[bytes] = set()
    with mapped(file) as data:
        _, graph, _ = _around_graph(data)
        for output in outputs.values():
            needed = _needed(data, graph, output)
            if not needed.is_there or needed.inputs & seen:
                return {}
            seen |= needed.inputs
    return {key: GraphPart(file, output) for key, output in outputs.items()}


@dataclass(frozen=True, slots=True)
class _Needed:
    stretches: list[_Stretch]
    inputs: set[bytes]
    is_there: bool
    """Whether the graph has the output."""


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    takes: list[bytes]
    gives: list[bytes]
    stretch: _Stretch


def _around_graph(data: mmap.mmap) -> tuple[list[_Stretch], _Stretch, list[_Stretch]]:
    """Return the model's fields before its graph, the graph's own content, those behind.

    Raises:
        ValueError: there is no graph, or more than one.
    """
    before, after = list[_Stretch](), list[_Stretch]()
    graph: _Stretch | None = None
    for number, start, value, end in fields(data, 0, len(data)):
        if number != _MODEL_GRAPH:
            (before if graph is None else after).append((start, end))
        elif graph is None:
            graph = value, end
        else:
            raise ValueError("it has two graphs")
    if graph is None:
        raise ValueError("it has no graph")
    return before, graph, after


def _needed(data: mmap.mmap, graph: _Stretch, output: str) -> _Needed:
    wanted = output.encode()
    nodes = [
        _node(data, start, value, end)
        for number, start, value, end in fields(data, *graph)
        if number == _NODE
    ]
    kept, names = _reached(nodes, wanted)
    stretches = list[_Stretch]()
    inputs, constants, is_there = set[bytes](), set[bytes](), False
    node = iter(nodes)
    for number, start, value, end in fields(data, *graph):
        if number == _NODE:
            keep = next(node) in kept
        elif number in _NAMES:
            name = _name(data, value, end, _NAMES[number])
            keep = name == wanted if number == _OUTPUT else name in names
            is_there = is_there or (keep and number == _OUTPUT)
            if keep and number in (_INPUT, _INITIALIZER):
                (inputs if number == _INPUT else constants).add(name)
        else:
            keep = True
        if keep:
            stretches.append((start, end))
    return _Needed(stretches, inputs - constants, is_there)


def _reached(nodes: list[_Node], wanted: bytes) -> tuple[set[_Node], set[bytes]]:
    """Return the nodes that a value is made by, however indirectly, and the names around them."""
    makers = {name: node for node in nodes for name in node.gives if name}
    kept, names, waiting = set[_Node](), {wanted}, [wanted]
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node not in kept:
            kept.add(node)
            names.update(node.takes, node.gives)
            waiting.extend(node.takes)
    return kept, names


def _node(data: mmap.mmap, start: int, value: int, end: int) -> _Node:
    gives = [data[at:to] for number, at, to in parts(data, value, end) if number == _NODE_OUTPUT]
    return _Node(list(taken(data, value, end)), gives, (start, end))


def taken(data: mmap.mmap, start: int, end: int) -> Iterator[bytes]:
    """Yield the names that a node takes, and all that graphs nested in it might."""
    waiting = [("Node", start, end)]  # a stack: a hostile file can nest as deeply as it likes
    while waiting:
        message, at, to = waiting.pop()
        if message == "Name":
            yield data[at:to]
            continue
        nested = _NESTED[message]
        waiting.extend(
            (nested[number], low, high)
            for number, low, high in parts(data, at, to)
            if number in nested
        )


def _name(data: mmap.mmap, start: int, end: int, field: int) -> bytes:
    return b"".join(data[at:to] for number, at, to in parts(data, start, end) if number == field)


_NODE_LOOK_UP_TABLES, _INITIALIZER_LOOK_UP_TABLES, _INPUT_LOOK_UP_TABLES, _OUTPUT_LOOK_UP_TABLES = (
    1,
    5,
    11,
    12,
)
_NODE_INPUT_LOOK_UP_TABLES, _NODE_OP_TYPE, _NODE_DOMAIN, _VALUE_NAME = 1, 4, 7, 1

_LOOK_UP = b"Gather"
_SMALLEST = 2**20
"""Bytes of a table that is worth sharing."""

_DTYPES: Mapping[int, str] = {
    # TensorProto.DataType -> how numpy calls it, of types that embeddings are stored in.
    1: "float32",
    2: "uint8",
    3: "int8",
    10: "float16",
}


def shared_initializers(graph: Path) -> Sequence[StoredTable]:
    """Return the large constants of which a graph only takes rows, by Gather.

    Those in other files are not among them: onnxruntime maps these by itself. Neither are those
    that do not begin where their type may.

    Args:
        graph: an ONNX file, sound as far as `refuse_unsound` can tell.

    Raises:
        ModelLoadError: the file is no ONNX graph.
    """
    with mapped(graph) as data:
        for number, start, end in parts(data, 0, len(data)):
            if number == _MODEL_GRAPH:
                return _tables(data, start, end)
    return []


def _tables(data: mmap.mmap, start: int, end: int) -> Sequence[StoredTable]:
    looked_up, otherwise = set[bytes](), set[bytes]()
    found = list[StoredTable]()
    for number, at, to in parts(data, start, end):
        if number == _NODE_LOOK_UP_TABLES:
            if _is_look_up(data, at, to):
                rows, *others = _strings(data, at, to, _NODE_INPUT_LOOK_UP_TABLES)
                looked_up.add(rows)
                otherwise.update(others)
            else:
                otherwise.update(taken(data, at, to))
        elif number in (_INPUT_LOOK_UP_TABLES, _OUTPUT_LOOK_UP_TABLES):
            otherwise.update(_strings(data, at, to, _VALUE_NAME))
        elif number == _INITIALIZER_LOOK_UP_TABLES and to - at >= _SMALLEST:
            table = _table(stored_tensor(data, at, to))
            found += [table] if table is not None else []
    only_looked_up = looked_up - otherwise
    return [table for table in found if table.name.encode() in only_looked_up]


def _table(tensor: StoredTensor) -> StoredTable | None:
    dtype = _DTYPES.get(tensor.kind)
    if dtype is None or tensor.bits is None or tensor.raw != tensor.size or tensor.is_external:
        return None
    if tensor.raw_at % (tensor.bits // 8):
        return None
    return StoredTable(tensor.name, dtype, tensor.shape, tensor.raw_at)


def _is_look_up(data: mmap.mmap, start: int, end: int) -> bool:
    domain = b"".join(_strings(data, start, end, _NODE_DOMAIN))
    return not domain and _LOOK_UP in _strings(data, start, end, _NODE_OP_TYPE)


def _strings(data: mmap.mmap, start: int, end: int, field: int) -> Iterator[bytes]:
    return (data[at:to] for number, at, to in parts(data, start, end) if number == field)
