"""The keys file: TOML with one table per client, and a new key for it."""

import re
import secrets
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field

from service.access.key import DAY, MICROSECONDS, MINUTE, Key, Limit, rate
from service.errors import ModelLoadError
from service.repository.tables import did_you_mean, read_table
from service.tasks import ComposedTask, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What a client may be called. The name is a label of metrics."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = "quartet_"
_KEY_BYTES = 32
_MEGAPIXEL = 1_000_000

_Count: TypeAlias = Annotated[int, Field(ge=1, le=10**15)]
_Megapixels: TypeAlias = Annotated[float, Field(ge=0.001, le=10**9, allow_inf_nan=False)]


class KeysFileError(ValueError):
    """The keys file cannot be used; the message says which entry and why."""


@dataclass(frozen=True, slots=True)
class _Entry:
    sha256: str | tuple[str, ...]
    models: tuple[str, ...] | None = None
    tasks: tuple[Task | ComposedTask, ...] | None = None
    admin: bool = False
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    requests_per_second: Annotated[float, Field(ge=0.001, le=MICROSECONDS)] | None = None
    burst: Annotated[int, Field(ge=1, le=MICROSECONDS)] | None = None
    items_per_minute: _Count | None = None
    items_per_day: _Count | None = None
    characters_per_minute: _Count | None = None
    characters_per_day: _Count | None = None
    megapixels_per_minute: _Megapixels | None = None
    megapixels_per_day: _Megapixels | None = None


def parse_keys(text: str) -> Sequence[Key]:
    """Return the entries of a keys file.

    Raises:
        KeysFileError: it is not TOML, has no entry, or an entry is not valid.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise KeysFileError(f"it is not valid TOML: {error}") from None
    tables = document.pop("keys", None)
    if document:
        unknown = next(iter(document))
        raise KeysFileError(f"{unknown!r} is not a known table{did_you_mean(unknown, ['keys'])}")
    if not isinstance(tables, Mapping) or not tables:
        raise KeysFileError("it has no entry; each is a table [keys.NAME]")
    keys = [_key(name, table) for name, table in tables.items()]
    owners: dict[bytes, str] = {}
    for key in keys:
        for digest in key.digests:
            other = owners.setdefault(digest, key.name)
            if other != key.name:
                raise KeysFileError(f"keys.{key.name} and keys.{other} have the same sha256")
    return keys


def read_keys(file: Path) -> Sequence[Key]:
    """Return the entries of a keys file. Raises KeysFileError."""
    try:
        return parse_keys(file.read_text(encoding="utf-8"))
    except KeysFileError as error:
        raise KeysFileError(f"{file}: {error}") from None
    except (OSError, ValueError) as error:
        raise KeysFileError(f"{file} cannot be read: {error}") from None


def refuse_known(name: str, file: Path) -> None:
    """Raise KeysFileError if a keys file has an entry of this name, or cannot be read."""
    if name in {key.name for key in read_keys(file)}:
        raise KeysFileError(f"{file} has keys.{name} already; its sha256 may be a list of several")


def digest_of(key: bytes) -> bytes:
    """Return the SHA-256 of a key. Keys are long and random, so a slow hash would add nothing."""
    return sha256(key).digest()


def new_key(name: str) -> tuple[str, str]:
    """Return a new random key, and the lines to add to the keys file.

    Raises:
        KeysFileError: a client cannot have this name.
    """
    _check_name(name)
    key = _PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"'


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise KeysFileError(
            f"{name[:64]!r} cannot be the name of a key: use at most 64 letters, digits, dashes "
            "and underscores, beginning with a letter or a digit"
        )


def _key(name: str, table: Any) -> Key:
    _check_name(name)
    where = f"keys.{name}"
    if not isinstance(table, Mapping):
        raise KeysFileError(f"{where} must be a table")
    try:
        entry = read_table(table, _Entry, where)
    except ModelLoadError as error:
        raise KeysFileError(str(error)) from None
    digests = (entry.sha256,) if isinstance(entry.sha256, str) else entry.sha256
    if not digests or not all(_DIGEST.fullmatch(digest) for digest in digests):
        raise KeysFileError(f"{where}: sha256 must be 64 lower-case hexadecimal digits, or a list")
    if entry.burst is not None and entry.requests_per_second is None:
        raise KeysFileError(f"{where}: burst needs requests_per_second")
    return Key(
        name,
        tuple(bytes.fromhex(digest) for digest in digests),
        None if entry.models is None else frozenset(entry.models),
        None if entry.tasks is None else frozenset(entry.tasks),
        entry.admin,
        entry.weight,
        tuple(_limits(entry)),
    )


def _limits(entry: _Entry) -> Iterator[Limit]:
    if (per_second := entry.requests_per_second) is not None:
        yield rate(per_second, entry.burst or max(1, ceil(per_second)))
    for unit, most, seconds in (
        ("items", entry.items_per_minute, MINUTE),
        ("items", entry.items_per_day, DAY),
        ("characters", entry.characters_per_minute, MINUTE),
        ("characters", entry.characters_per_day, DAY),
        ("pixels", _pixels(entry.megapixels_per_minute), MINUTE),
        ("pixels", _pixels(entry.megapixels_per_day), DAY),
    ):
        if most is not None:
            yield Limit(unit, most, seconds)  # type: ignore[arg-type]


def _pixels(megapixels: float | None) -> int | None:
    return None if megapixels is None else round(megapixels * _MEGAPIXEL)
