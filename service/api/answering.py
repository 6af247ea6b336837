"""From items to a response: all at once through their pipelines, and nothing lost if some fail."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from service.api.content import TaskRequest
from service.api.errors import (
    Fault,
    Problem,
    Reply,
    log_unexpected,
    retry_after,
    retry_after_header,
)
from service.api.http_request import HttpRequest
from service.cache.responses import together
from service.errors import InvalidInputError, ServiceError, kept
from service.requests.pipeline import CallOptions, Outcome, Pipeline
from service.tasks import AnyItem, Task, modality
from service.telemetry.metrics import INFERENCE_REQUESTS, UNKNOWN_MODEL
from service.telemetry.timings import longest

Pipelines: TypeAlias = Mapping[str, Pipeline[Any, Any]]
Result: TypeAlias = Outcome[Any] | Exception
Ask: TypeAlias = Callable[[Pipeline[Any, Any], Any, CallOptions], Awaitable[Outcome[Any]]]


def ask_pipeline(
    pipeline: Pipeline[Any, Any], item: AnyItem, options: CallOptions
) -> Awaitable[Outcome[Any]]:
    """Return what a pipeline answers. Raises ServiceError."""
    return pipeline.answer(item, options)


async def answer(  # noqa: PLR0913 - each is a thing of its own that a route knows
    call: HttpRequest,
    task: Task,
    request: TaskRequest,
    items: Sequence[AnyItem | ServiceError],
    encode: Callable[[Any], Mapping[str, Any]],
    head: Callable[[Sequence[Any]], Mapping[str, Any]] = lambda answers: {},
    *,
    ask: Ask = ask_pipeline,
) -> Reply:
    """Answer every item of a request.

    Args:
        call: the request; its body must have been read.
        task: which of the tasks is asked for.
        request: names the model, or leaves it to the registry.
        items: what is asked, in order; in place of an item, why it is none.
        encode: turns one answer into what the response says of it.
        head: what the response says of all answers together.
        ask: how a pipeline is asked for an item.

    Returns:
        The answers in order. If some items failed: a problem of the worst failure's status that
        names each, with the answers of the others.

    Raises:
        ServiceError: no model can take the request.
        ClientDisconnect: the client left; the work is cancelled.
    """
    call.item_count = len(items)
    pipelines = find_pipelines(call, task, request, items)
    call.model = next((pipeline.model for pipeline in pipelines.values()), None)
    options = call.options()
    results: list[Result]
    if len(items) == 1:
        results = [await call.while_wanted(_answer_one(call, pipelines, items[0], options, ask))]
    else:
        results = await call.while_wanted(_answer_all(call, pipelines, items, options, ask))
    answered = [result for result in results if isinstance(result, Outcome)]
    body: dict[str, Any] = {}
    if answered:
        call.timings = longest([outcome.timings for outcome in answered])
        model = next(iter(pipelines.values())).model
        body = {"model": model.name, "version": model.version}
        body |= head([outcome.answer for outcome in answered])
        body["results"] = [
            encode(result.answer) if isinstance(result, Outcome) else None for result in results
        ]
    if len(answered) < len(results):
        return _refusal(call, results, body)
    call.cache = together(outcome.cache for outcome in answered)
    cache = (b"x-cache", call.cache.encode())
    return Reply(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), headers=[cache])


def find_pipelines(
    call: HttpRequest, task: Task, request: TaskRequest, items: Sequence[AnyItem | ServiceError]
) -> Pipelines:
    """Find who answers each modality among the items. Raises ServiceError."""
    wanted = {modality(item) for item in items if not isinstance(item, ServiceError)}
    find = call.context.registry.find
    try:
        found = {kind: find(task, kind, request.model, request.version) for kind in sorted(wanted)}
    except ServiceError as error:
        INFERENCE_REQUESTS.labels(UNKNOWN_MODEL, UNKNOWN_MODEL, error.code).inc(len(items))
        raise
    if len(found) > 1 and len({pipeline.model for pipeline in found.values()}) > 1:
        names = " and ".join(pipeline.model.name for pipeline in found.values())
        raise InvalidInputError(
            f"{names} would each take a part of this request; name one model, or ask twice"
        )
    return found


async def _answer_one(
    call: HttpRequest,
    pipelines: Pipelines,
    item: AnyItem | ServiceError,
    options: CallOptions,
    ask: Ask,
) -> Result:
    """Return the outcome, or what went wrong with this item and no other."""
    if isinstance(item, ServiceError):
        return item
    try:
        return await ask(pipelines[modality(item)], item, options)
    except Exception as error:  # the other items' answers must not be lost to a bug
        log_unexpected(error, call.request_id)
        return kept(error)


async def _answer_all(
    call: HttpRequest,
    pipelines: Pipelines,
    items: Iterable[AnyItem | ServiceError],
    options: CallOptions,
    ask: Ask,
) -> list[Result]:
    # Not a TaskGroup: what cancels it refers to itself afterwards (until Python 3.13).
    return await asyncio.gather(
        *(_answer_one(call, pipelines, item, options, ask) for item in items)
    )


def _refusal(call: HttpRequest, results: Sequence[Result], extra: Mapping[str, Any]) -> Reply:
    failed = [(i, error) for i, error in enumerate(results) if isinstance(error, Exception)]
    problems = [Problem.of(error) for _, error in failed]
    faults = [
        Fault(index, problem.code, problem.detail)
        for (index, _), problem in zip(failed, problems, strict=True)
    ]
    worst = max(problems, key=lambda problem: problem.status)  # the first of the worst
    call.code = worst.code
    reply = worst.response(call.request_id, faults, extra)
    waits = [wait for _, error in failed if (wait := retry_after(error)) is not None]
    if waits:
        header = retry_after_header(max(waits))
        reply.raw_headers = [h for h in reply.raw_headers if h[0] != header[0]] + [header]
    return reply
