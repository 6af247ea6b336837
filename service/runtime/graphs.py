"""What a session is opened from, and how: a graph, and the constants that sessions share."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnxruntime as ort

from service.errors import ModelLoadError
from service.types import StoredTable

_log = logging.getLogger(__name__)

# Without VNNI instructions, ONNX Runtime's fast product of uint8 by int8 adds pairs in 16 bits and
# saturates, with no warning: on an AVX2 machine sums came out up to 84 % too small. With this entry
# it uses an exact kernel, which takes 2.5 times as long where the fast one is exact, too.
_EXACT_PRODUCTS = "session.x64quantprecision"
_WEIGHTS = b"\x7f" * 192
_PRODUCT = (
    b'\x08\x08:\x96\x02\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01g*\xcc\x01\x08@\x08\x03\x10\x03'
    b"B\x01bJ\xc0\x01"
    + _WEIGHTS
    + b"Z\x13\n\x01a\x12\x0e\n\x0c\x08\x02\x12\x08\n\x02\x08\x02\n\x02\x08@"
    b"b\x13\n\x01y\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x02\n\x02\x08\x03B\x04\n\x00\x10\r"
)
"""An ONNX model: a [2, 64] of uint8 by 127 everywhere, [64, 3] of int8."""
# What ONNX Runtime says of graphs that it cannot convert for the exact kernel: two products share a
# weight, or a convolution has int8 activations.
_CANNOT_CONVERT = ("Attempt to replace the existing tensor", "Failed to find kernel for")


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


@cache
def fast_products_are_exact() -> bool:
    """Compute a product whose pairs exceed 16 bits; tell whether this processor gets it right."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    of_cpu = ort.get_available_providers()[-1:]  # they are in order of preference
    session = ort.InferenceSession(_PRODUCT, options, providers=of_cpu)
    (product,) = session.run(None, {"a": np.full((2, 64), 255, np.uint8)})
    return bool((product == 255 * 127 * 64).all())


def open_exact(
    model: str | bytes, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    """Open a session whose integer products are exact.

    Where the fast kernels are not exact, ONNX Runtime cannot convert every graph for the exact one.
    Such a graph is opened with the fast kernels, and a warning is logged.

    Raises:
        Exception: what onnxruntime raises for a graph that it cannot load.
    """
    if fast_products_are_exact():
        return ort.InferenceSession(model, options, providers=providers)
    options.add_session_config_entry(_EXACT_PRODUCTS, "1")
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        if not any(said in str(error) for said in _CANNOT_CONVERT):
            raise
    options.add_session_config_entry(_EXACT_PRODUCTS, "0")
    session = ort.InferenceSession(model, options, providers=providers)
    _log.warning(
        "int8 products may saturate on this processor, which has no VNNI instructions: two of the "
        "graph's products share a weight, or one of its convolutions has int8 activations"
    )
    return session
