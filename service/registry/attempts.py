"""Attempts to load a version: their status, their progress, and how they end."""

import asyncio
import logging

from service.errors import (
    ConflictError,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    ServiceError,
    ShuttingDownError,
)
from service.registry.draining import Draining, close
from service.registry.loader import Loaded
from service.registry.progress import LoadProgress
from service.registry.status import Statuses, VersionKey
from service.registry.wanted import RegistryOptions, Repository, VersionLoader
from service.repository.repository import PrecisionNotFoundError
from service.telemetry import metrics

_log = logging.getLogger(__name__)


class LoadCancelledError(ConflictError):
    """The load was cancelled by an unload of the model."""


class Attempts:
    """Loads versions one at a time for each model; the registry swaps in what it returns."""

    def __init__(
        self,
        repository: Repository,
        loader: VersionLoader,
        options: RegistryOptions,
        statuses: Statuses,
        draining: Draining,
    ) -> None:
        self._repository, self._loader, self._options = repository, loader, options
        self._statuses, self._draining = statuses, draining
        self._tasks: dict[str, asyncio.Task[Loaded]] = {}
        self.are_refused = False
        """Set by a stop: what is loaded after it is closed."""

    async def load(self, key: VersionKey, precision: str | None, serves: bool) -> Loaded:
        """Return a version that answers; one that serves already stays ready meanwhile.

        Raises:
            ModelNotFoundError: there is no such version.
            ModelLoadError: it could not be loaded or failed its checks.
            LoadCancelledError: `cancel` was called.
            ShuttingDownError: the registry was stopped meanwhile.
        """
        progress = self._statuses.begin(key, serves)
        try:
            loaded = await self._cancellable(key, precision, progress)
        except (asyncio.CancelledError, LoadCancelledError):
            self._statuses.abandon(key, drains=self._draining.has(*key))
            raise
        except ServiceError as error:
            if is_callers_fault(error, precision):
                self._statuses.abandon(key, drains=self._draining.has(*key))
            else:
                self._statuses.fail(key, str(error), serves)
            raise
        except Exception as error:
            _log.exception("model load crashed", extra={"model": key[0], "version": key[1]})
            reason = f"{key[0]}/{key[1]}: a bug: {error}"
            self._statuses.fail(key, reason, serves)
            raise ModelLoadError(reason) from error
        finally:
            self._statuses.end(key)
        metrics.MODEL_LOADS.labels(key[0], "ok").inc()
        return loaded

    async def cancel(self, model: str) -> bool:
        """Stop the load of a model; tell whether there was one."""
        task = self._tasks.get(model)
        if task is None or task.done():
            return False
        task.cancel()
        await asyncio.wait([task])
        return True

    async def _cancellable(
        self, key: VersionKey, precision: str | None, progress: LoadProgress
    ) -> Loaded:
        task = asyncio.get_running_loop().create_task(self._load(key, precision, progress))
        self._tasks[key[0]] = task
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and task.exception() is None:  # it had just ended
                await close(task.result(), grace=0)
            raise
        finally:
            del self._tasks[key[0]]
        if task.cancelled():
            raise LoadCancelledError(f"the load of {key[0]}/{key[1]} was cancelled by an unload")
        return task.result()

    async def _load(self, key: VersionKey, precision: str | None, progress: LoadProgress) -> Loaded:
        wanted, device = precision or self._options.precision, self._options.device_kind
        files = await asyncio.to_thread(self._repository.open, *key, wanted, device)
        loaded = await self._loader.load(files, progress.enter)
        if self.are_refused:
            await close(loaded, grace=0)
            raise ShuttingDownError("the service stopped while the model was loaded")
        return loaded


def is_callers_fault(error: ServiceError, precision: str | None) -> bool:
    """Tell whether a load failed for what was asked, not for what is on disk."""
    if isinstance(error, PrecisionNotFoundError):
        return precision is not None  # else the operator's settings ask for it
    return isinstance(error, ModelNotFoundError | InvalidInputError)


def note_failure(model: str, version: int | None, error: ServiceError) -> None:
    """Count and log a load that failed; without a version, none could be read."""
    metrics.MODEL_LOADS.labels(model, "failed").inc()
    facts = {"model": model, "version": version, "reason": str(error)}
    _log.error("model load failed", extra=facts)
