"""The versions that serve: the default of each model, and others that aliases name."""

from collections.abc import Iterator

from service.errors import InvalidInputError, ModelNotFoundError, ModelNotReadyError
from service.registry.aliases import Aliases, chosen
from service.registry.loader import Loaded
from service.registry.status import VersionKey


class Versions:
    """The loaded versions, and which of them a request gets."""

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self.defaults: dict[str, Loaded] = {}
        """By model, the version that gets all or most of the requests that name none."""
        self.beside: dict[str, dict[int, Loaded]] = {}
        """By model, the other versions."""
        self.split: set[str] = set()
        """The models whose requests without a version go to several."""

    def __iter__(self) -> Iterator[Loaded]:
        """Return all versions that serve."""
        yield from self.defaults.values()
        for others in self.beside.values():
            yield from others.values()

    def at(self, key: VersionKey) -> Loaded | None:
        """Return a version, if it serves."""
        model, version = key
        default = self.defaults.get(model)
        if default is not None and default.files.version == version:
            return default
        return self.beside.get(model, {}).get(version)

    def of(self, model: str) -> dict[int, Loaded]:
        """Return the versions of a model that serve, by number."""
        found = dict(self.beside.get(model, {}))
        if (default := self.defaults.get(model)) is not None:
            found[default.files.version] = default
        return dict(sorted(found.items()))

    def choose(self, selector: str, version: int | None, key: str) -> Loaded | None:
        """Return the version for a request; None if no version of the model serves.

        Args:
            selector: a model, `model@alias` or `model@version`.
            version: which one; None means any.
            key: requests of the same key get the same version of several; "" is no key.

        Raises:
            InvalidInputError: the selector and `version` name two versions.
            ModelNotFoundError: this version does not serve, or there is no such alias.
            ModelNotReadyError: no version of the alias serves.
        """
        model, at, rest = selector.partition("@")
        serving = self.of(model)
        if not serving:
            return None
        if at and version is not None:
            raise InvalidInputError(f"{selector[:128]!r} and version {version} both name a version")
        if at and rest.isascii() and rest.isdigit():
            version = int(rest[:10])
        elif at:
            return self._of_alias(model, rest, serving, key)
        if version is None:
            return self._default(model, serving, key)
        if version not in serving:
            numbers = ", ".join(map(str, serving))
            what = f"version {numbers}" if len(serving) == 1 else f"versions {numbers}"
            raise ModelNotFoundError(f"model {model!r} serves {what}, not {version}")
        return serving[version]

    def _default(self, model: str, serving: dict[int, Loaded], key: str) -> Loaded:
        weights = self.aliases.default(model) or {}
        able = {version: weight for version, weight in weights.items() if version in serving}
        return serving[chosen(able, key)] if able else self.defaults[model]

    def _of_alias(self, model: str, alias: str, serving: dict[int, Loaded], key: str) -> Loaded:
        weights = self.aliases.named(model, alias)
        able = {version: weight for version, weight in weights.items() if version in serving}
        if not able:
            numbers = ", ".join(map(str, weights))
            raise ModelNotReadyError(f"model {model!r}: {alias} is version {numbers}, not loaded")
        return serving[chosen(able, key)]

    def put(self, loaded: Loaded) -> list[Loaded]:
        """Let a version serve; return those that no request gets any more.

        It becomes the default unless the alias `default` names others. A default that an alias
        names stays, next to the new one.
        """
        model, version = loaded.key
        replaced = self.at(loaded.key)
        default = self.defaults.get(model)
        if default is not None and (default is replaced or self.aliases.default(model) is None):
            self.defaults[model] = loaded
            self.beside.setdefault(model, {}).pop(version, None)
            if default is not replaced:
                self.add(default)
        elif default is not None:
            self.add(loaded)
        else:
            self.defaults[model] = loaded
        unnamed = self.settle(model)
        return unnamed if replaced is None else [replaced, *unnamed]

    def add(self, loaded: Loaded) -> None:
        """Let a version serve next to the default."""
        model, version = loaded.key
        self.beside.setdefault(model, {})[version] = loaded

    def settle(self, model: str) -> list[Loaded]:
        """Follow the aliases; return the versions that nothing names any more."""
        serving, weights = self.of(model), self.aliases.default(model)
        if not serving:
            return []
        able = [version for version in weights or {} if version in serving]
        best = max(able, key=lambda version: (weights or {})[version], default=None)
        if best is None:
            best = self.defaults[model].files.version if model in self.defaults else max(serving)
        named = self.aliases.versions(model) | {best}
        self.defaults[model] = serving.pop(best)
        self.beside[model] = {version: one for version, one in serving.items() if version in named}
        self.split.discard(model)
        if len(able) > 1:
            self.split.add(model)
        return [one for version, one in serving.items() if version not in named]

    def remove(self, model: str) -> list[Loaded]:
        """Let no version of a model serve; return those that did."""
        found = list(self.of(model).values())
        self.defaults.pop(model, None)
        self.beside.pop(model, None)
        self.split.discard(model)
        return found

    def clear(self) -> list[Loaded]:
        """Let no version serve; return those that did."""
        found = list(self)
        self.defaults.clear()
        self.beside.clear()
        self.split.clear()
        return found
