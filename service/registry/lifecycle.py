"""How a version comes to serve and goes: attempts to load it, its drain and its close."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from service.errors import (
    ConflictError,
    InvalidInputError,
    ModelLoadError,
    ModelNotFoundError,
    ServiceError,
    ShuttingDownError,
)
from service.memory import return_free_memory
from service.registry.budget import MemoryBudget
from service.registry.loader import Loaded
from service.registry.progress import LoadProgress
from service.registry.status import VersionKey
from service.registry.statuses import Statuses
from service.registry.wanted import RegistryOptions, Repository, VersionLoader, candidates
from service.repository.repository import PrecisionNotFoundError
from service.telemetry import metrics

_log = logging.getLogger(__name__)

_LINGER = 0.05
"""Seconds for a request that has found a version, but not called it yet, to call it."""


class Draining:
    """The versions that drain now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._tasks: dict[Loaded, asyncio.Task[int]] = {}
        self._closing: set[Loaded] = set()

    def __repr__(self) -> str:
        return f"<Draining {len(self._tasks)}>"

    def has(self, model: str, version: int) -> bool:
        """Tell whether this version drains."""
        return any(loaded.key == (model, version) for loaded in self._tasks)

    def begin(self, loaded: Loaded, ended: Callable[[Loaded], None]) -> "asyncio.Task[int]":
        """Drain a version for at most `seconds`, close it and call `ended`.

        The task returns how many of its runs go on all the same.

        Wait for the task with `asyncio.wait`: it is cancelled when everything stops.
        """
        task = asyncio.get_running_loop().create_task(self._drain(loaded, ended))
        self._tasks[loaded] = task
        task.add_done_callback(_trim_soon)
        return task

    async def stop(self, grace: float) -> None:
        """Close every version that drains, giving accepted items `grace` seconds."""
        tasks = dict(self._tasks)
        left = [loaded for loaded in tasks if loaded not in self._closing]
        for loaded in left:
            self._tasks.pop(loaded).cancel()
        await asyncio.gather(*(close(loaded, grace) for loaded in left))
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _drain(self, loaded: Loaded, ended: Callable[[Loaded], None]) -> int:
        await asyncio.sleep(_LINGER)
        try:
            async with asyncio.timeout(self._seconds):
                while loaded.pipeline.active:
                    await loaded.pipeline.idle.wait()
        except TimeoutError:
            _log.warning("drain cut short", extra={"model": loaded.files.model})
        self._closing.add(loaded)
        try:
            loaded.pipeline.withdraw()
            return await close(loaded, grace=0)
        finally:
            self._closing.discard(loaded)
            del self._tasks[loaded]
            ended(loaded)


async def close(loaded: Loaded, grace: float) -> int:
    """Close a version, and return how many of its runs go on all the same.

    A fault in it is logged: it must not keep others from being closed.
    """
    running = 0
    try:
        if running := await loaded.close(grace):
            _log.warning("runs go on", extra={"model": loaded.files.model, "runs": running})
    except Exception:
        _log.exception("model close failed", extra={"model": loaded.files.model})
    return running


def _trim_soon(_: "asyncio.Task[int]") -> None:
    """Have the C library give back what a version held, once nothing refers to it."""
    loop = asyncio.get_running_loop()
    loop.call_later(_LINGER, loop.run_in_executor, None, return_free_memory)


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
        budget: MemoryBudget,
    ) -> None:
        self._repository, self._loader, self._options = repository, loader, options
        self._budget = budget
        self._statuses, self._draining = statuses, draining
        self._tasks: dict[str, asyncio.Task[Loaded]] = {}
        self.are_refused = False
        """Set by a stop: what is loaded after it is closed."""

    def refuse_if_stopped(self) -> None:
        """Raise ShuttingDownError after a stop."""
        if self.are_refused:
            raise ShuttingDownError("the service is shutting down")

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

    async def candidates(self, model: str, serving: int | None) -> Sequence[int]:
        """Return the versions to try, the newest first.

        Raises:
            ModelNotFoundError: there is no such model.
            ModelLoadError: its folder cannot be read.
        """
        find = partial(candidates, self._repository, self._options, model, serving)
        try:
            return await asyncio.to_thread(find)
        except ModelLoadError as error:
            note_failure(model, None, error)
            raise

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
        async with self._budget.room(files, self._loader.memory_of):
            loaded = await self._loader.load(files, progress.enter)
            try:
                self.refuse_if_stopped()
                self._budget.hold(loaded)
            except ServiceError:
                await close(loaded, grace=0)
                raise
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
