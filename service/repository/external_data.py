"""Which other files an ONNX graph says its weights are in.

ONNX Runtime opens what a graph names, so the names are read before the graph is loaded. Only
the few fields that can hold such a name are followed; weights in the file are skipped unread.
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.paths import file_inside
from service.transforms.protobuf import parts

_KEY, _VALUE = 1, 2
_LONGEST_NAME = 4096

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
    "Tensor": {13: "Entry"},
    "Entry": {},
}


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
    names = sorted(_locations(graph, where))
    return [file_inside(name, graph.parent, folder, said) for name in names]


def _locations(graph: Path, where: str) -> set[str]:
    try:
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return set(_entries_named_location(content))
    except OSError as error:
        raise ModelLoadError(f"{where}: {graph.name} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of mmap, for an empty file
        raise ModelLoadError(f"{where}: {graph.name} is not an ONNX graph: {error}") from None


def _entries_named_location(data: mmap.mmap) -> Iterator[str]:
    # A stack, not recursion: a hostile file can nest graphs as deeply as it likes.
    waiting = [("Model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "Entry":
            entry = {number: _short(data, at, to) for number, at, to in parts(data, start, end)}
            if entry.get(_KEY) == b"location":
                yield entry.get(_VALUE, b"").decode("utf-8")
            continue
        nested = _NESTED[message]
        waiting.extend(
            (nested[number], at, to)
            for number, at, to in parts(data, start, end)
            if number in nested
        )


def _short(data: mmap.mmap, start: int, end: int) -> bytes:
    if end - start > _LONGEST_NAME:
        raise ValueError("a name in it is too long")
    return data[start:end]
