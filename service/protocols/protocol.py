"""What every protocol has: routes, errors, and a way to ask the models.

A protocol parses a body to items, calls `answer_items` and renders the answers. Section "Where to
add a protocol" of ARCHITECTURE.md lists the steps.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from service.api.content import validated
from service.api.errors import Header, Problem
from service.api.http_request import HttpRequest
from service.api.openapi import reference
from service.api.parameters import TASK_HEADERS
from service.api.replies import Reply, answer_request
from service.api.route import DirectRoute, Endpoint, KeyPlace
from service.errors import ServiceError, error_from, fields_of
from service.protocols.bodies import Body, Reading, read_body
from service.protocols.documentation import any_of, identifier, path_parameters, responses
from service.requests.answer import Answers, Ask, ask_pipeline
from service.requests.request import Selection
from service.tasks import AnyItem, Task

_NO_MODEL = "default/not-specified"
"""What infinity's client sends if its caller names no model."""


class ProtocolBody(BaseModel):
    """The body of a request: unknown keys are ignored, and forms may hold numbers as text."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Protocol:
    """The protocol of another service."""

    name: str
    """Value of the label `protocol` of metrics, and tag in the OpenAPI document."""
    error: type[BaseModel]
    """Schema of every error body."""
    render_error: Callable[[Problem], Reply]
    """Return an error in the protocol's own shape. The media type is `application/json`."""
    reading: Reading = field(default_factory=Reading)
    """How its bodies are read."""
    key_of: Callable[[Mapping[str, Any]], str | None] | None = None
    """Return the key in a body, form or query, if the protocol puts it there."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of a protocol that takes a body."""

    protocol: Protocol
    answer: Callable[[HttpRequest, Body], Awaitable[Response]]
    """Answer a request. Its docstring is the description in the OpenAPI document."""
    request: type[BaseModel]
    """Schema of the body. The names of schemas are unique in the whole service."""
    response: type[BaseModel]
    """Schema of the response with status 200; a `RootModel` if it is not an object."""
    example: Mapping[str, Any]
    """A body that the starter models answer."""
    claims: Callable[[Mapping[str, Any]], bool] = lambda values: True
    """Tells whether a body belongs to this operation, where several share a path."""
    path_example: Mapping[str, str] = field(default_factory=dict)
    """Values of the parameters in the path."""


class ProtocolRoute(DirectRoute):
    """A route of one protocol, or of several whose bodies differ in their keys."""

    def __init__(
        self, path: str, endpoint: Endpoint, protocols: Sequence[Protocol], **documentation: Any
    ) -> None:
        first = protocols[0].name
        super().__init__(path, endpoint, tags=[first], **documentation)
        self._protocols = protocols

    def refuse(self, request: HttpRequest, problem: Problem) -> Reply:
        """Return an error in the shape of the request's protocol, else of the route's last one."""
        name, last = request.record.protocol, self._protocols[-1]
        protocol = next((each for each in self._protocols if each.name == name), last)
        request.record.protocol = protocol.name
        return protocol.render_error(problem)


def post(path: str, *operations: Operation) -> ProtocolRoute:
    """Return a route that passes the body to the first operation that claims it.

    Args:
        path: template of the path; `{model:path}` also takes names with a slash.
        operations: the last one takes the bodies that no other claims.
    """
    *others, last = operations
    first = operations[0]

    async def endpoint(request: HttpRequest) -> Response:
        request.record.protocol = last.protocol.name
        body = await read_body(request, first.protocol.reading)
        if (key_of := first.protocol.key_of) is not None:
            await request.authenticate(key_of(body.values))
        chosen = next((each for each in others if each.claims(body.values)), last)
        request.record.protocol = chosen.protocol.name
        return await chosen.answer(request, body)

    content = {
        "schema": any_of([each.request for each in operations]),
        "examples": {
            f"{each.protocol.name} {number}": {"value": each.example}
            for number, each in enumerate(operations, start=1)
        },
    }
    route = ProtocolRoute(
        path,
        endpoint,
        [each.protocol for each in operations],
        key_place="headers" if first.protocol.key_of is None else "endpoint",
        methods=["POST"],
        operation_id=identifier("post", path),
        description="\n\n".join(each.answer.__doc__ or "" for each in operations),
        responses=responses(
            [each.response for each in operations], [each.protocol.error for each in operations]
        ),
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": content}},
            "parameters": [*TASK_HEADERS, *path_parameters(path, first.path_example)],
        },
    )
    route.schemas = [
        schema
        for each in operations
        for schema in (each.request, each.response, each.protocol.error)
    ]
    return route


def get(
    path: str,
    protocol: Protocol,
    endpoint: Endpoint,
    response: type[BaseModel],
    path_example: Mapping[str, str] | None = None,
    key_place: KeyPlace = "headers",
) -> ProtocolRoute:
    """Return a route without a body.

    Args:
        path: template of the path.
        protocol: renders the errors.
        endpoint: its docstring is the description in the OpenAPI document.
        response: schema of the response with status 200.
        path_example: values of the parameters in the path.
        key_place: where the key of a request is; "none" for a probe.
    """
    more = {"methods": ["GET"], "key_place": key_place}
    return _route(path, protocol, endpoint, response, path_example or {}, **more)


def post_unread(
    path: str,
    protocol: Protocol,
    endpoint: Endpoint,
    bodies: tuple[type[BaseModel], type[BaseModel]],
    path_example: Mapping[str, str],
    example: Mapping[str, Any],
) -> ProtocolRoute:
    """Return a route whose function reads its body; `bodies`: schemas of body and response."""
    request, response = bodies
    route = _route(path, protocol, endpoint, response, path_example, methods=["POST"])
    content = {"schema": reference(request), "example": example}
    route.openapi_extra = {
        "requestBody": {"required": True, "content": {"application/json": content}},
        "parameters": [*TASK_HEADERS, *path_parameters(path, path_example)],
    }
    route.schemas = [*route.schemas, request]
    return route


def _route(
    path: str,
    protocol: Protocol,
    endpoint: Endpoint,
    response: type[BaseModel],
    path_example: Mapping[str, str],
    **more: Any,
) -> ProtocolRoute:
    async def answer(request: HttpRequest) -> Response:
        request.record.protocol = protocol.name
        return await endpoint(request)

    route = ProtocolRoute(
        path,
        answer,
        [protocol],
        operation_id=identifier(more["methods"][0].lower(), path),
        description=endpoint.__doc__,
        responses=responses([response], [protocol.error]),
        openapi_extra={"parameters": path_parameters(path, path_example)},
        **more,
    )
    route.schemas = [response, protocol.error]
    return route


def selected(model: str | None) -> Selection:
    """Return the model that a body names, if it does."""
    return Selection(model if model and model != _NO_MODEL else None)


def parsed(body: Body, model: type[BodyT]) -> BodyT:
    """Return the body as `model`. Raises InvalidInputError."""
    return validated(body.values, model)


async def answer_items(
    request: HttpRequest,
    task: Task,
    selection: Selection,
    items: Sequence[AnyItem | ServiceError],
    ask: Ask = ask_pipeline,
    *,
    noun: str = "input",
) -> Answers:
    """Answer every item, for a protocol that has no way to report a failed item with the others.

    Args:
        request: its body must have been read.
        task: the task of every item.
        selection: the model to ask.
        items: in order; an item that could not be parsed is given as its error.
        ask: asks a pipeline for one item.
        noun: what the protocol calls an item, for the message of an error.

    Raises:
        ServiceError: the worst error of an item, with its index; or no model can answer.
        ClientDisconnect: the client disconnected; the work is cancelled.
    """
    return complete(await answer_request(request, task, selection, items, ask), noun)


def complete(answers: Answers, noun: str) -> Answers:
    """Return the answers. Raises ServiceError: the worst error of an item, with its index."""
    if len(answers.outcomes) < len(answers.results):
        raise worst_error(answers, noun)
    return answers


def rendered(body: Any, answers: Answers | None = None) -> Reply:
    """Return a response with status 200; numpy arrays are written as lists."""
    cache = None if answers is None else answers.cache
    headers = [] if cache is None else [(b"x-cache", cache.encode())]
    return Reply(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), headers=headers)


def error_reply(
    problem: Problem, body: Mapping[str, Any], *headers: Header, status: int | None = None
) -> Reply:
    """Return an error.

    Args:
        problem: gives the status and headers such as Retry-After.
        body: the JSON object.
        headers: further headers.
        status: replaces the status of the problem.
    """
    return Reply(
        orjson.dumps(body),
        problem.status.value if status is None else status,
        headers=[*problem.headers, *headers],
    )


def worst_error(answers: Answers, noun: str) -> ServiceError:
    """Return the error of the highest status, with the index of its item in the message.

    At least one item failed.
    """
    failed = [
        (Problem.of(result).status, -index)
        for index, result in enumerate(answers.results)
        if isinstance(result, ServiceError)
    ]
    index = -max(failed)[1]
    error = answers.results[index]
    assert isinstance(error, ServiceError)  # noqa: S101 - for mypy
    if len(answers.results) == 1:
        return error_from(fields_of(error))
    return error_from({**fields_of(error), "message": f"{noun} {index}: {error}"})
