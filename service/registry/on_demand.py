"""Models that are loaded at their first request, and leave when others need their memory."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from service.errors import (
    ConflictError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
    ServiceError,
    ShuttingDownError,
    kept,
    renewed,
)
from service.registry.budget import MemoryBudget
from service.registry.changes import Changes
from service.registry.versions import Versions
from service.registry.wanted import phrase
from service.requests.answer import NotResidentError
from service.tasks import Ability, Task
from service.telemetry import metrics

_log = logging.getLogger(__name__)

FoundT = TypeVar("FoundT")

# Requests that wait for loads, of all models.
_MOST_WAITING = 1024

# A load that failed is not tried again for this long, then for twice as long, and so on.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 300.0

# `Retry-After` of a request whose deadline ended its wait.
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a model could not be loaded, and until when nothing tries it again."""

    reason: str
    pause: float
    until: float


class OnDemand:
    """Loads models for the requests that wait for them, one model at a time."""

    def __init__(self, changes: Changes, versions: Versions, budget: MemoryBudget) -> None:
        self._changes, self._versions, self._budget = changes, versions, budget
        self._models: dict[str, frozenset[Ability]] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._waiting: Counter[str] = Counter()
        self._failures: dict[str, _Failure] = {}
        self._turn, self._several = asyncio.Lock(), asyncio.Lock()

    def __repr__(self) -> str:
        return f"<OnDemand {len(self._models)} models, {self._waiting.total()} requests wait>"

    def offer(self, models: Mapping[str, frozenset[Ability]]) -> None:
        """Load these models, which can do this, at their requests from now on."""
        self._models.update(models)

    def withdraw(self, model: str) -> bool:
        """Do not load a model on demand any more; tell whether it was offered."""
        offered = self._models.pop(model, None) is not None
        self._failures.pop(model, None)
        if (load := self._loads.get(model)) is not None:
            load.cancel()
        return offered

    def has(self, model: str) -> bool:
        """Tell whether a model is loaded at its requests."""
        return model in self._models

    def check(self, model: str, ability: Ability) -> None:
        """Raise ModelNotFoundError for what a model cannot do, without loading it."""
        known = self._models[model]
        if ability not in known:
            able = ", ".join(sorted(map(phrase, known)))
            raise ModelNotFoundError(f"model {model!r} cannot {phrase(ability)}; it can {able}")

    def task_of(self, model: str) -> Task | None:
        """Return the task of a model that is loaded on demand."""
        known = self._models.get(model, frozenset())
        return next((task for task, _ in known if isinstance(task, Task)), None)

    def forget_failure(self, model: str) -> None:
        """Note that a model was loaded."""
        self._failures.pop(model, None)

    def absent(self, model: str) -> NotResidentError:
        """Return the error for a request of a model that is offered and not loaded."""
        error = NotResidentError(f"model {model!r} is not in memory; a request loads it")
        error.model, error.bring = model, self.bring
        error.retry_after = _RETRY_SECONDS
        return error

    async def stop(self) -> None:
        """End the loads that run for requests."""
        loads = list(self._loads.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def bring(self, find: Callable[[], FoundT], deadline: float | None) -> FoundT:
        """Load the models that `find` misses, and return what it finds.

        A call that misses several models keeps each that it has, so that all are in memory in the
        end; one such call at a time, so that no two wait for what the other keeps.

        Raises:
            ModelNotReadyError: a model could not be loaded, or not before the deadline.
            OverloadedError: too many requests wait for loads.
            ServiceError: `find` raised it.
        """
        try:
            return find()
        except NotResidentError as absent:
            first = absent.model
        await self._load(first, deadline)
        try:
            return find()
        except NotResidentError:
            pass
        async with self._alone(deadline):
            return await self._bring_all(find, deadline)

    async def _bring_all(self, find: Callable[[], FoundT], deadline: float | None) -> FoundT:
        """Load one missing model after the other, and let none of them leave meanwhile."""
        with ExitStack() as stack:
            while True:
                try:
                    return find()
                except NotResidentError as absent:
                    missing = absent.model
                await self._load(missing, deadline)
                for loaded in self._versions.of(missing).values():
                    stack.enter_context(loaded.pipeline.held())

    async def load(self, model: str, deadline: float | None) -> None:
        """Load a model unless it is loaded. Raises what `bring` raises."""
        if model in self._models and model not in self._versions.defaults:
            await self._load(model, deadline)

    async def _load(self, model: str, deadline: float | None) -> None:
        self._refuse(model)
        load = self._loads.get(model)
        if load is None:
            load = asyncio.get_running_loop().create_task(self._in_turn(model))
            self._loads[model] = load
        with self._counted(model, load):
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.wait([load])
            except TimeoutError:
                raise _not_ready(model, self._state(model), _RETRY_SECONDS) from None
        if load.cancelled():
            raise _not_ready(model, "it was unloaded", None)
        error = load.exception()
        if isinstance(error, ShuttingDownError):
            raise renewed(error)
        if error is not None:
            failure = self._failures.get(model)
            raise _not_ready(model, str(error), failure.pause if failure else _RETRY_SECONDS)

    def _refuse(self, model: str) -> None:
        """Raise ModelNotReadyError after a failure, OverloadedError if too many requests wait."""
        now = asyncio.get_running_loop().time()
        failure = self._failures.get(model)
        if failure is not None and now < failure.until:
            raise _not_ready(model, failure.reason, failure.until - now)
        if self._waiting.total() >= _MOST_WAITING:
            raise OverloadedError(
                f"{_MOST_WAITING} requests wait for models to be loaded", _RETRY_SECONDS
            )

    @contextmanager
    def _counted(self, model: str, load: "asyncio.Task[None]") -> Iterator[None]:
        """Count a request that waits; a load that nothing waits for ends before it begins."""
        self._waiting[model] += 1
        metrics.MODEL_REQUESTS_WAITING.set(self._waiting.total())
        try:
            yield
        finally:
            self._waiting[model] -= 1
            metrics.MODEL_REQUESTS_WAITING.set(self._waiting.total())
            if not self._waiting[model]:
                del self._waiting[model]
                if not self._is_loading(model):
                    load.cancel()

    def _state(self, model: str) -> str:
        if self._is_loading(model):
            return "it is being loaded"
        return "it waits for memory that other models use, within models.memory_bytes"

    def _is_loading(self, model: str) -> bool:
        """Tell whether a load has begun and has its memory: it goes on without requests."""
        return model in self._changes.loading and model not in self._budget.waiting

    async def _in_turn(self, model: str) -> None:
        """Load a model when the loads before it have ended."""
        try:
            async with self._turn:
                await self._changes.end_of(model)
                if model not in self._versions.defaults:
                    await self._changes.load(model, None, None)
                    metrics.MODEL_DEMAND_LOADS.labels(model).inc()
            self.forget_failure(model)
        except (ConflictError, ShuttingDownError):
            raise
        except ServiceError as error:
            self._note_failure(model, kept(error))
            raise
        finally:
            self._loads.pop(model, None)

    def _note_failure(self, model: str, error: ServiceError) -> None:
        before = self._failures.get(model)
        pause = _FIRST_PAUSE if before is None else min(_LONGEST_PAUSE, 2 * before.pause)
        until = asyncio.get_running_loop().time() + pause
        self._failures[model] = _Failure(str(error), pause, until)
        facts = {"model": model, "reason": str(error), "seconds": pause}
        _log.warning("load on demand failed", extra=facts)

    @asynccontextmanager
    async def _alone(self, deadline: float | None) -> AsyncIterator[None]:
        """Wait until no other request needs several models. Raises ModelNotReadyError."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._several.acquire()
        except TimeoutError:
            error = ModelNotReadyError("requests of several models wait for their memory")
            error.retry_after = _RETRY_SECONDS
            raise error from None
        try:
            yield
        finally:
            self._several.release()


def _not_ready(model: str, reason: str, retry_after: float | None) -> ModelNotReadyError:
    error = ModelNotReadyError(f"model {model!r} is not ready: {reason}")
    error.retry_after = retry_after
    return error
