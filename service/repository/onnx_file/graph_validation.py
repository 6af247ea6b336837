"""Whether an ONNX graph can be handed to ONNX Runtime: found out without loading it."""

from pathlib import Path

from service.errors import ModelLoadError
from service.repository.onnx_file.signature import read_signature
from service.repository.onnx_file.tensors import StoredTensor, mapped, tensors


def refuse_unsound(graph: Path, where: str) -> None:
    """Compare what a graph says of its constants with the bytes there are, here and beside it.

    Args:
        graph: an ONNX file; that its external data is in the folder was checked before.
        where: who names the graph, for the error.

    Raises:
        ModelLoadError: it has no graph, or a constant is not of the size it says.
    """
    try:
        outputs = read_signature(graph).outputs
    except ModelLoadError as error:
        raise ModelLoadError(f"{where}: {error}") from None
    if not outputs:
        raise ModelLoadError(f"{where}: {graph.name} has no outputs: copy or export it again")
    sizes: dict[str, int] = {}
    with mapped(graph, where) as content:
        for tensor in tensors(content):
            problem = tensor.problem()
            if problem is None and tensor.is_external:
                problem = _external_problem(tensor, graph, sizes)
            if problem is not None:
                raise ModelLoadError(
                    f"{where}: {graph.name}: the tensor {tensor.name[:100]!r} {problem}: "
                    "copy or export it again"
                )


def _external_problem(tensor: StoredTensor, graph: Path, sizes: dict[str, int]) -> str | None:
    """Return why a tensor's values cannot be in another file; `sizes` keeps those of files."""
    name = tensor.external.get(b"location", b"").decode("utf-8")
    offset = _whole(tensor.external.get(b"offset", b"0"))
    if offset is None:
        return f"begins in {name} at an offset that is no whole number"
    length = tensor.size
    if b"length" in tensor.external:
        length = _whole(tensor.external[b"length"])
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


def _whole(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) < 20 else None  # noqa: PLR2004 - of 64 bits
