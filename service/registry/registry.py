"""The models this process serves. Knows nothing of HTTP."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, TypeAlias

from service.errors import ConflictError, ModelNotFoundError, ModelNotReadyError, ServiceError
from service.registry.aliases import Aliases, Weights
from service.registry.budget import MemoryBudget
from service.registry.changes import Changes
from service.registry.lifecycle import Attempts, Draining, close
from service.registry.loader import Loaded
from service.registry.on_demand import OnDemand
from service.registry.status import (
    VersionKey,
    VersionStatus,
    offered,
    publish_limits,
    unusable,
    with_statistics,
)
from service.registry.statuses import Statuses
from service.registry.versions import Versions
from service.registry.wanted import (
    Defaults,
    Readiness,
    RegistryOptions,
    Repository,
    VersionLoader,
    default_not_ready,
    manifests_on_disk,
    phrase,
)
from service.registry.workflows import Workflows
from service.repository.listing import Listing
from service.requests.pipeline import Pipeline
from service.tasks import ComposedTask, Task

_log = logging.getLogger(__name__)

FirstLoad: TypeAlias = tuple[str, int | None, str | None]
"""A model to load at start, its version and precision; None for what the settings say."""


class Registry:
    """Models by name, with the versions that answer; others may be loading or draining."""

    def __init__(
        self, repository: Repository, loader: VersionLoader, options: RegistryOptions
    ) -> None:
        self._repository, self._loader, self._options = repository, loader, options
        self._listing = Listing(repository)
        self.workflows = Workflows(self._listing.workflows, self)
        self._defaults = Defaults(options.defaults)
        self._statuses = Statuses()
        self._draining = Draining(options.drain_seconds)
        self._versions = Versions(options.aliases or Aliases())
        self._budget = MemoryBudget(options.memory_bytes, options.resident, self._versions)
        self._attempts = Attempts(
            repository, loader, options, self._statuses, self._draining, self._budget
        )
        self._serving = self._versions.defaults
        self._readiness = Readiness(self._defaults.configured.values())
        self._changes = Changes(
            self._versions, self._attempts, self._draining, self._statuses, self._readiness
        )
        self._changes.on_ready = self._note_ready
        self._on_demand = OnDemand(self._changes, self._versions, self._budget)
        self._budget.evict = self._changes.evict
        self._budget.is_changing = self._changes.loading.__contains__
        self._statuses.is_on_demand = self._on_demand.has
        self._uses = count(1)
        self._start: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Registry {len(self._serving)} serving, {len(self._changes.loading)} loading>"

    def start(self) -> None:
        """Begin to load every wanted model, some at the same time; returns at once.

        Versions that aliases name follow the default of their model.

        Raises:
            ModelNotFoundError: a model named in the options is not in the repository.
            ModelLoadError: the repository's folder cannot be read.
        """
        present = self._listing.read()
        wanted = present if self._options.models is None else list(self._options.models)
        known = {*present, *self._listing.unusable()}
        options = self._options
        at_start = wanted if not options.memory_bytes else options.resident
        for model in (*wanted, *at_start, *self._defaults.configured.values()):
            if model not in known:
                raise ModelNotFoundError(f"the repository has no model {model!r}")
        for folder, reason in self._listing.unusable().items():
            _log.warning("folder not served", extra={"folder": folder, "reason": reason})
        self._readiness.want(at_start, () if at_start is wanted else wanted)
        loads = self._load_all([*dict.fromkeys([*wanted, *at_start])], at_start)
        self._start = asyncio.get_running_loop().create_task(loads)

    async def stop(self, grace: float) -> None:
        """Give accepted items `grace` seconds, then stop every model."""
        self._attempts.are_refused = True
        await self._listing.stop()
        await self._on_demand.stop()
        if self._start is not None:
            self._start.cancel()
            await asyncio.wait([self._start])
        serving = self._versions.clear()
        closings = (close(loaded, grace) for loaded in serving)
        await asyncio.gather(self._draining.stop(grace), *closings)

    def find(
        self,
        task: Task | ComposedTask,
        modality: str,
        model: str | None,
        version: int | None,
        key: str = "",
    ) -> Pipeline[Any, Any]:
        """Return the pipeline for a request.

        Args:
            task: what is asked.
            modality: of the item.
            model: `name`, `name@alias` or `name@version`; None means the default of the task.
            version: which one; None means any.
            key: requests of the same key get the same of several versions; "" is no key.

        Raises:
            ModelNotFoundError: nothing of this name, version, task and modality.
            ModelRequiredError: no model is named, several could answer, and none is the default.
            ModelNotReadyError: it exists, but is not loaded (yet, or any more).
            NotResidentError: it is not in memory; the error loads it.
        """
        ability = (task, modality)
        name = model or self._defaults.models.get(ability)
        if name is None:
            raise self._defaults.absent(ability)
        if name not in self._serving:
            if self._on_demand.has(name):
                self._on_demand.check(name, ability)
            elif model is None:
                reason = self._readiness.reasons.get(name, "it is not loaded")
                raise default_not_ready(name, ability, reason)
        pipeline = self.named(name, version, key)
        if ability not in pipeline.abilities:
            able = ", ".join(sorted(map(phrase, pipeline.abilities)))
            raise ModelNotFoundError(f"model {name!r} cannot {phrase(ability)}; it can {able}")
        return pipeline

    def named(self, model: str, version: int | None = None, key: str = "") -> Pipeline[Any, Any]:
        """Return the pipeline of a model, whatever its task is; the arguments are those of `find`.

        Raises:
            ModelNotFoundError: nothing of this name and version.
            ModelNotReadyError: it exists, but is not loaded (yet, or any more).
        """
        loaded = self._serving.get(model)
        if loaded is None or version is not None or model in self._versions.split:
            loaded = self._versions.choose(model, version, key)
        if loaded is None:
            raise self._absent(model.partition("@")[0])
        loaded.used = next(self._uses)
        return loaded.pipeline

    def task_of(self, model: str) -> Task | None:
        """Return the task of a model, or of an alias of it; None if it does not serve."""
        name = model.partition("@")[0]
        loaded = self._serving.get(name)
        return self._on_demand.task_of(name) if loaded is None else loaded.pipeline.task

    def statuses(self) -> Sequence[VersionStatus]:
        """Return every known version, and every folder that cannot be a model, by name."""
        known = [self._detailed(key) for key in self._statuses]
        broken = unusable(self._listing.unusable(), (status.model for status in known))
        return sorted([*known, *broken], key=lambda status: (status.model, status.version or 0))

    def status(self, model: str) -> Sequence[VersionStatus]:
        """Return the known versions of one model.

        Raises:
            ModelNotFoundError: no such model in the repository.
            ModelNotReadyError: it is in the repository, but was not loaded.
        """
        if found := [self._detailed(key) for key in self._statuses.of(model)]:
            return found
        if reason := self._listing.unusable().get(model):
            return unusable({model: reason}, ())
        raise self._absent(model)

    def not_ready(self) -> Mapping[str, str]:
        """Return the wanted models that cannot answer, and why; empty when ready."""
        reasons = dict(self._readiness.reasons)
        for ability, name in self._defaults.configured.items():
            loaded = self._serving.get(name)
            if loaded is not None and ability not in loaded.pipeline.abilities:
                reasons[name] = f"it is the default to {phrase(ability)}, which it cannot do"
        return reasons

    async def load(
        self, model: str, version: int | None = None, precision: str | None = None
    ) -> VersionStatus:
        """Load a version and swap it in; the old one drains, unless an alias names it.

        Without a version, and unless the operator pinned one, it is the newest that loads and is
        newer than the one that serves.

        Raises:
            ModelNotFoundError: not in the repository.
            ModelLoadError: it could not be loaded or failed its checks; the old one serves on.
            ConflictError: a load of this model is already running, or the alias `default` names
                other versions.
            ShuttingDownError: the registry was stopped.
        """
        key = await self._changes.load(model, version, precision)
        if (loaded := self._versions.at(key)) is None:
            raise ConflictError(f"model {model!r} was unloaded meanwhile")
        if self._options.memory_bytes:
            self._on_demand.offer({model: loaded.pipeline.abilities})
        return self._detailed(key)

    async def unload(self, model: str) -> None:
        """Stop answering with a model, finish what it accepted and close all its versions.

        A load of the model that is running is cancelled.

        Raises:
            ModelNotFoundError: no such model in the repository.
            ModelNotReadyError: it is not loaded.
            ConflictError: it is unloaded, but runs of it do not end.
            ShuttingDownError: the registry was stopped.
        """
        was_offered = self._on_demand.withdraw(model)
        was_loaded = await self._changes.unload(model)
        self._statuses.withdraw(model)
        if not (was_loaded or was_offered):
            raise self._absent(model)

    async def set_alias(self, model: str, alias: str, weights: Weights | None) -> None:
        """Let an alias name versions, which are loaded first; None removes it.

        From then on requests find the new versions; those that found others finish there.

        Raises:
            InvalidInputError: the alias or the weights cannot be.
            ModelNotFoundError: there is no such model or version, or no alias to remove.
            ModelNotReadyError: no version of the model serves.
            ModelLoadError: a version could not be loaded; the alias stays as it is.
            ConflictError: a load of the model is running, or the state file cannot be written.
        """
        await self._on_demand.load(model, None)
        if model not in self._versions.defaults:
            raise self._absent(model)
        await self._changes.set_alias(model, alias, weights)

    def aliases(self, model: str) -> Mapping[str, Weights]:
        """Return the aliases of a model, each with the weights of its versions."""
        return self._versions.aliases.of(model)

    async def _load_all(self, wanted: Sequence[str], models: Sequence[str]) -> None:
        """Read what the wanted models can do, and load some of them."""
        on_disk = await asyncio.to_thread(
            manifests_on_disk, self._repository, self._options, wanted
        )
        abilities = {
            model: self._loader.abilities(manifest) for model, (_, manifest) in on_disk.items()
        }
        self._defaults.decide({model: abilities.get(model, ()) for model in wanted})
        if self._options.memory_bytes:
            self._on_demand.offer(abilities)
            for model, (version, manifest) in on_disk.items():
                self._statuses.offer(offered(model, version, manifest, abilities[model]))
        room = asyncio.Semaphore(self._options.parallel_loads)
        async with asyncio.TaskGroup() as loads:
            for first in self._first_loads(models):
                loads.create_task(self._load_first(first, room))

    async def _load_first(self, first: FirstLoad, room: asyncio.Semaphore) -> None:
        model, version, precision = first
        try:
            async with room:
                await self._changes.load(model, version, precision)
        except ServiceError as error:  # the others are still wanted; readiness tells
            _log.debug("model not ready", extra={"model": model, "reason": str(error)})

    def _first_loads(self, models: Sequence[str]) -> Iterable[FirstLoad]:
        return [(model, None, None) for model in models]

    def _absent(self, model: str) -> ServiceError:
        """Return why a model cannot answer."""
        if self._on_demand.has(model):
            return self._on_demand.absent(model)
        reason = self._readiness.reasons.get(model) or self._listing.unusable().get(model)
        if model in self._changes.loading:
            reason = reason or "loading"
        if reason is not None:
            return ModelNotReadyError(f"model {model!r} is not ready: {reason}")
        if self._listing.knows(model):
            return ModelNotReadyError(f"model {model!r} is not loaded")
        return ModelNotFoundError(f"there is no model {model!r}")

    def _note_ready(self, loaded: Loaded) -> None:
        self._defaults.note(loaded.files.model, loaded.pipeline.abilities)
        publish_limits(loaded, self._options.queue_limit(loaded.files.manifest))

    def _detailed(self, key: VersionKey) -> VersionStatus:
        status = self._statuses[key]
        if (loaded := self._versions.at(key)) is None:
            return status
        task, model = loaded.pipeline.task, status.model
        mine: Sequence[str] = ()
        if self._serving[model] is loaded:
            mine = [modality for one, modality in self._defaults.of(model) if one is task]
        shares = self._versions.aliases.shares(*key)
        status = replace(status, memory_bytes=self._budget.memory_of(loaded))
        return with_statistics(replace(status, default_for=tuple(mine), aliases=shares), loaded)
