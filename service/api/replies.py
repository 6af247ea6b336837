"""Responses of routes: the answers of a task, or the problem, as JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from service.api.codings import deflated, is_compressible, preferred
from service.api.content import TaskRequest
from service.api.errors import Header, Problem, retry_after_header
from service.api.http_request import HttpRequest
from service.errors import ServiceError
from service.requests.answer import Answers, Ask, answer, ask_pipeline
from service.requests.pipeline import Outcome
from service.requests.request import Selection
from service.tasks import AnyItem, Task


class Reply(Response):
    """A response with its final headers. Starlette's class would compute them again."""

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        content_type: bytes = b"application/json",
        headers: Iterable[Header] = (),
    ) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]


async def compress(reply: Response, accepted: bytes, least: int) -> None:
    """Compress the body of a response, if its client accepts that.

    Streams stay as they are, and so do images, videos and what does not become shorter.

    Args:
        reply: the response, which is changed.
        accepted: the header Accept-Encoding.
        least: bytes of the shortest body that is compressed; 0 means none.
    """
    if not least or not isinstance(reply, Reply) or len(reply.body) < least:
        return
    headers = dict(reply.raw_headers)
    if not is_compressible(headers[b"content-type"]):
        return
    coding, body = preferred(accepted), bytes(reply.body)
    packed = body if coding is None else await deflated(body, coding)
    reply.raw_headers.append((b"vary", b"accept-encoding"))
    if coding is None or len(packed) >= len(body):
        return
    reply.body = packed
    changed = {b"content-length": b"%d" % len(packed)}
    if (tag := headers.get(b"etag", b"W/")) and not tag.startswith(b"W/"):
        changed[b"etag"] = b"W/" + tag  # equal in meaning, not in bytes
    reply.raw_headers = [(name, changed.get(name, value)) for name, value in reply.raw_headers]
    reply.raw_headers.append((b"content-encoding", coding))


async def task_reply(  # noqa: PLR0913
    request: HttpRequest,
    task: Task,
    body: TaskRequest,
    items: Sequence[AnyItem | ServiceError],
    encode: Callable[[Any], Mapping[str, Any]],
    head: Callable[[Sequence[Any]], Mapping[str, Any]] | None = None,
    *,
    ask: Ask = ask_pipeline,
) -> Reply:
    """Answer every item of a task request.

    Args:
        request: its body must have been read.
        task: the task of the route.
        body: names the model, if it is not the default one.
        items: in order; an item that could not be parsed is given as its error.
        encode: makes the JSON object of one answer.
        head: makes the members of the response that describe all answers together.
        ask: asks a pipeline for one item.

    Returns:
        The answers in order. If some items failed, a problem with the status of the worst error,
        with one entry in `errors` for each failed item and the answers of the others.

    Raises:
        ServiceError: no model can answer the request.
        ClientDisconnect: the client disconnected; the work is cancelled.
    """
    selection = Selection(body.model, body.version)
    answers = await answer_request(request, task, selection, items, ask)
    return answers_reply(request, answers, encode, head)


def answers_reply(
    request: HttpRequest,
    answers: Answers,
    encode: Callable[[Any], Mapping[str, Any]],
    head: Callable[[Sequence[Any]], Mapping[str, Any]] | None = None,
) -> Reply:
    """Return the answers of a task request as `task_reply` describes it."""
    members: dict[str, Any] = {}
    if answers.model is not None and answers.outcomes:
        members = {"model": answers.model.name, "version": answers.model.version}
        if head is not None:
            members |= head([outcome.answer for outcome in answers.outcomes])
        members["results"] = [
            encode(result.answer) if isinstance(result, Outcome) else None
            for result in answers.results
        ]
    return results_reply(request, answers, members)


def results_reply(request: HttpRequest, answers: Answers, members: Mapping[str, Any]) -> Reply:
    """Return the members of a response, as a problem if an item failed."""
    if answers.cache is None:
        return _failure_reply(request, answers, members)
    cache = (b"x-cache", answers.cache.encode())
    return Reply(orjson.dumps(members, option=orjson.OPT_SERIALIZE_NUMPY), headers=[cache])


async def answer_request(
    request: HttpRequest,
    task: Task,
    selection: Selection,
    items: Sequence[AnyItem | ServiceError],
    ask: Ask = ask_pipeline,
) -> Answers:
    """Answer every item while the client is connected; see `service.requests.answer.answer`.

    Raises:
        ServiceError: no model can answer the request.
        ClientDisconnect: the client disconnected; the work is cancelled.
    """
    work = answer(
        request.context.registry, request.without_transport(), task, selection, items, ask
    )
    return await request.while_connected(work)


def problem_reply(
    request: HttpRequest, problem: Problem, members: Mapping[str, Any] | None = None
) -> Reply:
    """Return a problem as `application/problem+json`, and note its code for telemetry.

    Args:
        request: the request that failed.
        problem: the error.
        members: further members of the JSON object.
    """
    request.record.code = problem.code
    body = problem.members(request.request_id) | dict(members or {})
    return Reply(
        orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
        problem.status.value,
        b"application/problem+json",
        problem.headers,
    )


def _failure_reply(request: HttpRequest, answers: Answers, members: Mapping[str, Any]) -> Reply:
    failed = [
        (index, error)
        for index, error in enumerate(answers.results)
        if isinstance(error, ServiceError)
    ]
    problems = [Problem.of(error) for _, error in failed]
    faults = [
        {"index": index, "code": problem.code, "detail": problem.detail}
        for (index, _), problem in zip(failed, problems, strict=True)
    ]
    worst = max(problems, key=lambda problem: problem.status)  # the first of the worst
    reply = problem_reply(request, worst, {"errors": faults, **members})
    waits = [error.retry_after for _, error in failed if error.retry_after is not None]
    if waits:
        header = retry_after_header(max(waits))
        reply.raw_headers = [h for h in reply.raw_headers if h[0] != header[0]] + [header]
    return reply
