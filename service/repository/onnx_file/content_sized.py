"""Graphs whose work depends on what an input holds, and not only on how large the input is.

What warm-up measured says nothing of such a graph's next run. Read from the file, unloaded.
"""

import mmap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.repository.onnx_file.signature import operators
from service.repository.onnx_file.tensors import mapped
from service.transforms.protobuf import parts

BOUNDED = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress"})
"""Operators that do more or less work by the values they are given, but within bounds that the
size of their input sets."""

_NESTING = frozenset({"Loop", "Scan", "If", "SequenceMap"})
_SEARCHES = frozenset({"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})
_CONTROL = BOUNDED | _NESTING | _SEARCHES

_SIZED_BY: Mapping[str, Sequence[int]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "OneHot": (1,),
}
"""Operators whose output is as large as an input says; which of their inputs."""

_SIZES = frozenset({"Shape", "Size"})
"""Operators whose output tells how large their input is, and nothing of what it holds."""

_MODEL_GRAPH, _MODEL_FUNCTION = 7, 25
_GRAPH_NODE, _GRAPH_INPUT = 1, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_VALUE_NAME = 1


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    operator: str
    takes: Sequence[bytes]
    gives: Sequence[bytes]


def content_sized(graph: Path) -> frozenset[str]:
    """Return the operators of a graph that make its work depend on what an input holds.

    Raises:
        ModelLoadError: the file cannot be read, or is no ONNX graph.
    """
    found = operators(graph)
    control, may_be_sized = found & _CONTROL, found & _SIZED_BY.keys()
    if control & _NESTING or not may_be_sized:  # what is nested is not followed
        return control | may_be_sized
    with mapped(graph) as data:
        return control | _sized(data)


def _sized(data: mmap.mmap) -> frozenset[str]:
    nodes, inputs = list[_Node](), list[bytes]()
    for number, start, end in parts(data, 0, len(data)):
        if number == _MODEL_FUNCTION:  # is not followed; it may use anything
            return frozenset(operator for operator in _SIZED_BY)
        if number != _MODEL_GRAPH:
            continue
        for field, at, to in parts(data, start, end):
            if field == _GRAPH_NODE:
                nodes.append(_node(data, at, to))
            elif field == _GRAPH_INPUT:
                inputs += [data[a:b] for n, a, b in parts(data, at, to) if n == _VALUE_NAME]
    content = _reached(nodes, inputs)
    return frozenset(
        node.operator
        for node in nodes
        for place in _SIZED_BY.get(node.operator, ())
        if place < len(node.takes) and node.takes[place] in content
    )


def _reached(nodes: Sequence[_Node], inputs: Sequence[bytes]) -> set[bytes]:
    """Return the values that are computed from what the inputs hold."""
    takers = defaultdict[bytes, list[_Node]](list)
    for node in nodes:
        if node.operator not in _SIZES:
            for name in node.takes:
                takers[name].append(node)
    reached, waiting = set(inputs), list(inputs)
    while waiting:
        for node in takers.pop(waiting.pop(), ()):
            fresh = [name for name in node.gives if name not in reached]
            reached.update(fresh)
            waiting += fresh
    return reached


def _node(data: mmap.mmap, start: int, end: int) -> _Node:
    operator, takes, gives = "", list[bytes](), list[bytes]()
    for number, at, to in parts(data, start, end):
        if number == _NODE_INPUT:
            takes.append(data[at:to])
        elif number == _NODE_OUTPUT:
            gives.append(data[at:to])
        elif number == _NODE_OPERATOR:
            operator = data[at:to].decode()
    return _Node(operator, takes, gives)
