"""Which operators an ONNX graph is made of, read from the file without loading it."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import ModelLoadError
from service.transforms.protobuf import parts

BATCH_WIDE = frozenset({"DynamicQuantizeLinear"})
"""Operators that compute one scale over a whole tensor, and so over all rows of a batch: a row's
result depends on its neighbours (onnxruntime #10111)."""

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
    try:
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return frozenset(_types(content))
    except OSError as error:
        raise ModelLoadError(f"{graph.name} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of mmap, for an empty file
        raise ModelLoadError(f"{graph.name} is not an ONNX graph: {error}") from None


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
