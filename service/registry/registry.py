"""The models this process serves. Knows nothing of HTTP."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.errors import (
    ConflictError,
    ModelNotFoundError,
    ModelNotReadyError,
    ServiceError,
    ShuttingDownError,
    kept,
    renewed,
)
from service.registry.lifecycle import (
    Attempts,
    Draining,
    LoadCancelledError,
    close,
    is_callers_fault,
    note_failure,
)
from service.registry.loader import Loaded
from service.registry.status import (
    Statuses,
    VersionKey,
    VersionStatus,
    describe,
    publish_limits,
    unusable,
    with_statistics,
)
from service.registry.wanted import (
    Defaults,
    Readiness,
    RegistryOptions,
    Repository,
    VersionLoader,
    abilities_on_disk,
    default_not_ready,
    phrase,
)
from service.registry.workflows import Workflows
from service.repository.listing import Listing
from service.requests.pipeline import Pipeline
from service.tasks import ComposedTask, Task

_log = logging.getLogger(__name__)


class Registry:
    """Models by name; at most one version of each answers, others may be loading or draining."""

    def __init__(
        self, repository: Repository, loader: VersionLoader, options: RegistryOptions
    ) -> None:
        self._repository, self._loader, self._options = repository, loader, options
        self._listing = Listing(repository)
        self.workflows = Workflows(self._listing.workflows, self)
        self._defaults = Defaults(options.defaults)
        self._statuses = Statuses()
        self._draining = Draining(options.drain_seconds)
        self._attempts = Attempts(repository, loader, options, self._statuses, self._draining)
        self._serving: dict[str, Loaded] = {}
        self._readiness = Readiness(self._defaults.configured.values())
        self._loading: set[str] = set()
        self._start: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Registry {len(self._serving)} serving, {len(self._loading)} loading>"

    def start(self) -> None:
        """Begin to load every wanted model, one after the other; returns at once.

        Raises:
            ModelNotFoundError: a model named in the options is not in the repository.
            ModelLoadError: the repository's folder cannot be read.
        """
        present = self._listing.read()
        wanted = present if self._options.models is None else self._options.models
        known = {*present, *self._listing.unusable()}
        for model in (*wanted, *self._defaults.configured.values()):
            if model not in known:
                raise ModelNotFoundError(f"the repository has no model {model!r}")
        for folder, reason in self._listing.unusable().items():
            _log.warning("folder not served", extra={"folder": folder, "reason": reason})
        self._readiness.want(wanted)
        self._start = asyncio.get_running_loop().create_task(self._load_all(list(wanted)))

    async def stop(self, grace: float) -> None:
        """Give accepted items `grace` seconds, then stop every model."""
        self._attempts.are_refused = True
        await self._listing.stop()
        if self._start is not None:
            self._start.cancel()
            await asyncio.wait([self._start])
        serving = [*self._serving.values()]
        self._serving.clear()
        closings = (close(loaded, grace) for loaded in serving)
        await asyncio.gather(self._draining.stop(grace), *closings)

    def find(
        self, task: Task | ComposedTask, modality: str, model: str | None, version: int | None
    ) -> Pipeline[Any, Any]:
        """Return the pipeline for a request.

        Raises:
            ModelNotFoundError: nothing of this name, version, task and modality.
            ModelRequiredError: no model is named, several could answer, and none is the default.
            ModelNotReadyError: it exists, but is not loaded (yet, or any more).
        """
        ability = (task, modality)
        name = model or self._defaults.models.get(ability)
        if name is None:
            raise self._defaults.absent(ability)
        if model is None and name not in self._serving:
            reason = self._readiness.reasons.get(name, "it is not loaded")
            raise default_not_ready(name, ability, reason)
        pipeline = self.named(name, version)
        if ability not in pipeline.abilities:
            able = ", ".join(sorted(map(phrase, pipeline.abilities)))
            raise ModelNotFoundError(f"model {name!r} cannot {phrase(ability)}; it can {able}")
        return pipeline

    def named(self, model: str, version: int | None = None) -> Pipeline[Any, Any]:
        """Return the pipeline of a model, whatever its task is.

        Raises:
            ModelNotFoundError: nothing of this name and version.
            ModelNotReadyError: it exists, but is not loaded (yet, or any more).
        """
        loaded = self._serving.get(model)
        if loaded is None:
            raise self._absent(model)
        serving = loaded.files.version
        if version not in (None, serving):
            raise ModelNotFoundError(f"model {model!r} serves version {serving}, not {version}")
        return loaded.pipeline

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
        """Load a version and swap it in; the old one drains.

        Without a version, and unless the operator pinned one, it is the newest that loads and is
        newer than the one that serves.

        Raises:
            ModelNotFoundError: not in the repository.
            ModelLoadError: it could not be loaded or failed its checks; the old one serves on.
            ConflictError: a load of this model is already running.
            ShuttingDownError: the registry was stopped.
        """
        self._attempts.refuse_if_stopped()
        if model in self._loading:
            raise ConflictError(f"a load of {model!r} is already running")
        self._loading.add(model)
        try:
            return await self._load_newest(model, version, precision)
        except LoadCancelledError:
            raise
        except ServiceError as error:
            self._readiness.note_failed(model, str(error))
            raise
        finally:
            self._loading.discard(model)

    async def unload(self, model: str) -> None:
        """Stop answering with a model, finish what it accepted and close it.

        A load of the model that is running is cancelled.

        Raises:
            ModelNotFoundError: no such model in the repository.
            ModelNotReadyError: it is not loaded.
            ConflictError: it is unloaded, but runs of it do not end.
            ShuttingDownError: the registry was stopped.
        """
        self._attempts.refuse_if_stopped()
        was_loading = await self._attempts.cancel(model)
        loaded = self._serving.pop(model, None)
        if loaded is None and not was_loading:
            raise self._absent(model)
        self._readiness.note_unloaded(model)
        if loaded is None:
            return
        # Not awaited itself: a caller who leaves must not end it, nor a stop its caller.
        closing = self._retire(loaded)
        await asyncio.wait([closing])
        if not closing.cancelled() and (running := closing.result()):
            raise ConflictError(
                f"model {model!r} is unloaded, but {running} of its runs do not end; they keep its "
                "memory and slots of the device until they do"
            )

    async def _load_newest(
        self, model: str, version: int | None, precision: str | None
    ) -> VersionStatus:
        """Load the named version, else the newest of the candidates that loads."""
        serving = self._serving.get(model)
        current = None if serving is None else serving.files.version
        numbers = [version] if version else await self._attempts.candidates(model, current)
        refused: ServiceError | None = None
        for number in numbers if precision is None else numbers[:1]:
            key = (model, number)
            try:
                loaded = await self._attempts.load(key, precision, self._is_serving(key))
            except (ShuttingDownError, LoadCancelledError):
                raise
            except ServiceError as error:
                if is_callers_fault(error, precision):
                    raise
                note_failure(model, number, error)
                refused = refused or kept(error)
            else:
                return self._swap_in(loaded, numbers[0] if refused else None)
        missing = f"there is no model {model!r}"
        raise renewed(refused) if refused else ModelNotFoundError(missing)

    def _swap_in(self, loaded: Loaded, refused_version: int | None) -> VersionStatus:
        """From here on, requests find the new version; the old one drains in the background."""
        files = loaded.files
        old = self._serving.get(files.model)
        self._serving[files.model] = loaded
        self._readiness.note_serving(files.model)
        if old is not None:
            self._retire(old)
        self._statuses.set(replace(describe(loaded), refused_version=refused_version))
        self._defaults.note(files.model, loaded.pipeline.abilities)
        publish_limits(loaded, self._options.max_queue_size)
        facts = {"model": files.model, "version": files.version, "precision": files.precision}
        _log.info("model ready", extra=facts)
        if refused_version is not None:
            _log.warning("older version serves", extra={**facts, "refused": refused_version})
        return self._detailed((files.model, files.version))

    def _retire(self, loaded: Loaded) -> "asyncio.Task[int]":
        """Return the task that drains and closes a version that no longer serves."""
        if not self._is_serving(loaded.key):  # a reload of the same version keeps its status
            self._statuses.drain(loaded.key)
        return self._draining.begin(loaded, self._note_closed)

    def _note_closed(self, loaded: Loaded) -> None:
        if not self._is_serving(loaded.key) and not self._draining.has(*loaded.key):
            self._statuses.drained(loaded.key)

    async def _load_all(self, models: Sequence[str]) -> None:
        on_disk = await asyncio.to_thread(
            abilities_on_disk, self._repository, self._loader, self._options, models
        )
        self._defaults.decide(on_disk)
        for model in models:
            try:
                await self.load(model)
            except ServiceError as error:  # the others are still wanted; readiness tells
                _log.debug("model not ready", extra={"model": model, "reason": str(error)})

    def _absent(self, model: str) -> ServiceError:
        """Return why a model cannot answer."""
        reason = self._readiness.reasons.get(model) or self._listing.unusable().get(model)
        if model in self._loading:
            reason = reason or "loading"
        if reason is not None:
            return ModelNotReadyError(f"model {model!r} is not ready: {reason}")
        if self._listing.knows(model):
            return ModelNotReadyError(f"model {model!r} is not loaded")
        return ModelNotFoundError(f"there is no model {model!r}")

    def _detailed(self, key: VersionKey) -> VersionStatus:
        status = self._statuses[key]
        if not self._is_serving(key):
            return status
        loaded = self._serving[status.model]
        task = loaded.pipeline.task
        mine = [modality for one, modality in self._defaults.of(status.model) if one is task]
        return with_statistics(replace(status, default_for=tuple(mine)), loaded)

    def _is_serving(self, key: VersionKey) -> bool:
        loaded = self._serving.get(key[0])
        return loaded is not None and loaded.key == key
