"""What an ONNX file says, as the reader returns it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.types import TensorSpec


class Span(NamedTuple):
    """A stretch of the file."""

    start: int
    end: int


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
    """Metadata that the exporter wrote, such as Ultralytics' class names."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node of the main graph."""

    operator: str
    domain: str
    inputs: Sequence[bytes]
    outputs: Sequence[bytes]
    captured: Sequence[bytes]
    """What graphs nested in it read: values of the graph around it, or of their own."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A constant, as the file describes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str | None
    """None for a type that numpy does not have."""
    bits: int | None
    """Of an element; None where elements differ in size."""
    here: int
    """Bytes that the file spends on it."""
    raw: Span | None
    """Its values, where the file stores them as memory does."""
    external: Mapping[str, str] | None
    """Location, offset and length of values that are in another file."""
    locations: tuple[str, ...]
    """Every location that is named, including one that another overrides."""

    @property
    def size(self) -> int | None:
        """Return the bytes that its shape and type make."""
        if self.bits is None:
            return None
        return -(-math.prod(self.shape) * self.bits // 8)


class GraphEntry(NamedTuple):
    """A field of the main graph."""

    number: int
    span: Span
    name: bytes
    """Empty where such fields have none."""
    item: Node | StoredTensor | None


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file: the main graph in full, and what matters of the rest."""

    signature: GraphSignature
    entries: Sequence[GraphEntry]
    """The main graph, field by field."""
    around: tuple[Sequence[Span], Sequence[Span]]
    """The model's other fields, before and after the graph."""
    tensors: Sequence[StoredTensor]
    """All constants, those of nested graphs, functions and training included."""
    operators: frozenset[tuple[str, str]]
    """Domain and type of every operator that can run, nested ones included."""
    functions: frozenset[tuple[str, str]]
    """Domain and name of the functions that the file defines."""

    @property
    def nodes(self) -> Sequence[Node]:
        """Return the nodes of the main graph; ONNX demands that each follows its inputs."""
        return [entry.item for entry in self.entries if isinstance(entry.item, Node)]

    @property
    def initializers(self) -> Sequence[StoredTensor]:
        """Return the constants of the main graph."""
        return [entry.item for entry in self.entries if isinstance(entry.item, StoredTensor)]

    def names(self, number: int) -> set[bytes]:
        """Return the names of the main graph's inputs or outputs, by the number of the field."""
        return {entry.name for entry in self.entries if entry.number == number}
