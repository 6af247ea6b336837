"""What a session is opened from: a graph, and those of its constants that sessions share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import onnxruntime as ort

from service.errors import ModelLoadError
from service.types import StoredTable


class PartOfGraph(Protocol):
    """A graph within that of a file."""

    @property
    def file(self) -> Path:
        """Return the file, beside which its external data are."""
        ...

    def content(self) -> bytes:
        """Return an ONNX model. Raises ModelLoadError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SharingGraph:
    """A graph of whose tables all sessions read one copy, where each would else have its own."""

    graph: "Path | PartOfGraph"
    tables: Mapping[str, ort.OrtValue]

    @classmethod
    def of(cls, graph: "Path | PartOfGraph", tables: Sequence[StoredTable]) -> "SharingGraph":
        """Read the tables, for sessions on a CPU. Raises ModelLoadError."""
        file = graph if isinstance(graph, Path) else graph.file
        try:
            return cls(graph, {table.name: _read(file, table) for table in tables})
        except (OSError, ValueError) as error:
            raise ModelLoadError(f"{file.name} cannot be read: {error}") from error


Graph: TypeAlias = Path | PartOfGraph | SharingGraph


def opened(graph: Graph) -> tuple[Path, str | bytes, Mapping[str, ort.OrtValue]]:
    """Return a graph's file, what to load, and tables by name. Raises ModelLoadError."""
    if isinstance(graph, SharingGraph):
        return (*opened(graph.graph)[:2], graph.tables)
    if isinstance(graph, Path):
        return graph, str(graph), {}
    return graph.file, graph.content(), {}


def _read(file: Path, table: StoredTable) -> ort.OrtValue:
    # Not mapped: who cuts a file short that is in use must not end the process.
    count = math.prod(table.shape)
    values = np.fromfile(file, table.dtype, count, offset=table.offset)
    # It refers to the array.
    return ort.OrtValue.ortvalue_from_numpy(values.reshape(table.shape))
