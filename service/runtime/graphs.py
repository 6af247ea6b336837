"""What a session is opened from, and how: a graph, and the constants that sessions share."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime as ort

from service.errors import ModelLoadError
from service.types import StoredTable

_log = logging.getLogger(__name__)

# Without VNNI instructions, ONNX Runtime's fast product of uint8 by int8 adds pairs in 16 bits and
# saturates, with no warning: on an AVX2 machine sums came out up to 84 % too small. This entry has
# it use an exact kernel there; with VNNI or AMX it has no effect.
_EXACT_PRODUCTS = "session.x64quantprecision"
_SHARED_WEIGHT = "Attempt to replace the existing tensor"


class PartOfGraph(Protocol):
    """A graph within that of a file."""

    @property
    def file(self) -> Path:
        """Return the file; its external data are in the same folder."""
        ...

    def content(self) -> bytes:
        """Return an ONNX model. Raises ModelLoadError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SharingGraph:
    """A graph whose sessions share one copy of its large tables."""

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
    # Not memory-mapped: truncating the file while it is in use would crash the process.
    count = math.prod(table.shape)
    values = np.fromfile(file, table.dtype, count, offset=table.offset)
    # It refers to the array.
    return ort.OrtValue.ortvalue_from_numpy(values.reshape(table.shape))


def open_exact(
    model: str | bytes, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    """Open a session whose integer products are exact.

    ONNX Runtime cannot do so for a graph in which two products share an int8 weight; such a graph
    is opened with the fast kernels, and a warning is logged.

    Raises:
        Exception: what onnxruntime raises for a graph that it cannot load.
    """
    options.add_session_config_entry(_EXACT_PRODUCTS, "1")
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        if _SHARED_WEIGHT not in str(error):
            raise
    _log.warning(
        "int8 products may saturate on this processor, which has no VNNI instructions: "
        "two of the graph's products share a weight"
    )
    options.add_session_config_entry(_EXACT_PRODUCTS, "0")
    return ort.InferenceSession(model, options, providers=providers)
