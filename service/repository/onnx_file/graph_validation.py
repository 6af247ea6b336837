"""Whether an ONNX file can be handed to ONNX Runtime, found out without loading it."""

import math
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.records import OnnxFile, StoredTensor
from service.repository.paths import file_inside

_MOST_AXES = 64
_DENSEST = 8
"""Values that one byte of a file can hold at most."""


def validate_graph(graph: Path, folder: Path, where: str) -> list[Path]:
    """Check a graph and return the files that hold its external data, each once, by name.

    Declared sizes of constants are compared with the bytes in the file and in external data.

    Args:
        graph: an ONNX file in the version's folder.
        folder: the version's folder, which the data must not leave.
        where: what names the graph, for the error.

    Raises:
        ModelLoadError: it cannot be read, has no outputs, names data outside the folder, or a
            constant is not of the size it says.
    """
    onnx = read_onnx(graph, where)
    files = _external_files(graph, onnx, folder, where)
    if not onnx.signature.outputs:
        raise ModelLoadError(f"{where}: {graph.name} has no outputs: copy or export it again")
    sizes: dict[str, int] = {}
    for tensor in onnx.tensors:
        problem = _problem(tensor)
        if problem is None and tensor.external is not None:
            problem = _external_problem(tensor, graph, sizes)
        if problem is not None:
            raise ModelLoadError(
                f"{where}: {graph.name}: the tensor {tensor.name[:100]!r} {problem}: "
                "copy or export it again"
            )
    return files


def external_files(graph: Path, folder: Path, where: str) -> list[Path]:
    """Return the files that hold a graph's external data, as `validate_graph` does.

    Raises:
        ModelLoadError: the graph cannot be read, or names data outside the folder.
    """
    return _external_files(graph, read_onnx(graph, where), folder, where)


def _external_files(graph: Path, onnx: OnnxFile, folder: Path, where: str) -> list[Path]:
    source = f"{where}: external data of {graph.name}"
    names = {location for tensor in onnx.tensors for location in tensor.locations}
    return [file_inside(name, graph.parent, folder, source) for name in sorted(names)]


def _problem(tensor: StoredTensor) -> str | None:
    """Return why a constant cannot be what it says it is, by this file alone."""
    if len(tensor.shape) > _MOST_AXES:
        return f"says it has {len(tensor.shape)} axes"
    if any(size < 0 for size in tensor.shape):
        return "has a negative size"
    if tensor.external is not None:
        return None
    raw = None if tensor.raw is None else tensor.raw.end - tensor.raw.start
    if raw is not None and tensor.size is not None and raw != tensor.size:
        return f"says it has {tensor.size} bytes, but there are {raw}"
    if raw is None and math.prod(tensor.shape) > _DENSEST * tensor.here:
        return f"says it has {math.prod(tensor.shape)} values in {tensor.here} bytes"
    return None


def _external_problem(tensor: StoredTensor, graph: Path, sizes: dict[str, int]) -> str | None:
    """Return why a tensor's values cannot be in another file; `sizes` keeps those of files."""
    external = tensor.external or {}
    name = external.get("location", "")
    offset = _whole(external.get("offset", "0"))
    if offset is None:
        return f"begins in {name} at an offset that is no whole number"
    length = tensor.size
    if "length" in external:
        length = _whole(external["length"])
        if length is None or tensor.size not in (None, length):
            return f"is said to have another number of bytes in {name} than its {tensor.size}"
    if name not in sizes:
        sizes[name] = (graph.parent / name).stat().st_size
    if offset + (length or 0) > sizes[name]:
        return (
            f"needs bytes {offset} to {offset + (length or 0)} of {name}, "
            f"which is cut short: it has {sizes[name]} bytes"
        )
    return None


def _whole(text: str) -> int | None:
    is_whole = text.isascii() and text.isdigit() and len(text) < 20  # noqa: PLR2004 - 64 bits
    return int(text) if is_whole else None
