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
