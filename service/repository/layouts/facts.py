"""What a layout finds out about a directory: facts, each with its source, and what is unknown."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from service.repository.layouts.exports import ExportFiles
from service.repository.manifest import PRECISIONS
from service.tasks import Task


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
    # On a CPU the first of PRECISIONS: fp32 answers as the original does, and int8 that
    # Optimum makes by default depends on its neighbours in the batch.
    if "fp16" in found:
        yield Fact("default_precision.cuda", "fp16", "the graphs there are")
