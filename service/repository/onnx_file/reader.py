"""The one reader of ONNX files: header, nodes and constants in one walk over the mapped file.

Nothing is loaded and the values of constants are skipped, so a file of gigabytes is read in
milliseconds. A file of a few bytes can claim to hold a tensor of terabytes: such claims are only
recorded here; `graph_validation` checks them.
"""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from service.errors import ModelLoadError
from service.repository.onnx_file.records import (
    GraphEntry,
    GraphSignature,
    Node,
    OnnxFile,
    Span,
    StoredTensor,
)
from service.repository.paths import other_format, stand_in
from service.transforms.protobuf import Bytes, fields, numbers, packed, parts
from service.types import TensorSpec

# Field numbers of onnx.proto, by message.
_IR_VERSION, GRAPH, OPSET, _METADATA, _TRAINING, _FUNCTION = 1, 7, 8, 14, 20, 25
NODE, INITIALIZER, INPUT, OUTPUT, _VALUE_INFO, _SPARSE = 1, 5, 11, 12, 13, 15
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_DIMS, _DTYPE, _TENSOR_NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _ELEMENTS, _SHAPE, _DIMENSION, _DIMENSION_VALUE = 1, 1, 2, 1, 1
_KEY, _VALUE = 1, 2  # of metadata, of where a tensor's values are, and of an operator set
_IS_EXTERNAL = 1

_NESTED: Final[Mapping[str, Mapping[int, str]]] = {
    # Message -> field number -> message of that field, on the way to nodes and constants.
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 12: "Output", 15: "SparseTensor"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}

_BITS: Final[Mapping[int, int]] = {
    # TensorProto.DataType -> bits of an element; strings differ in size.
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}
_DTYPES: Final[Mapping[int, str]] = {
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
_LONGEST_NAME, _LONGEST_TEXT = 4096, 1 << 20
_SIGNED = 1 << 63
_UNKNOWN = TensorSpec("unknown", ())

_Waiting: TypeAlias = tuple[str, int, int, list[bytes], bool]
"""A message to follow: its name, its span, where to note what it reads, whether it can run."""


def read_onnx(graph: Path, where: str = "") -> OnnxFile:
    """Read an ONNX file.

    Args:
        graph: the file.
        where: what names the file, for the error.

    Raises:
        ModelLoadError: it cannot be read, or is not an ONNX graph.
    """
    with mapped(graph, where) as data:
        return read_mapped(data)


def read_signature(graph: Path) -> GraphSignature:
    """Read the header of an ONNX file only. Raises ModelLoadError."""
    with mapped(graph) as data:
        return _Reader(data, header_only=True).read().signature


@contextmanager
def mapped(graph: Path, where: str = "") -> Iterator[mmap.mmap]:
    """Map a graph's file; a ValueError about its content becomes a ModelLoadError.

    Raises:
        ModelLoadError: the file cannot be read, or is not an ONNX graph.
    """
    named = f"{where}: {graph.name}" if where else graph.name
    try:
        if problem := stand_in(graph):
            raise ModelLoadError(f"{named} {problem}")
        if kind := other_format(graph):
            raise ModelLoadError(f"{named} is {kind}, not an ONNX graph")
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            yield content
    except OSError as error:
        raise ModelLoadError(f"{named} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of names that are not UTF-8
        raise ModelLoadError(
            f"{named} is not an ONNX graph: {error}; copy or export it again"
        ) from None


def read_mapped(data: Bytes) -> OnnxFile:
    """Read a file that is mapped or in memory. Raises ValueError."""
    return _Reader(data).read()


class _Reader:
    def __init__(self, data: Bytes, *, header_only: bool = False) -> None:
        self._data, self._header_only = data, header_only
        self._values: dict[int, dict[str, TensorSpec]] = {INPUT: {}, OUTPUT: {}, INITIALIZER: {}}
        self._tensors: list[StoredTensor] = []
        self._operators: set[tuple[str, str]] = set()
        self._functions: set[tuple[str, str]] = set()
        # A stack, not recursion: a hostile file can nest graphs without limit.
        self._waiting: list[_Waiting] = []

    def read(self) -> OnnxFile:
        data = self._data
        around, graph = (list[Span](), list[Span]()), list[Span]()
        for number, _, start, at, end in fields(data, 0, len(data)):
            if number == GRAPH:
                graph.append(Span(at, end))
            else:
                around[bool(graph)].append(Span(start, end))
        if len(graph) != 1:
            raise ValueError("it has no graph" if not graph else "it has two graphs")
        entries = list(self._entries(graph[0]))
        signature = self._signature()
        self._follow()
        operators, functions = frozenset(self._operators), frozenset(self._functions)
        return OnnxFile(signature, entries, around, self._tensors, operators, functions)

    def _signature(self) -> GraphSignature:
        """Read the model's own fields, once its graph has been read."""
        data, inputs = self._data, self._values[INPUT]
        opsets, metadata = dict[str, int](), dict[str, str]()
        for number, at, end in parts(data, 0, len(data)):
            if number == OPSET:
                domain = self._texts(at, end).get(_KEY, "")
                opsets[domain] = dict(numbers(data, at, end)).get(_VALUE, 0)
            elif number == _METADATA:
                texts = self._texts(at, end)
                metadata[texts.get(_KEY, "")] = texts.get(_VALUE, "")
            elif number == _FUNCTION:
                named = self._texts(at, end, (_FUNCTION_NAME, _FUNCTION_DOMAIN))
                domain = named.get(_FUNCTION_DOMAIN, "")
                self._functions.add((domain, named.get(_FUNCTION_NAME, "")))
                self._waiting.append(("Function", at, end, [], True))
            elif number == _TRAINING:
                self._waiting.append(("TrainingInfo", at, end, [], False))
        for name in self._values[INITIALIZER]:
            inputs.pop(name, None)  # before IR version 4, constants were inputs too
        version = dict(numbers(data, 0, len(data))).get(_IR_VERSION, 0)
        return GraphSignature(inputs, self._values[OUTPUT], version, opsets, metadata)

    def _entries(self, graph: Span) -> Iterator[GraphEntry]:
        for number, _, start, at, end in fields(self._data, *graph):
            name = b""
            item: Node | StoredTensor | None = None
            if number == NODE:
                item = None if self._header_only else self._node(at, end, [], True)
            elif number == INITIALIZER:
                name = self._name(at, end, _TENSOR_NAME)
                if not self._header_only:
                    item = self._tensor(at, end)
                    self._tensors.append(item)
                self._values[INITIALIZER][_text(name)] = _UNKNOWN
            elif number in (INPUT, OUTPUT):
                name, spec = self._value(at, end)
                self._values[number][_text(name)] = spec
            elif number == _VALUE_INFO:
                name = self._name(at, end)
            elif number == _SPARSE:
                self._waiting.append(("SparseTensor", at, end, [], True))
            yield GraphEntry(number, Span(start, end), name, item)

    def _follow(self) -> None:
        """Read what is nested."""
        while self._waiting and not self._header_only:
            message, at, end, reads, runs = self._waiting.pop()
            if message == "Node":
                reads += self._node(at, end, reads, runs).inputs
            elif message == "Output":
                reads.append(self._name(at, end))
            elif message == "Tensor":
                self._tensors.append(self._tensor(at, end))
            else:
                nested = _NESTED[message]
                self._waiting += [
                    (nested[number], low, high, reads, runs)
                    for number, low, high in parts(self._data, at, end)
                    if number in nested
                ]

    def _node(self, at: int, end: int, captured: list[bytes], runs: bool) -> Node:
        data = self._data
        named = {_OPERATOR: b"", _DOMAIN: b""}
        values: dict[int, list[bytes]] = {_NODE_INPUT: [], _NODE_OUTPUT: []}
        for number, low, high in parts(data, at, end):
            if number in values:
                values[number].append(data[low:high])
            elif number in named:
                named[number] = data[low:high]
            elif number == _ATTRIBUTE:
                self._waiting.append(("Attribute", low, high, captured, runs))
        operator, domain = named[_OPERATOR].decode(), named[_DOMAIN].decode()
        if runs:
            self._operators.add((domain, operator))
        return Node(operator, domain, values[_NODE_INPUT], values[_NODE_OUTPUT], captured)

    def _tensor(self, at: int, end: int) -> StoredTensor:
        data, shape, name, raw = self._data, list[int](), b"", None
        plain, places = dict[int, int](), list[tuple[str, str]]()
        for number, value in numbers(data, at, end):
            plain[number] = value
            if number == _DIMS:
                shape.append(value)
        for number, low, high in parts(data, at, end):
            if number == _DIMS:
                shape.extend(packed(data, low, high))
            elif number == _TENSOR_NAME:
                name = data[low : min(high, low + _LONGEST_NAME + 1)]
            elif number == _RAW:
                raw = Span(low, high)
            elif number == _EXTERNAL:
                place = self._texts(low, high, longest=_LONGEST_NAME)
                places.append((place.get(_KEY, ""), place.get(_VALUE, "")))
        kind = plain.get(_DTYPE, 0)
        return StoredTensor(
            _text(name, _LONGEST_NAME),
            tuple(size if size < _SIGNED else size - 2 * _SIGNED for size in shape),
            _DTYPES.get(kind),
            _BITS.get(kind),
            end - at,
            raw,
            dict(places) if plain.get(_LOCATION) == _IS_EXTERNAL else None,
            tuple(value for key, value in places if key == "location"),
        )

    def _name(self, at: int, end: int, number: int = _VALUE_NAME) -> bytes:
        return b"".join(self._data[low:high] for low, high in self._numbered(at, end, number))

    def _value(self, at: int, end: int) -> tuple[bytes, TensorSpec]:
        spec = _UNKNOWN
        for low, high in self._numbered(at, end, _VALUE_TYPE):
            spec = self._spec(low, high)
        return self._name(at, end), spec

    def _spec(self, at: int, end: int) -> TensorSpec:
        dtype, shape = "unknown", []
        for tensor in self._numbered(at, end, _TYPE_TENSOR):
            kind = dict(numbers(self._data, *tensor)).get(_ELEMENTS, 0)
            dtype = _DTYPES.get(kind, f"type {kind}")
            for dimensions in self._numbered(*tensor, _SHAPE):
                for dimension in self._numbered(*dimensions, _DIMENSION):
                    size = dict(numbers(self._data, *dimension)).get(_DIMENSION_VALUE, 0)
                    shape.append(size if 0 < size < _SIGNED else None)
        return TensorSpec(dtype, tuple(shape))

    def _numbered(self, at: int, end: int, wanted: int) -> Iterator[Span]:
        return (
            Span(low, high) for number, low, high in parts(self._data, at, end) if number == wanted
        )

    def _texts(
        self,
        at: int,
        end: int,
        wanted: tuple[int, ...] = (_KEY, _VALUE),
        longest: int = _LONGEST_TEXT,
    ) -> Mapping[int, str]:
        return {
            number: _text(self._data[low : min(high, low + longest + 1)], longest)
            for number, low, high in parts(self._data, at, end)
            if number in wanted
        }


def _text(data: bytes, longest: int = _LONGEST_TEXT) -> str:
    if len(data) > longest:
        raise ValueError("a text in it is too long")
    return data.decode()
