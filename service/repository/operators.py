"""Which operators an ONNX graph is made of, read from the file without loading it."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.repository.graph_file import mapped
from service.transforms.protobuf import parts

BATCH_WIDE = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that compute one scale over a whole tensor, and so over all rows of a batch: a row's
result depends on its neighbours (onnxruntime #10111). The last two are what ONNX Runtime makes of
the first where it saves a graph that it has optimised."""

_OP_TYPE = 4
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


def _types(data: mmap.mmap) -> Iterator[str]:
    waiting = [("Model", 0, len(data))]  # a stack: a hostile file can nest as deeply as it likes
    while waiting:
        message, start, end = waiting.pop()
        nested = _NESTED[message]
        for number, at, to in parts(data, start, end):
            if message == "Node" and number == _OP_TYPE:
                yield data[at:to].decode()
            elif number in nested:
                waiting.append((nested[number], at, to))
