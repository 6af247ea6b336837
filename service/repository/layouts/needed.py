"""Which files of an export directory serving reads, by their names alone."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from service.errors import ModelLoadError
from service.repository.layouts.decoders import STEP_GRAPHS, TOKENIZER_FILES, unused_roles
from service.repository.layouts.exports import (
    MODULES,
    ROLES,
    TABLES,
    TABLES_OF_MODULE,
    graphs_by_role,
)
from service.repository.layouts.tokens import MERGES, VOCABULARIES
from service.repository.manifest import MANIFEST_NAME, PRECISIONS, Precision
from service.repository.paths import checkpoints, is_plain_path, other_format_of
from service.transforms.language.tokenizer_files import ADDED_TOKENS

READ_FIRST = frozenset({MANIFEST_NAME, MODULES, *TABLES})
"""What says which other files are needed."""

_TEXTS = frozenset(
    {"tokenizer.json", ADDED_TOKENS, MERGES, *VOCABULARIES, *TOKENIZER_FILES, *READ_FIRST}
)
_PROSE = ".md"
_GRAPH = ".onnx"


def graphs_by_precision(
    names: Collection[str], manifest: Mapping[str, Any]
) -> Mapping[Precision, Sequence[str]]:
    """Return the graphs that serving needs, by precision; only precisions that have them all.

    Args:
        names: the files of the directory.
        manifest: the table of its model.toml, empty without one.

    Raises:
        ModelLoadError: there are several graphs, and no name tells what they are.
    """
    declared = manifest.get("graphs")
    if isinstance(declared, Mapping):
        return {
            precision: [str(name) for name in declared[precision].values()]
            for precision in PRECISIONS
            if isinstance(declared.get(precision), Mapping)
        }
    graphs = graphs_by_role(names)
    known = graphs.keys() & {*ROLES, *STEP_GRAPHS}
    if len(graphs) > 1 and not known:
        several = ", ".join(sorted(name for files in graphs.values() for name in files.values()))
        raise ModelLoadError(f"there are several graphs ({several[:200]}), and no model.onnx")
    roles = sorted((known or graphs.keys()) - unused_roles(graphs))
    return {
        precision: [graphs[role][precision] for role in roles]
        for precision in PRECISIONS
        if roles and all(precision in graphs[role] for role in roles)
    }


def tables_of_modules(modules: Iterable[object]) -> Sequence[str]:
    """Return the names of the tables in the folders that a modules.json names."""
    paths = [step.get("path") for step in modules if isinstance(step, Mapping)]
    return [f"{path}/{table}" for path in paths if path for table in TABLES_OF_MODULE]


def texts_needed(names: Collection[str], has_manifest: bool) -> Sequence[str]:
    """Return the files at the top, besides graphs and their data, that serving may read.

    A model.toml may name any file, so with one all are needed but prose, checkpoints and what
    belongs to graphs.
    """
    if not has_manifest:
        return sorted(_TEXTS & set(names))
    graphs = [name for name in names if name.endswith(_GRAPH)]
    left_out = {*checkpoints(list(names)), *graphs}
    return sorted(
        name
        for name in names
        if name not in left_out
        and not name.endswith(_PROSE)
        and not any(name.startswith(graph) for graph in graphs)
    )


def plain_names(names: Iterable[str]) -> frozenset[str]:
    """Return the names that can be files of a version: no hidden ones, and none that lead out."""
    return frozenset(name for name in names if is_plain_path(name))


def what_else(names: Collection[str]) -> str:
    """Return a sentence about what is there in place of graphs, "" for nothing known."""
    return other_format_of(sorted(names)) or ""
