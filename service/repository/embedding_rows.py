"""How many token ids a graph knows, read from its file without loading it."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from service.repository.graph_file import mapped
from service.transforms.protobuf import numbers, parts

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP_TYPE = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8

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
            if number == _MODEL_GRAPH:
                return _rows(content, start, end, ids)
    return None


def _rows(data: mmap.mmap, start: int, end: int, ids: str) -> int | None:
    tables: dict[bytes, int] = {}
    for number, at, to in parts(data, start, end):
        if number == _GRAPH_INITIALIZER:
            name = b"".join(
                data[low:high] for field, low, high in parts(data, at, to) if field == _TENSOR_NAME
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
