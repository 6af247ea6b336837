"""What a layout finds out about a directory: facts, each with its source, and what is unknown.

Also what several layouts read from the header of a graph.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from service.errors import ModelLoadError
from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.manifest import PRECISIONS, Precision
from service.repository.onnx_file.records import GraphSignature
from service.tasks import Task
from service.types import TensorSpec

DEFAULT_PRECISIONS: Final[Mapping[str, Precision]] = {"cuda": "fp16"}
"""What a directory's graphs are served in, where they are there, by device. Elsewhere the first of
PRECISIONS is: fp32 answers as the original does."""


@dataclass(frozen=True, slots=True)
class Fact:
    """The value of one key of model.toml, and where it was found."""

    key: str
    """Dotted, such as `parameters.max_length`."""
    value: Any
    """As TOML would give it: tables as dicts, lists as lists; a dict is one value."""
    source: str
    """The file and the key in it: `config.json: id2label`."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A key that the family needs and the directory does not tell: model.toml must."""

    key: str
    reason: str
    """Why not, to stand before "add KEY to model.toml"."""


Finding: TypeAlias = Fact | Unknown


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of directory: how to know it, and what to read from it."""

    task: Task
    family: str
    recognise: Callable[[ExportFiles], str | None]
    """Returns by what it is known (`config.json: architectures`), or None if it is another."""
    read: Callable[[ExportFiles], Iterator[Finding]]
    """Yields everything but task and family. Raises ModelLoadError for what cannot be served."""
    not_with: frozenset[str] = frozenset()
    """Keys of `[parameters]` that say that the model is of another kind."""


def graph_facts(files: ExportFiles, sessions: Mapping[str, str]) -> Iterator[Finding]:
    """Tell the graphs of every precision that has them all, and each device's default.

    Args:
        files: the directory.
        sessions: the role of the graph by the name that the family gives its session.
    """
    found = [
        precision
        for precision in PRECISIONS
        if all(precision in files.graphs.get(role, {}) for role in sessions.values())
    ]
    for precision in found:
        names = {session: files.graphs[role][precision] for session, role in sessions.items()}
        yield Fact(f"graphs.{precision}", names, ", ".join(names.values()))
    if not found:
        wanted = " and ".join(f"{role}.onnx" for role in sessions.values())
        yield Unknown("graphs", f"there is no {wanted}, at the top or under onnx/")
    for device, precision in DEFAULT_PRECISIONS.items():
        if precision in found:
            yield Fact(f"default_precision.{device}", precision, "the graphs there are")


_RANK = 4
"""Axes of an input that takes images; an input for one image may lack the first."""
_CHANNELS = 3
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
    shapes = [spec.shape for spec in signature.inputs.values() if len(spec.shape) > 1]
    fixed = {shape[0] for shape in shapes} - {None}
    is_one_image = [len(shape) for shape in shapes] == [_RANK - 1] and fixed == {_CHANNELS}
    if fixed == {1} or is_one_image:
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
