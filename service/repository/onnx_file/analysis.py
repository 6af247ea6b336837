"""What follows from the nodes of an ONNX graph for how it is served."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from service.repository.onnx_file.reader import INPUT, OUTPUT
from service.repository.onnx_file.records import Node, OnnxFile, StoredTensor
from service.types import StoredTable

# Operators that compute one scale over a whole tensor, and so over all rows of a batch: a row's
# result depends on its neighbours (onnxruntime #10111). ONNX Runtime writes the last two in place
# of the first where it saves an optimised graph.
BATCH_WIDE: Final = frozenset(
    {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
)

# Operators whose work depends on the values of their input, within bounds that its size sets.
BOUNDED: Final = frozenset({"NonZero", "NonMaxSuppression", "Unique", "Compress"})

_NESTING = frozenset({"Loop", "Scan", "If", "SequenceMap"})
_SEARCHES = frozenset({"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})
_CONTROL = BOUNDED | _NESTING | _SEARCHES

# Operators whose output is as large as an input says -> which of their inputs.
_SIZED_BY: Final[Mapping[str, Sequence[int]]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "OneHot": (1,),
}

# Operators whose output depends on the size of their input only.
_SIZES = frozenset({"Shape", "Size"})

# Domains of operators that ONNX Runtime brings along.
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

_LOOK_UPS = frozenset({"Gather", "GatherBlockQuantized"})
_SAME_VALUES = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_SAME_ROWS = frozenset({"DequantizeLinear", "Cast", "Identity"})

_SMALLEST_SHARED = 2**20
"""Bytes of a table that is worth sharing."""
_SHARED_DTYPES = frozenset({"float32", "uint8", "int8", "float16"})


def operators(onnx: OnnxFile) -> frozenset[str]:
    """Return the types of all operators of a graph, nested ones included."""
    return frozenset(operator for _, operator in onnx.operators)


def foreign_operators(onnx: OnnxFile) -> frozenset[str]:
    """Return the operators that ONNX Runtime does not have, as `domain.Operator`.

    Functions that the file itself defines are not among them.
    """
    return frozenset(
        f"{domain}.{operator}"
        for domain, operator in onnx.operators - onnx.functions
        if domain not in _OWN_DOMAINS
    )


def content_sized(onnx: OnnxFile) -> frozenset[str]:
    """Return the operators that make a graph's work depend on the content of an input.

    What warm-up measured does not predict the next run of such a graph.
    """
    found = operators(onnx)
    control, sized = found & _CONTROL, found & _SIZED_BY.keys()
    if control & _NESTING or not sized:  # nested graphs are not followed
        return control | sized
    if onnx.functions:  # these are not followed either, and may use anything
        return control | _SIZED_BY.keys()
    return control | _sized_by_content(onnx)


def _sized_by_content(onnx: OnnxFile) -> frozenset[str]:
    content = _computed_from(onnx.names(INPUT), onnx.nodes)
    return frozenset(
        node.operator
        for node in onnx.nodes
        for place in _SIZED_BY.get(node.operator, ())
        if place < len(node.inputs) and node.inputs[place] in content
    )


def _computed_from(inputs: set[bytes], nodes: Sequence[Node]) -> set[bytes]:
    """Return the values that are computed from the content of the inputs."""
    takers = defaultdict[bytes, list[Node]](list)
    for node in nodes:
        if node.operator not in _SIZES:
            for name in node.inputs:
                takers[name].append(node)
    reached, waiting = set(inputs), list(inputs)
    while waiting:
        for node in takers.pop(waiting.pop(), ()):
            new = [name for name in node.outputs if name not in reached]
            reached.update(new)
            waiting += new
    return reached


def embedding_rows(onnx: OnnxFile, ids: str = "input_ids") -> int | None:
    """Return the rows of the table that ids are looked up in; None if it is not found.

    Of several tables the smallest counts. Only a Gather from a constant is found.

    Args:
        onnx: a file that passed `validate_graph`.
        ids: the input that holds them.
    """
    tables = {t.name.encode(): t.shape[0] for t in onnx.initializers if len(t.shape) > 1}
    same, found = {ids.encode()}, []
    for node in onnx.nodes:
        operator, inputs = node.operator, node.inputs
        if operator in _LOOK_UPS and len(inputs) > 1 and inputs[1] in same and inputs[0] in tables:
            found.append(tables[inputs[0]])
        elif operator in _SAME_VALUES and inputs and inputs[0] in same:
            same.update(node.outputs)
        if operator in _SAME_ROWS and inputs and inputs[0] in tables:
            tables.update(dict.fromkeys(node.outputs, tables[inputs[0]]))
    return min(found, default=None)


def shared_initializers(onnx: OnnxFile) -> Sequence[StoredTable]:
    """Return the large constants of which a graph only takes rows, by Gather.

    Not among them are those in other files, which onnxruntime maps by itself, and those that are
    not aligned as their type demands.

    Args:
        onnx: a file that passed `validate_graph`.
    """
    looked_up, otherwise = set[bytes](), onnx.names(INPUT) | onnx.names(OUTPUT)
    for node in onnx.nodes:
        rows = node.inputs[:1] if (node.domain, node.operator) == ("", "Gather") else ()
        looked_up.update(rows)
        otherwise.update(node.inputs[len(rows) :], node.captured)
    only_looked_up = looked_up - otherwise
    found = [_table(t) for t in onnx.initializers if t.name.encode() in only_looked_up]
    return [table for table in found if table is not None]


def _table(tensor: StoredTensor) -> StoredTable | None:
    if tensor.here < _SMALLEST_SHARED or tensor.external is not None or tensor.raw is None:
        return None
    if tensor.dtype not in _SHARED_DTYPES or tensor.bits is None:
        return None
    start, end = tensor.raw
    if end - start != tensor.size or start % (tensor.bits // 8):
        return None
    return StoredTable(tensor.name, tensor.dtype, tensor.shape, start)
