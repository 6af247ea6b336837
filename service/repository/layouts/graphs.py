"""What a graph's own header says that a layout needs: sizes that are fixed, and metadata."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.errors import ModelLoadError
from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import Fact
from service.repository.onnx_file.records import GraphSignature
from service.types import TensorSpec

_RANK = 4
_LONGEST = 1 << 20
"""Of a literal, in characters: ten thousand names are about 250,000."""


def pixel_spec(signature: GraphSignature) -> TensorSpec | None:
    """Return the input that takes images, the only one of four axes; None if there is none."""
    found = [spec for spec in signature.inputs.values() if len(spec.shape) == _RANK]
    return found[0] if len(found) == 1 else None


def fixed_batch(signature: GraphSignature, name: str) -> Iterator[Fact]:
    """Tell the batch size of a graph that was exported for a batch of one.

    Args:
        signature: of the graph.
        name: of its file.

    Raises:
        ModelLoadError: it was exported for several at once, which no single image fills.
    """
    # An input of one axis, such as a flag, has no batch.
    rows = {spec.shape[0] for spec in signature.inputs.values() if len(spec.shape) > 1}
    fixed = rows - {None}
    if fixed == {1}:
        yield Fact("batching.max_batch_size", 1, f"{name}: its inputs' shape")
    elif fixed:
        raise ModelLoadError(
            f"{name} takes batches of exactly {max(filter(None, fixed))}: "
            "export it with a dynamic batch axis"
        )


def graph_name(files: ExportFiles, role: str = MODEL_ROLE) -> str:
    """Return the file name of a role's graph, for a fact's source."""
    return next(iter(files.graphs.get(role, {}).values()), f"{role}.onnx")


def literal(text: str) -> Any:
    """Return what a Python literal in a graph's metadata stands for; None if it is none."""
    if len(text) > _LONGEST:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def names_in(metadata: Mapping[str, str]) -> Sequence[str] | None:
    """Return the class names that YOLO's exporters write, in the order of the head's scores."""
    named = literal(metadata.get("names", ""))
    if isinstance(named, (list, tuple)):
        return [str(name) for name in named] or None
    if not isinstance(named, dict) or not all(isinstance(number, int) for number in named):
        return None
    if set(named) != set(range(len(named))):
        return None
    return [str(named[number]) for number in range(len(named))]
