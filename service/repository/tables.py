"""A table of a file (TOML or JSON) as a frozen dataclass, or a sentence about why not.

The dataclasses are plain ones: code that uses them does not depend on pydantic.
"""

import json
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeAlias, TypeVar, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from service.errors import ModelLoadError


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return "; did you mean X?" for the known name nearest to this one, or "" if none is near."""
    plain = {_plain(candidate): candidate for candidate in known}
    nearest = get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return f"; did you mean {plain[nearest[0]]}?" if nearest else ""


def _plain(name: str) -> str:
    # Case and the kind of separator are the commonest mistakes: they must not count as distance.
    return name.lower().replace("-", "_").replace(".", "_")


T = TypeVar("T")
Place: TypeAlias = Sequence[str | int]
"""Keys and indices that lead to a value."""

_SAID = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
}
_SHOULD = re.compile(r"^(Input|Value|String|List|Tuple|Dictionary|Data) should")


def read_table(table: Mapping[str, Any], cls: type[T], where: str) -> T:
    """Return the table as an instance of a dataclass; types are taken strictly.

    Args:
        table: keys and values as the file holds them.
        cls: a dataclass; its fields are the known keys. A nested dataclass is a nested table.
        where: the file, and the table in it, for the error.

    Raises:
        ModelLoadError: a key is unknown or missing, or a value is not what it must be. The
            message names every such key, the reason, and the key nearest to a misspelt one.
    """
    problems = [
        f"{dotted(path)} is not a known key{did_you_mean(path[-1], known)}"
        for path, known in _unknown_keys(table, cls, ())
    ]
    try:
        text = json.dumps(table)
    except TypeError as error:
        raise ModelLoadError(f"{where}: {error}") from None
    try:
        # As JSON, so that strictness takes a list for a tuple, but no "1" and no true for 1.
        value: T = _adapter(cast(Hashable, cls)).validate_json(text, strict=True)
    except ValidationError as error:
        problems += sentences(error)
    if problems:
        raise ModelLoadError(f"{where}: {'; '.join(problems)}")
    return value


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    """Build the validator of a dataclass once: it takes 10 ms."""
    return TypeAdapter(cls)


def dotted(path: Place) -> str:
    """Return the place of a value as one would write it: `graphs.fp32`, `labels[3]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def sentences(error: ValidationError, name_of: Callable[[Place], str] = dotted) -> list[str]:
    """Return what is wrong, one sentence a problem, none of which repeats a value.

    Args:
        error: what pydantic raised.
        name_of: how to call the place of a value.
    """
    return [_sentence(problem, name_of) for problem in error.errors(include_url=False)]


def _sentence(problem: ErrorDetails, name_of: Callable[[Place], str]) -> str:
    declared = _SAID.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    place = [part for part in problem["loc"] if part != "[key]"]
    return f"{name_of(place)} {_SHOULD.sub('must', declared)}" if place else declared


def _unknown_keys(
    table: Mapping[str, Any], cls: type, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Collection[str]]]:
    known = [field.name for field in fields(cls)]
    types = get_type_hints(cls)
    for key, value in table.items():
        if key not in known:
            yield (*path, key), known
        elif is_dataclass(types[key]) and isinstance(value, Mapping):
            yield from _unknown_keys(value, types[key], (*path, key))
