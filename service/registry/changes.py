"""Loads, unloads and aliases of models: one change of a model at a time."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from service.errors import (
    ConflictError,
    ModelNotFoundError,
    ServiceError,
    ShuttingDownError,
    kept,
    renewed,
)
from service.registry.aliases import DEFAULT, Aliases, Weights, checked_weights
from service.registry.lifecycle import (
    Attempts,
    Draining,
    LoadCancelledError,
    close,
    is_callers_fault,
    note_failure,
)
from service.registry.loader import Loaded
from service.registry.status import VersionKey, describe, publish_aliases
from service.registry.statuses import Statuses
from service.registry.versions import Versions
from service.registry.wanted import Readiness

_log = logging.getLogger(__name__)


class Changes:
    """Changes which versions serve."""

    def __init__(
        self,
        versions: Versions,
        attempts: Attempts,
        draining: Draining,
        statuses: Statuses,
        readiness: Readiness,
    ) -> None:
        self._versions, self._attempts, self._draining = versions, attempts, draining
        self._statuses, self._readiness = statuses, readiness
        self.loading: set[str] = set()
        """The models that are being changed."""
        self._ended = asyncio.Event()
        self.on_ready: Callable[[Loaded], None] = lambda _: None
        """Called when a version begins to serve."""

    async def load(self, model: str, version: int | None, precision: str | None) -> VersionKey:
        """Load a version and the versions that aliases name; return the key of the first."""
        self._begin(model)
        try:
            key = await self._load_newest(model, version, precision)
            try:
                await self._load_named(model)
            finally:  # also if the caller leaves: the default serves
                if model in self._versions.defaults:
                    self._readiness.note_serving(model)
        except LoadCancelledError:
            raise
        except ServiceError as error:
            self._readiness.note_failed(model, str(error))
            raise
        finally:
            self._end(model)
        return key

    def evict(self, model: str) -> None:
        """Take a model out of service for now; what it has accepted is answered."""
        for loaded in self._versions.remove(model):
            self._retire(loaded)

    async def unload(self, model: str) -> bool:
        """Unload a model; return False if it was neither loaded nor being loaded."""
        self._attempts.refuse_if_stopped()
        was_loading = await self._attempts.cancel(model)
        removed = self._versions.remove(model)
        if not removed and not was_loading:
            return False
        self._readiness.note_unloaded(model)
        publish_aliases(Aliases(), model)
        if not removed:
            return True
        # Not awaited themselves: a caller who leaves must not end them, nor a stop their caller.
        closings = [self._retire(loaded) for loaded in removed]
        await asyncio.wait(closings)
        if running := sum(one.result() for one in closings if not one.cancelled()):
            raise ConflictError(
                f"model {model!r} is unloaded, but {running} of its runs do not end; they keep its "
                "memory and slots of the device until they do"
            )
        return True

    async def set_alias(self, model: str, alias: str, weights: Weights | None) -> None:
        """Load what an alias names, keep the alias, and let requests follow it."""
        aliases = self._versions.aliases
        if weights is None:
            aliases.named(model, alias)
        else:
            weights = checked_weights(weights)
        changed = aliases.changed(model, alias, weights)
        self._begin(model)
        added: list[Loaded] = []
        try:
            for version in weights or ():
                await self._load_beside((model, version), added)
            # The other models may have got aliases meanwhile.
            changed = self._versions.aliases.changed(model, alias, weights)
            self._refuse_unloaded(model)
            changed.save()
        except BaseException:
            await asyncio.gather(*(self._give_up(loaded) for loaded in added))
            raise
        finally:
            self._end(model)
        # From here on there is no await: requests see the old state or the new one.
        self._versions.aliases = changed
        publish_aliases(changed, model)
        for loaded in added:
            self._versions.add(loaded)
            self._show_ready(loaded)
        for loaded in self._versions.settle(model):
            self._retire(loaded)

    async def _load_beside(self, key: VersionKey, added: list[Loaded]) -> None:
        if self._versions.at(key) is None:
            added.append(await self._attempts.load(key, None, serves=False))

    def _refuse_unloaded(self, model: str) -> None:
        if model not in self._versions.defaults:
            raise ConflictError(f"model {model!r} was unloaded meanwhile")

    def _begin(self, model: str) -> None:
        self._attempts.refuse_if_stopped()
        if model in self.loading:
            raise ConflictError(f"a load of {model!r} is already running")
        self.loading.add(model)

    def _end(self, model: str) -> None:
        self.loading.discard(model)
        self._ended.set()
        self._ended = asyncio.Event()

    async def end_of(self, model: str) -> None:
        """Wait while a model is being changed."""
        while model in self.loading:
            await self._ended.wait()

    async def _load_newest(
        self, model: str, version: int | None, precision: str | None
    ) -> VersionKey:
        """Load the named version, else the first of the candidates that loads."""
        numbers = await self._candidates(model, version)
        refused: ServiceError | None = None
        for number in numbers if precision is None else numbers[:1]:
            key = (model, number)
            try:
                serves = self._versions.at(key) is not None
                loaded = await self._attempts.load(key, precision, serves)
            except (ShuttingDownError, LoadCancelledError):
                raise
            except ServiceError as error:
                if is_callers_fault(error, precision):
                    raise
                note_failure(model, number, error)
                refused = refused or kept(error)
            else:
                self._swap_in(loaded, numbers[0] if refused else None)
                return key
        missing = f"there is no model {model!r}"
        raise renewed(refused) if refused else ModelNotFoundError(missing)

    async def _candidates(self, model: str, version: int | None) -> Sequence[int]:
        weights = self._versions.aliases.default(model)
        if weights is None:
            if version:
                return [version]
            default = self._versions.defaults.get(model)
            current = None if default is None else default.files.version
            return await self._attempts.candidates(model, current)
        if version and version not in weights:
            numbers = ", ".join(map(str, weights))
            raise ConflictError(
                f"the alias {DEFAULT!r} of {model!r} names version {numbers}: change it to serve "
                f"version {version}"
            )
        return [version] if version else sorted(weights, key=lambda one: (-weights[one], -one))

    async def _load_named(self, model: str) -> None:
        """Load the other versions that aliases name; one that fails does not keep others away."""
        for version in sorted(self._versions.aliases.versions(model)):
            key = (model, version)
            if self._versions.at(key) is not None:
                continue
            try:
                loaded = await self._attempts.load(key, None, serves=False)
            except (ShuttingDownError, LoadCancelledError):
                raise
            except ServiceError as error:
                note_failure(model, version, error)
                continue
            self._swap_in(loaded, None, beside=True)

    def _swap_in(self, loaded: Loaded, refused_version: int | None, beside: bool = False) -> None:
        """From here on, requests find the new version; old ones drain in the background."""
        files = loaded.files
        if beside:
            self._versions.add(loaded)
            unnamed: Iterable[Loaded] = self._versions.settle(files.model)
        else:
            unnamed = self._versions.put(loaded)
        for old in unnamed:
            self._retire(old)
        self._show_ready(loaded, refused_version)

    def _show_ready(self, loaded: Loaded, refused_version: int | None = None) -> None:
        files = loaded.files
        self._statuses.set(replace(describe(loaded), refused_version=refused_version))
        publish_aliases(self._versions.aliases, files.model)
        self.on_ready(loaded)
        facts = {"model": files.model, "version": files.version, "precision": files.precision}
        _log.info("model ready", extra=facts)
        if refused_version is not None:
            _log.warning("older version serves", extra={**facts, "refused": refused_version})

    def _retire(self, loaded: Loaded) -> "asyncio.Task[int]":
        """Return the task that drains and closes a version that no longer serves."""
        if self._versions.at(loaded.key) is None:  # a reload of one keeps its status
            self._statuses.drain(loaded.key)
        return self._draining.begin(loaded, self._note_closed)

    def _note_closed(self, loaded: Loaded) -> None:
        if self._versions.at(loaded.key) is None and not self._draining.has(*loaded.key):
            self._statuses.drained(loaded.key)

    async def _give_up(self, loaded: Loaded) -> None:
        await close(loaded, grace=0)
        self._statuses.forget(loaded.key)
