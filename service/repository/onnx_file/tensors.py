"""The constants of an ONNX graph, checked against the bytes there are before they are loaded.

A file of a few bytes can say that it holds a tensor of terabytes, or that its weights begin beyond
the end of another file. Only the few fields that say such things are followed.
"""

import math
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.errors import ModelLoadError
from service.repository.paths import file_inside, other_format, stand_in
from service.transforms.protobuf import numbers, parts


@contextmanager
def mapped(graph: Path, where: str = "") -> Iterator[mmap.mmap]:
    """Give the content of a graph's file; a ValueError about it becomes a sentence.

    Args:
        graph: the file.
        where: who names it, for the error.

    Raises:
        ModelLoadError: the file cannot be read, or is something else than an ONNX graph.
    """
    named = f"{where}: {graph.name}" if where else graph.name
    try:
        if said := stand_in(graph):
            raise ModelLoadError(f"{named} {said}")
        if kind := other_format(graph):
            raise ModelLoadError(f"{named} is {kind}, not an ONNX graph")
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            yield content
    except OSError as error:
        raise ModelLoadError(f"{named} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of texts that are not UTF-8
        raise ModelLoadError(
            f"{named} is not an ONNX graph: {error}; copy or export it again"
        ) from None


_DIMS, _DTYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_KEY, _VALUE = 1, 2
_IS_EXTERNAL = 1
_LONGEST_NAME = 4096
_SIGNED = 1 << 63
_MOST_AXES = 64
_DENSEST = 8
"""Values that one byte of a file can hold at most."""

_NESTED: Mapping[str, Mapping[int, str]] = {
    # onnx.proto: message -> field number -> message of that field, on the way to a tensor.
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
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
    # TensorProto.DataType -> bits of an element; of a string's nothing is known.
    **dict.fromkeys((7, 11, 13, 14), 64),
    15: 128,
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((21, 22, 23), 4),
    **dict.fromkeys((25, 26), 2),
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What an ONNX file says of one constant."""

    name: str
    shape: tuple[int, ...]
    bits: int | None
    """Of an element; None where it is not of one size."""
    here: int
    """Bytes that the file spends on it."""
    raw: int | None
    """Bytes of its values, where they are in the file as in memory."""
    raw_at: int
    """Where in the file these begin."""
    kind: int
    """Its type, by ONNX's number."""
    is_external: bool
    external: Mapping[bytes, bytes]
    """Where its values are: location, offset, length."""
    locations: tuple[bytes, ...]
    """Every location that is named, also one that another overrides."""

    @property
    def size(self) -> int | None:
        """Return the bytes of its values as its shape and type have them."""
        if self.bits is None:
            return None
        return -(-math.prod(self.shape) * self.bits // 8)

    def problem(self) -> str | None:
        """Return why it cannot be what it says it is, by this file alone; None if it can."""
        if len(self.shape) > _MOST_AXES:
            return f"says it has {len(self.shape)} axes"
        if any(size < 0 for size in self.shape):
            return "has a negative size"
        if self.is_external:
            return None
        if self.raw is not None and self.size is not None and self.raw != self.size:
            return f"says it has {self.size} bytes, but there are {self.raw}"
        if self.raw is None and math.prod(self.shape) > _DENSEST * self.here:
            return f"says it has {math.prod(self.shape)} values in {self.here} bytes"
        return None


def tensors(data: mmap.mmap) -> Iterator[StoredTensor]:
    """Yield every constant of a graph's file, those of nested graphs and functions included.

    Raises:
        ValueError: the file is no ONNX graph.
    """
    # A stack, not recursion: a hostile file can nest graphs as deeply as it likes.
    waiting = [("Model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "Tensor":
            yield stored_tensor(data, start, end)
            continue
        nested = _NESTED[message]
        waiting.extend(
            (nested[number], at, to)
            for number, at, to in parts(data, start, end)
            if number in nested
        )


def stored_tensor(data: mmap.mmap, start: int, end: int) -> StoredTensor:
    """Return what is said of the constant that these bytes of a file are. Raises ValueError."""
    shape = []
    plain = {}
    for number, value in numbers(data, start, end):
        if number == _DIMS:
            shape.append(value)
        plain[number] = value
    raw, raw_at, name, entries = None, 0, b"", []
    for number, at, to in parts(data, start, end):
        if number == _DIMS:
            shape.extend(_packed(data, at, to))
        elif number == _NAME:
            name = _short(data, at, to)
        elif number == _RAW:
            raw, raw_at = to - at, at
        elif number == _EXTERNAL:
            entry = {field: _short(data, low, high) for field, low, high in parts(data, at, to)}
            entries.append((entry.get(_KEY, b""), entry.get(_VALUE, b"")))
    return StoredTensor(
        name.decode("utf-8", "replace"),
        tuple(size if size < _SIGNED else size - 2 * _SIGNED for size in shape),
        _BITS.get(plain.get(_DTYPE, 0)),
        end - start,
        raw,
        raw_at,
        plain.get(_DTYPE, 0),
        plain.get(_LOCATION) == _IS_EXTERNAL,
        dict(entries),
        tuple(value for key, value in entries if key == b"location"),
    )


def _packed(data: mmap.mmap, at: int, end: int) -> Iterator[int]:
    value, shift = 0, 0
    for byte in data[at:end]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            yield value
            value, shift = 0, 0


def _short(data: mmap.mmap, start: int, end: int) -> bytes:
    if end - start > _LONGEST_NAME:
        raise ValueError("a name in it is too long")
    return data[start:end]


_LOCATION_EXTERNAL_DATA = b"location"


def external_files(graph: Path, folder: Path, where: str) -> list[Path]:
    """Return the files that hold a graph's external data, each once, by name.

    Args:
        graph: an ONNX file in the version's folder.
        folder: the version's folder, which the data must not leave.
        where: who names the graph, for the error.

    Raises:
        ModelLoadError: the file is no ONNX graph, or names data outside the folder.
    """
    said = f"{where}: external data of {graph.name}"
    with mapped(graph, where) as content:
        names = {
            location.decode("utf-8") for tensor in tensors(content) for location in tensor.locations
        }
    return [file_inside(name, graph.parent, folder, said) for name in sorted(names)]
