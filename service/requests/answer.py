"""Answer the items of one request together; an item that fails does not fail the others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from service.cache.responses import CacheOutcome, together
from service.errors import (
    DeviceMemoryError,
    InternalError,
    InvalidInputError,
    ModelNotReadyError,
    ServiceError,
    kept,
)
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request, Selection
from service.tasks import AnyItem, ComposedTask, Task
from service.telemetry.metrics import INFERENCE_REQUESTS, UNKNOWN_MODEL
from service.telemetry.record import longest
from service.types import ModelIdentity

Pipelines: TypeAlias = Mapping[str, Pipeline[Any, Any]]
"""By modality."""
Result: TypeAlias = Outcome[Any] | ServiceError
Ask: TypeAlias = Callable[[Pipeline[Any, Any], Any, Request], Awaitable[Outcome[Any]]]

FoundT = TypeVar("FoundT")

_log = logging.getLogger(__name__)


class NotResidentError(ModelNotReadyError):
    """The model is not in memory, and `bring` loads it."""

    model: str
    bring: Callable[[Callable[[], Any], float | None], Awaitable[Any]]
    """Loads what the function misses until the deadline, and returns what it then returns."""


class Models(Protocol):
    """Finds the pipeline that answers a task. The registry is one."""

    def find(
        self,
        task: Task | ComposedTask,
        modality: str,
        model: str | None,
        version: int | None,
        key: str = "",
    ) -> Pipeline[Any, Any]:
        """Return the pipeline; of several versions the same for the same key.

        Raises:
            ServiceError: no model can answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """The results of a request, in the order of its items."""

    model: ModelIdentity | None
    """None if no item was valid."""
    results: Sequence[Result]
    outcomes: Sequence[Outcome[Any]]
    """The results of the items that did not fail."""
    cache: CacheOutcome | None
    """Where the answers came from; None if an item failed."""


def ask_pipeline(
    pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
) -> Awaitable[Outcome[Any]]:
    """Return the outcome of one item. Raises ServiceError."""
    return pipeline.answer(item, request)


async def answer(
    models: Models,
    request: Request,
    task: Task | ComposedTask,
    selection: Selection,
    items: Sequence[AnyItem | ServiceError],
    ask: Ask = ask_pipeline,
) -> Answers:
    """Answer every item of a request. Cancel the coroutine when its client has disconnected.

    Args:
        models: the models that can be asked.
        request: deadline, priority and cache mode of every item.
        task: the task of every item.
        selection: the model to ask.
        items: in order; an item that could not be parsed is given as its error.
        ask: asks a pipeline for one item.

    Raises:
        ServiceError: no model can answer the request, or its key may not ask for this.
    """
    record = request.record
    record.item_count = len(items)
    find = partial(find_pipelines, models, task, selection, items, request.sticky or request.id)
    pipelines = await found(find, request)
    record.model = model = next((pipeline.model for pipeline in pipelines.values()), None)
    if request.caller is not None:
        await request.caller.spend(task, _names(pipelines), items)
    results: list[Result]
    if len(items) == 1:
        results = [await _answer_one(pipelines, items[0], request, ask)]
    else:
        # Not a TaskGroup: an exception that cancels it refers to itself (until Python 3.13).
        results = await asyncio.gather(
            *(_answer_one(pipelines, item, request, ask) for item in items)
        )
    return gathered(request, model, results)


async def found(find: Callable[[], FoundT], request: Request) -> FoundT:
    """Return what `find` returns, after loading the models on demand that it misses.

    Raises:
        ServiceError: `find` raised it, or a model could not be loaded before the deadline.
    """
    try:
        return find()
    except NotResidentError as absent:
        bring = absent.bring
    brought: FoundT = await bring(find, request.deadline)
    return brought


def gathered(request: Request, model: ModelIdentity | None, results: Sequence[Result]) -> Answers:
    """Return the results of a request, and note them in its record."""
    record = request.record
    outcomes = [result for result in results if isinstance(result, Outcome)]
    if len(outcomes) == len(results) == 1:
        record.timings, record.cache = outcomes[0].timings, outcomes[0].cache
        return Answers(model, results, outcomes, outcomes[0].cache)
    if outcomes:
        record.timings = longest([outcome.timings for outcome in outcomes])
    if len(outcomes) < len(results):
        return Answers(model, results, outcomes, None)
    record.cache = cache = together([outcome.cache for outcome in outcomes])
    return Answers(model, results, outcomes, cache)


def find_pipelines(
    models: Models,
    task: Task | ComposedTask,
    selection: Selection,
    items: Sequence[AnyItem | ServiceError],
    key: str = "",
) -> Pipelines:
    """Return the pipeline for each modality among the items.

    Args:
        models: the models that can be asked.
        task: the task of every item.
        selection: the model to ask.
        items: errors have no modality.
        key: chooses among several versions; all items of a request have the same.

    Raises:
        ServiceError: no model can answer one of them.
        InvalidInputError: two models would have to share the request.
    """
    wanted = {item.modality for item in items if not isinstance(item, ServiceError)}
    name, version = selection.model, selection.version
    try:
        known = {kind: models.find(task, kind, name, version, key) for kind in sorted(wanted)}
    except NotResidentError:  # it may be loaded yet
        raise
    except ServiceError as error:
        INFERENCE_REQUESTS.labels(UNKNOWN_MODEL, UNKNOWN_MODEL, error.code).inc(len(items))
        raise
    if len(known) > 1 and len({pipeline.model for pipeline in known.values()}) > 1:
        names = " and ".join(pipeline.model.name for pipeline in known.values())
        raise InvalidInputError(
            f"the items need different models ({names}): name one model that answers all of them, "
            "or send one request for each modality"
        )
    return known


def as_service_error(error: Exception, request_id: str) -> ServiceError:
    """Return the error for a client, without internal details; log what the client cannot see.

    Args:
        error: any exception.
        request_id: appears in the log.
    """
    match error:
        case ServiceError():
            return error
        case MemoryError():  # logged without its traceback, which would hold the memory
            refusal = DeviceMemoryError("the process has no memory left for this request")
            _log.error(str(refusal), extra={"request_id": request_id})
            return refusal
        case _:
            _log.error("request failed", exc_info=error, extra={"request_id": request_id})
            return InternalError("unexpected error; the log has its details under the request id")


def _names(pipelines: Pipelines) -> set[str]:
    return {pipeline.model.name for pipeline in pipelines.values()}


async def _answer_one(
    pipelines: Pipelines, item: AnyItem | ServiceError, request: Request, ask: Ask
) -> Result:
    if isinstance(item, ServiceError):
        return item
    try:
        return await ask(pipelines[item.modality], item, request)
    except Exception as error:  # a bug with one item must not lose the answers of the others
        return kept(as_service_error(error, request.id))
