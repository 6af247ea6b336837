"""Aliases of models: names for a version, or for several of which each has a share of the requests.

The alias `default` is what a request gets that names no version. Knows no loaded version.
"""

import hashlib
import json
import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from service.errors import ConflictError, InvalidInputError, ModelNotFoundError

DEFAULT = "default"
ALIAS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)

Weights: TypeAlias = Mapping[int, float]
"""Version -> weight, above 0; shares are in proportion."""

_MOST_ALIASES = 100
"""Of a model: they are listed in `/v1/models`."""
_MOST_VERSIONS = 10
_LARGEST_VERSION = 999_999_999


def parse_weights(text: str) -> Weights:
    """Return the weights of "2", or of "1:95+2:5".

    Raises:
        InvalidInputError: it is neither.
    """
    parts = [part.partition(":") for part in text.split("+")]
    try:
        weights = {
            int(version): float(weight) if colon else 1.0 for version, colon, weight in parts
        }
    except ValueError:
        raise InvalidInputError(f"{text[:100]!r} is no version, and not like 1:95+2:5") from None
    if len(weights) < len(parts):
        raise InvalidInputError(f"{text[:100]!r} names a version twice")
    return checked_weights(weights)


def checked_weights(weights: Weights) -> Weights:
    """Return weights without those that are 0. Raises InvalidInputError if they cannot be."""
    kept = {version: weight for version, weight in sorted(weights.items()) if weight != 0}
    if not kept or len(kept) > _MOST_VERSIONS:
        raise InvalidInputError(f"an alias stands for 1 to {_MOST_VERSIONS} versions")
    for version, weight in kept.items():
        if not (1 <= version <= _LARGEST_VERSION and 0 < weight <= _LARGEST_VERSION):
            raise InvalidInputError(f"version {version} cannot have the weight {weight:g}")
    return kept


def chosen(weights: Weights, key: str) -> int:
    """Return a version at random, in proportion to the weights; always the same for a key.

    The ranges lie in the order of the versions, so a key keeps its version while the weight of
    that version grows.
    """
    place = random.random()  # noqa: S311 - nothing secret
    if key:
        digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
        place = int.from_bytes(digest) / 2**64
    place *= sum(weights.values())
    for version, weight in weights.items():
        place -= weight
        if place < 0:
            return version
    return max(weights)


class Aliases:
    """The aliases of all models, kept in a file if one is given."""

    def __init__(
        self, configured: Mapping[str, str] | None = None, file: Path | None = None
    ) -> None:
        """Take the configured aliases, then those of the file, which win.

        Args:
            configured: "model@alias" -> "2" or "1:95+2:5".
            file: written at each change; it need not be there.

        Raises:
            InvalidInputError: an alias or the file cannot be read.
        """
        self._file = file
        self._aliases: dict[str, dict[str, Weights]] = {}
        for name, text in (configured or {}).items():
            model, _, alias = name.partition("@")
            self._put(model, alias, parse_weights(text))
        for model, aliases in self._kept().items():
            self._aliases[model] = {}
            for alias, weights in aliases.items():
                found = {int(version): float(weight) for version, weight in weights.items()}
                self._put(model, alias, checked_weights(found))

    def of(self, model: str) -> Mapping[str, Weights]:
        """Return the aliases of a model."""
        return self._aliases.get(model, {})

    def models(self) -> Mapping[str, Mapping[str, Weights]]:
        """Return the models that have aliases."""
        return self._aliases

    def named(self, model: str, alias: str) -> Weights:
        """Return what an alias stands for. Raises ModelNotFoundError."""
        known = self.of(model)
        if alias not in known:
            names = f"; it has {', '.join(sorted(known)[:10])}" if known else ""
            raise ModelNotFoundError(f"model {model!r} has no alias {alias[:64]!r}{names}")
        return known[alias]

    def default(self, model: str) -> Weights | None:
        """Return the versions of requests that name none; None if nothing was set."""
        return self.of(model).get(DEFAULT)

    def versions(self, model: str) -> frozenset[int]:
        """Return the versions that an alias stands for."""
        return frozenset(version for weights in self.of(model).values() for version in weights)

    def shares(self, model: str, version: int) -> Mapping[str, float]:
        """Return by alias the share of its requests that a version gets."""
        return {
            alias: weights[version] / sum(weights.values())
            for alias, weights in sorted(self.of(model).items())
            if version in weights
        }

    def changed(self, model: str, alias: str, weights: Weights | None) -> "Aliases":
        """Return a copy with one alias set, or removed where the weights are None.

        Raises:
            InvalidInputError: the name cannot be an alias, or there are too many.
        """
        copy = Aliases()
        copy._file = self._file
        copy._aliases = {name: dict(aliases) for name, aliases in self._aliases.items()}
        copy._aliases.setdefault(model, {}).pop(alias, None)
        if weights is not None:
            copy._put(model, alias, weights)
        return copy

    def save(self) -> None:
        """Write the file, whole or not at all. Raises ConflictError if it cannot be written."""
        if self._file is None:
            return
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}.new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as file:
                json.dump({"aliases": self._aliases}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._file)
        except OSError as error:
            raise ConflictError(f"models.state_file cannot be written: {error.strerror}") from None

    def _put(self, model: str, alias: str, weights: Weights) -> None:
        if not ALIAS_NAME.fullmatch(alias):
            raise InvalidInputError(
                f"{alias[:64]!r} cannot be an alias: a letter, then letters, digits, '.', '_', '-'"
            )
        aliases = self._aliases.setdefault(model, {})
        aliases[alias] = weights
        if len(aliases) > _MOST_ALIASES:
            raise InvalidInputError(f"a model has at most {_MOST_ALIASES} aliases")

    def _kept(self) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
        if self._file is None or not self._file.exists():
            return {}
        try:
            kept = json.loads(self._file.read_bytes())["aliases"]
            for aliases in kept.values():
                for weights in aliases.values():
                    checked_weights({int(v): float(weight) for v, weight in weights.items()})
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"models.state_file cannot be read: {error}") from None
        found: Mapping[str, Mapping[str, Mapping[str, Any]]] = kept
        return found
