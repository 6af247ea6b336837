"""A registry whose changes every process makes."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from service.errors import ConflictError, ModelNotFoundError, ServiceError, ShuttingDownError
from service.processes.worker import Worker
from service.registry.aliases import Weights
from service.registry.registry import FirstLoad, Registry
from service.registry.status import VersionStatus
from service.registry.wanted import RegistryOptions, Repository, VersionLoader

Operation: TypeAlias = Sequence[Any]
"""`load` with model, version and precision; `unload` with a model; `alias` with model, alias and
weights."""


class SharedRegistry(Registry):
    """Makes each change first in this process, then in all others.

    A process that starts later gets the state of the others.
    """

    def __init__(
        self,
        worker: Worker,
        repository: Repository,
        loader: VersionLoader,
        options: RegistryOptions,
    ) -> None:
        super().__init__(repository, loader, options)
        self._worker = worker
        self._unloaded: set[str] = set((worker.state or {}).get("unloaded", ()))
        worker.change = self._apply

    def not_ready(self) -> Mapping[str, str]:
        """Return the wanted models that cannot answer here, or are not loaded elsewhere yet."""
        reasons = super().not_ready()
        if reasons or self._worker.board.is_complete:
            return reasons
        return dict.fromkeys(self._serving, "another process is loading it")

    async def load(
        self, model: str, version: int | None = None, precision: str | None = None
    ) -> VersionStatus:
        """Load a version in all processes; see `Registry.load`.

        Raises:
            ConflictError: also if another process could not load it.
        """
        async with self._changing(model):
            status = await super().load(model, version, precision)
            self._unloaded.discard(model)
            await self._share("load", model, status.version, status.precision)
        return status

    async def unload(self, model: str) -> None:
        """Unload a model in all processes, also while it is being loaded; see `Registry.unload`.

        Raises:
            ConflictError: also if another process could not unload it.
        """
        refused: ServiceError | None = None
        try:
            await super().unload(model)
        except (ModelNotFoundError, ShuttingDownError):
            raise
        except ServiceError as error:
            refused = error
        if refused is None or isinstance(refused, ConflictError):  # it is unloaded here
            self._unloaded.add(model)
            await self._share("unload", model)
        if refused is not None:
            raise refused

    async def set_alias(self, model: str, alias: str, weights: Weights | None) -> None:
        """Let an alias name versions in all processes; see `Registry.set_alias`.

        Raises:
            ConflictError: also if another process could not follow.
        """
        async with self._changing(model):
            await super().set_alias(model, alias, weights)
            await self._share("alias", model, alias, weights)

    def _first_loads(self, models: Sequence[str]) -> Iterable[FirstLoad]:
        state = self._worker.state
        if state is None:
            return super()._first_loads(models)
        serving: Mapping[str, Sequence[Any]] = state["serving"]
        for model in self._unloaded:
            self._on_demand.withdraw(model)
            self._statuses.withdraw(model)
        for model in self._unloaded.intersection(models):
            self._readiness.note_unloaded(model)
        left = [one for one in models if one not in serving and one not in self._unloaded]
        return [
            *((model, version, precision) for model, (version, precision) in serving.items()),
            *super()._first_loads(left),
        ]

    async def _load_all(self, wanted: Sequence[str], models: Sequence[str]) -> None:
        await super()._load_all(wanted, models)
        self._worker.send("loaded", state=self._state())

    def _state(self) -> Mapping[str, Any]:
        """Return what a process must load that starts from now on."""
        aliases = self._versions.aliases.models()
        return {
            "serving": {
                model: (loaded.files.version, loaded.files.precision)
                for model, loaded in self._serving.items()
            },
            "unloaded": sorted(self._unloaded),
            "aliases": {
                f"{model}@{alias}": "+".join(f"{v}:{w}" for v, w in weights.items())
                for model, named in aliases.items()
                for alias, weights in named.items()
            },
        }

    @asynccontextmanager
    async def _changing(self, model: str) -> AsyncIterator[None]:
        """Let no other process change the model meanwhile."""
        try:
            answer = await self._worker.ask("begin", model=model)
        except ConnectionError as error:
            raise ShuttingDownError(str(error)) from None
        if not answer["granted"]:
            raise ConflictError(f"a load of {model!r} is already running")
        try:
            yield
        finally:
            self._worker.send("end", model=model)

    async def _share(self, *operation: Any) -> None:
        """Have the other processes make a change. Raises ConflictError if one could not."""
        try:
            answer = await self._worker.ask("change", operation=operation, state=self._state())
        except ConnectionError as error:
            raise ShuttingDownError(str(error)) from None
        if failures := answer["failures"]:
            reasons = "; ".join(f"process {number}: {why}" for number, why in failures.items())
            raise ConflictError(f"this process has made the change, but not all others: {reasons}")

    async def _apply(self, operation: Operation) -> None:
        """Make a change that another process has made."""
        if self._start is not None:
            await asyncio.wait([self._start])
        match operation:
            case ["load", model, version, precision]:
                self._unloaded.discard(model)
                await super().load(model, version, precision)
            case ["unload", model]:
                self._unloaded.add(model)
                await super().unload(model)
            case ["alias", model, alias, weights]:
                named = weights and {int(version): weight for version, weight in weights.items()}
                await super().set_alias(model, alias, named)
