"""Infers the manifest of an export directory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.errors import ModelLoadError
from service.repository.layouts import LAYOUTS, tensors
from service.repository.layouts.exports import CONFIG, ExportFiles, is_export, read_export
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown, fixed_batch
from service.repository.layouts.strangers import is_known_stranger, said_of
from service.repository.manifest import MANIFEST_NAME, Manifest, manifest_of, read_manifest_table
from service.repository.onnx_file.reader import read_signature
from service.repository.paths import checkpoints, file_inside
from service.repository.pull.record import narrowed
from service.tasks import Task

_WHOLE = frozenset({"graphs"})
"""Tables of model.toml that replace what was inferred, rather than being merged with it."""

_OF_GRAPHS = frozenset({"default_precision", "tolerance"})
"""Tables that name precisions; what the files tell of them is of the files' own graphs."""

_MOST = "batching.max_batch_size"

_NEEDED = ("task", "family", "graphs")
_FAMILIES_OF_GRAPHS = frozenset({tensors.FAMILY})
"""Families whose parameters the graph itself says."""
_SHORT_FORMS: Mapping[str, str] = {"processing": "image_size"}
"""Tables of parameters, and the key that stands in place of each."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """What a directory says of itself."""

    table: Mapping[str, Any]
    """With the keys of model.toml."""
    sources: Mapping[str, str]
    """By dotted key, the file that the value comes from and the key in it."""


@dataclass(frozen=True, slots=True)
class Description:
    """The manifest of a version, and where each of its values comes from."""

    manifest: Manifest
    sources: Mapping[str, str]


def infer(
    folder: Path, explicit: Mapping[str, Any] | None = None, root: Path | None = None
) -> Inferred:
    """Return what the files of a directory tell, as far as model.toml does not say it.

    Args:
        folder: the directory.
        explicit: the table of the directory's model.toml; its task and family choose the layout.
        root: what no link may lead out of; None means the directory itself.

    Raises:
        ModelLoadError: a file is broken, or the task or a key that the family needs cannot be
            inferred. The message says which key to add to model.toml.
    """
    explicit = {} if explicit is None else explicit
    files = read_export(folder, root)
    layout, source = _chosen(files, explicit)
    if layout is None:
        return Inferred({}, {})
    facts = [Fact("task", layout.task.value, source), Fact("family", layout.family, source)]
    unknown: list[Unknown] = []
    for finding in _findings(layout, files):
        if isinstance(finding, Fact):
            facts.append(finding)
        elif not _is_said(finding.key, explicit):
            unknown.append(finding)
    if unknown:
        raise ModelLoadError(
            "; ".join(f"{one.reason}: add {one.key} to {MANIFEST_NAME}" for one in unknown)
        )
    facts = [fact for fact in facts if not _is_said(fact.key, explicit)]
    return Inferred(_table(facts), {fact.key: fact.source for fact in facts})


def _findings(layout: Layout, files: ExportFiles) -> Sequence[Finding]:
    """Read a directory. Raises ModelLoadError, also for a value of an unexpected type."""
    try:
        return list(layout.read(files))
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        raise ModelLoadError(
            f"a value in {', '.join(sorted(files.tables))} cannot be what it is "
            f"({type(error).__name__}: {str(error)[:100]}): correct it, or say what it decides in "
            f"{MANIFEST_NAME}"
        ) from error


def describe(folder: Path, root: Path, where: str) -> Description:
    """Return the manifest of a version: what model.toml says, over what its files tell.

    Args:
        folder: the version's folder.
        root: what no link may lead out of.
        where: what the version is called, for the error.

    Raises:
        ModelLoadError: neither tells enough, or one of them tells what cannot be.
    """
    has_manifest = (folder / MANIFEST_NAME).exists()
    _refuse_checkpoint(folder, where)
    explicit: Mapping[str, Any] = {}
    if has_manifest or not is_export(folder):
        explicit = read_manifest_table(file_inside(MANIFEST_NAME, folder, root, where))
        explicit = narrowed(explicit, folder)
    inferred = Inferred({}, {})
    is_complete = explicit.keys() >= set(_NEEDED) and explicit["family"] not in _FAMILIES_OF_GRAPHS
    if not is_complete or (folder / CONFIG).exists():
        try:
            inferred = infer(folder, explicit, root)
        except ModelLoadError as error:
            raise ModelLoadError(f"{where}: {error}") from None
    sources = {**dict.fromkeys(_keys(explicit), MANIFEST_NAME), **inferred.sources}
    place = f"{where}/{MANIFEST_NAME}" if has_manifest else f"{where} (no {MANIFEST_NAME})"
    manifest = manifest_of(merged(inferred.table, explicit), place)
    return _with_fixed_batch(Description(manifest, sources), folder, root, where)


def _with_fixed_batch(inferred: Description, folder: Path, root: Path, where: str) -> Description:
    """Add the batch size of graphs that were exported for one, if nothing else says it.

    Raises:
        ModelLoadError: a graph takes batches of exactly another size.
    """
    manifest = inferred.manifest
    if manifest.task in (Task.TRANSLATE, Task.GENERATE, Task.INFER) or _MOST in inferred.sources:
        return inferred
    for precision, files in manifest.graphs.items():
        for name in files.values():
            try:
                signature = read_signature(file_inside(name, folder, root, f"graphs.{precision}"))
            except ModelLoadError:
                continue  # which opening or loading the version says
            try:
                found = list(fixed_batch(signature, name))
            except ModelLoadError as error:
                raise ModelLoadError(f"{where}: {error}") from None
            for fact in found:
                batching = replace(manifest.batching, max_batch_size=fact.value)
                sources = {**inferred.sources, fact.key: fact.source}
                return Description(replace(manifest, batching=batching), sources)
    return inferred


def _refuse_checkpoint(folder: Path, where: str) -> None:
    """Refuse a folder that holds weights, but no graph at all."""
    names = [path.relative_to(folder).as_posix() for path in folder.glob("**/*")]
    weights = checkpoints(names)
    if weights and not any(name.endswith(".onnx") for name in names):
        raise ModelLoadError(
            f"{where}: {weights[0]} is a checkpoint, which is never read here: export it to ONNX "
            "with python -m models.export"
        )


def merged(inferred: Mapping[str, Any], explicit: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return both tables in one; explicit values count, and tables within are merged likewise.

    Explicit `graphs` are all there are: a precision can be left out by not naming it.
    """
    both = dict(inferred) | dict(explicit)
    for key, value in explicit.items():
        inner = inferred.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and key not in _WHOLE:
            both[key] = merged(inner, value)
    return both


def _chosen(files: ExportFiles, explicit: Mapping[str, Any]) -> tuple[Layout | None, str]:
    """Return the first layout that knows the files, or the only one that fits them."""
    task, family = explicit.get("task"), explicit.get("family")
    parameters = explicit.get("parameters")
    given = parameters if isinstance(parameters, Mapping) else {}
    possible = [
        layout
        for layout in LAYOUTS
        if task in (None, layout.task.value)
        and family in (None, layout.family)
        and not layout.not_with & given.keys()
    ]
    for layout in possible:
        if source := layout.recognise(files):
            return layout, source
    says_all = explicit.keys() >= set(_NEEDED)
    if family is not None and possible and not (says_all and len(possible) > 1):
        return possible[0], MANIFEST_NAME
    if says_all:
        return None, MANIFEST_NAME
    # Of a family that is named, graphs are found by their names.
    missing = [
        key for key in _NEEDED if key not in explicit and not (key == "graphs" and files.graphs)
    ]
    if is_known_stranger(files) and not explicit:
        raise ModelLoadError(said_of(files))
    raw = f', or family = "{tensors.FAMILY}" to serve its tensors as they are'
    advice = f"add {', '.join(missing)} to {MANIFEST_NAME}{raw if files.graphs else ''}"
    raise ModelLoadError(f"{said_of(files)}: {advice}")


def _is_said(key: str, explicit: Mapping[str, Any]) -> bool:
    """Tell whether model.toml says this key, or all of the table that it is in."""
    first, _, rest = key.partition(".")
    if first in _OF_GRAPHS and "graphs" in explicit:
        return True
    if _SHORT_FORMS.get(first) in explicit:
        return True
    if first not in explicit:
        return False
    inner = explicit[first]
    if not rest or first in _WHOLE or not isinstance(inner, Mapping):
        return True
    return _is_said(rest, inner)


def _table(facts: Sequence[Fact]) -> Mapping[str, Any]:
    table: dict[str, Any] = {}
    for fact in facts:
        *above, last = fact.key.split(".")
        inner = table
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = fact.value
    return table


def _keys(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of a model.toml as facts have them: a table within a table is one value."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield key
