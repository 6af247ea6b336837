"""What a graph multiplies a product of matrices with, and adds to it: the scale of logits."""

import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from service.repository.onnx_file.reader import INITIALIZER, NODE, mapped, read_mapped
from service.repository.onnx_file.records import GraphEntry, Node, Span
from service.transforms.protobuf import fields, numbers

# Field numbers of onnx.proto, by message.
_ATTRIBUTE, _TENSOR = 5, 5
_DTYPE, _FLOATS, _RAW = 2, 4, 9
_NUMPY: Final[Mapping[int, str]] = {1: "<f4", 10: "<f2", 11: "<f8"}

_PRODUCTS = frozenset({"MatMul", "Gemm", "Einsum"})
_SAME_VALUES = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
)
_MOST_STEPS = 64
"""From an output to the product of matrices; a file could hold a circle."""


def scale_and_bias(graph: Path, output: str) -> tuple[float, float] | None:
    """Return scale and bias of an output that is `product * scale + bias`.

    Args:
        graph: an ONNX file.
        output: of the graph, such as `logits_per_image`.

    Returns:
        None if the output is made otherwise, or its constants are in another file.

    Raises:
        ModelLoadError: the file cannot be read.
    """
    with mapped(graph) as data:
        return _Walk(data, read_mapped(data).entries).affine(output.encode())


@dataclass(frozen=True, slots=True)
class _Made:
    node: Node
    span: Span


class _Walk:
    """From an output back to what it is made of."""

    def __init__(self, data: mmap.mmap, entries: Sequence[GraphEntry]) -> None:
        self._data = data
        self._made: dict[bytes, _Made] = {}
        self._stored: dict[bytes, Span] = {}
        for entry in entries:
            if entry.number == NODE and isinstance(entry.item, Node):
                self._made |= {name: _Made(entry.item, entry.span) for name in entry.item.outputs}
            elif entry.number == INITIALIZER:
                self._stored[entry.name] = entry.span

    def affine(self, value: bytes) -> tuple[float, float] | None:
        """Return scale and bias of a value; None if it is no scaled product of matrices."""
        scale, bias = 1.0, 0.0
        for _ in range(_MOST_STEPS):
            made = self._made.get(value)
            if made is None:
                return None
            operator, inputs = made.node.operator, made.node.inputs
            if operator in _PRODUCTS:
                return scale, bias
            if operator in _SAME_VALUES:
                value = inputs[0]
                continue
            if operator not in ("Add", "Div", "Mul", "Sub") or len(inputs) != 2:  # noqa: PLR2004
                return None
            first, second = map(self._constant, inputs)
            number, value = (second, inputs[0]) if first is None else (first, inputs[1])
            if number is None or (first is not None and operator in ("Div", "Sub")):
                return None
            if operator in ("Add", "Sub"):
                bias += scale * (number if operator == "Add" else -number)
            else:
                scale = scale * number if operator == "Mul" else scale / (number or math.nan)
        return None

    def _constant(self, value: bytes) -> float | None:
        """Return a number that does not depend on the graph's inputs; None for anything else."""
        powers = 0
        for _ in range(_MOST_STEPS):
            if (span := self._stored.get(value)) is not None:
                return _exponential(_number(self._data, _inside(self._data, span)), powers)
            made = self._made.get(value)
            if made is None:
                return None
            if made.node.operator == "Constant":
                return _exponential(_attribute(self._data, _inside(self._data, made.span)), powers)
            if made.node.operator == "Exp":
                powers += 1
            elif made.node.operator not in _SAME_VALUES:
                return None
            value = made.node.inputs[0]
        return None


def _exponential(number: float | None, times: int) -> float | None:
    for _ in range(times):
        number = None if number is None or number > math.log(1e9) else math.exp(number)
    return number


def _inside(data: mmap.mmap, span: Span) -> Span:
    """Return the message of a field, without the field's header."""
    ((_, _, _, at, end),) = fields(data, *span)
    return Span(at, end)


def _attribute(data: mmap.mmap, node: Span) -> float | None:
    """Return the value of a node `Constant`."""
    for number, _, _, at, end in fields(data, *node):
        if number == _ATTRIBUTE:
            for part, _, _, low, high in fields(data, at, end):
                if part == _TENSOR:
                    return _number(data, Span(low, high))
    return None


def _number(data: mmap.mmap, tensor: Span) -> float | None:
    """Return the only number of a tensor; None if it has several, or they are elsewhere."""
    dtype = _NUMPY.get(dict(numbers(data, *tensor)).get(_DTYPE, 0))
    for number, _, _, at, end in fields(data, *tensor):
        kind = dtype if number == _RAW else "<f4" if number == _FLOATS else None
        if kind is not None and end - at == np.dtype(kind).itemsize:
            found = float(np.frombuffer(data[at:end], kind)[0])
            return found if math.isfinite(found) else None
    return None
