"""Which constants of a graph are tables that it only looks rows up in, and where they lie.

Sessions of one graph need no copy each of such a table, since none packs it for a product.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.repository.graph_file import mapped
from service.repository.graph_part import taken
from service.repository.tensors import StoredTensor, stored_tensor
from service.transforms.protobuf import parts
from service.types import StoredTable

_MODEL_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OP_TYPE, _NODE_DOMAIN, _VALUE_NAME = 1, 4, 7, 1

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


def look_up_tables(graph: Path) -> Sequence[StoredTable]:
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
        if number == _NODE:
            if _is_look_up(data, at, to):
                rows, *others = _strings(data, at, to, _NODE_INPUT)
                looked_up.add(rows)
                otherwise.update(others)
            else:
                otherwise.update(taken(data, at, to))
        elif number in (_INPUT, _OUTPUT):
            otherwise.update(_strings(data, at, to, _VALUE_NAME))
        elif number == _INITIALIZER and to - at >= _SMALLEST:
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
