"""The reference page of `model.toml`: every key, from the dataclasses that read it."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from service.families import FAMILIES
from service.repository.manifest import Manifest

_HEAD = """# model.toml

`.venv/bin/python -m service manifest` generates this page; a test keeps it up to date.

A version's folder may hold a `model.toml`. Most export directories need none: their own files
provide its values, and `model.toml` overrides them key by key ([layouts.md](layouts.md)). Unknown
keys are refused, with the closest known key; so are values of another type. "required" means that
the key has no default and must be set unless the files of an export provide it.
`.venv/bin/python -m service models check NAME` shows where each value of a model comes from.

```toml
task = "classify"
family = "text_classifier"
description = "Four topics of news"
default_precision = "int8"

[graphs.fp32]
model = "model.onnx"
[graphs.int8]
model = "model_int8.onnx"

[tolerance]
int8 = 0.05

[batching]
max_batch_size = 64

[parameters]
tokenizer = "tokenizer.json"
labels = ["world", "sports", "business", "technology"]
max_length = 128
pad_id = 0
```

A graph is named in `[graphs.PRECISION]` by its role: `model`; `text` and `image` for the towers of
a `dual_encoder`; `encoder`, `decoder` and `decoder_with_past` for those of an `encoder_decoder`
or a `generator`; `encoder`, `join`, `step` and `move` for those of an `encoder_decoder_steps` or a
`generator_steps`.
Without `[graphs]` they are found by their file names. Heads of detectors, with a manifest for each
kind of model, are in [detector-heads.md](detector-heads.md)."""

_TABLE_HEAD = ("| key | type | default | meaning |", "| --- | --- | --- | --- |")

_WORDS: Final[Mapping[Any, str]] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true`, `false`",
    Any: "any",
}

_NAMES: Final[Mapping[str, str]] = {
    "Processing": "parameters.processing",
    "Head": "parameters.head",
    "Batching": "batching",
}
"""Tables that have a section of their own, by their dataclass."""


class Key(NamedTuple):
    """One key of a table, as the page lists it."""

    name: str
    type: str
    default: str
    meaning: str


def manifest_page() -> str:
    """Return the reference of `model.toml` as Markdown, for `docs/manifest.md`."""
    lines = [_HEAD, *_section("The file", Manifest)]
    within: dict[str, type] = {}
    _note_tables(Manifest, within)
    for name, entry in FAMILIES.items():
        title = f"[parameters] of {name}"
        lines += _section(title, entry.parameters, f"Task: {entry.task.value}.")
        _note_tables(entry.parameters, within)
    for name, table in within.items():
        lines += _section(f"[{name}]", table)
    return "\n".join(lines) + "\n"


def keys_of(table: type) -> Iterator[Key]:
    """Yield the keys of a dataclass that reads a table."""
    types, meanings = hints_of(table, include_extras=True), _meanings(table)
    for field in fields(table):
        meaning = meanings.get(field.name, "").replace("|", "\\|")
        yield Key(field.name, _type(types[field.name]), _default(field), meaning)


def _section(title: str, table: type, documentation: str = "") -> Iterator[str]:
    yield f"\n## {title}\n"
    if documentation:
        yield f"{documentation}\n"
    yield from _TABLE_HEAD
    for key in sorted(keys_of(table), key=lambda key: key.default != "required"):
        cells = (f"`{key.name}`", key.type.replace("|", "\\|"), key.default, key.meaning)
        yield f"| {' | '.join(cells)} |"


def _note_tables(table: type, within: dict[str, type]) -> None:
    """Collect the tables in a table, by the name of their section."""
    for field, hint in hints_of(table).items():
        for one in (hint, *get_args(hint)):
            if is_dataclass(one) and isinstance(one, type):
                name = _NAMES.get(one.__name__, f"parameters.{field}")
                within.setdefault(name, one)


def _meanings(table: type) -> Mapping[str, str]:
    """Return what the source says under each field, in one line."""
    documentation: dict[str, str] = {}
    for cls in reversed(table.__mro__):
        if not is_dataclass(cls):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        if isinstance(tree, ast.ClassDef):
            documentation.update(_documented(tree.body))
    return documentation


def _documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str]]:
    for one, after in pairwise(body):
        if not (isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield one.target.id, " ".join(str(after.value.value).split())


def _type(hint: Any) -> str:
    """Return what TOML holds for a type."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _type(inside[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inside if one is not NoneType))
    if origin is Literal or (isinstance(hint, type) and issubclass(hint, Enum)):
        values = inside or [one.value for one in hint]
        return ", ".join(f'`"{value}"`' for value in values)
    if origin is tuple and inside[1:] != (...,):
        return f"[{', '.join(map(_type, inside))}]"
    if origin is not None:
        return (
            f"{'list' if origin is tuple else 'table'} of {_type(inside[-(origin is not tuple)])}"
        )
    return "table" if is_dataclass(hint) else _WORDS.get(hint, "text")


def _default(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default
    if value is None or value is MISSING or value in ((), {}, ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{json.dumps(value, ensure_ascii=False)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
