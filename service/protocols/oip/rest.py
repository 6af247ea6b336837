"""The routes of the protocol over REST."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, RootModel

from service.api.audit import audited, versions_of
from service.api.errors import MalformedRequestError, Problem
from service.api.http_request import HttpRequest
from service.api.models import require_administrator
from service.api.replies import Reply
from service.api.route import KeyPlace
from service.errors import InvalidInputError
from service.protocols.oip import describe
from service.protocols.oip.inference import (
    InferCall,
    InferResult,
    infer,
    parse_version,
    raw_inputs,
    seconds_of,
)
from service.protocols.oip.rest_messages import (
    OipInferBody,
    OipInferResponse,
    parse_call,
    parse_object,
    render_result,
)
from service.protocols.protocol import Protocol, ProtocolRoute, error_reply, get, post_unread
from service.requests.answer import NotResidentError, found
from service.requests.pipeline import Pipeline

_LENGTH = b"inference-header-content-length"
_ON_LOOP = 256 * 1024
"""Bytes of a body that is parsed on the event loop; a longer one on a thread."""
"""`Retry-After` of a process that has no room for a body."""
_MODEL = "/v2/models/{model:path}"
_VERSION = _MODEL + "/versions/{version}"


class OipError(BaseModel):
    """An error of the Open Inference Protocol."""

    error: str


class OipObject(RootModel[dict[str, Any]]):
    """An object of the Open Inference Protocol."""


class OipIndex(RootModel[list[dict[str, Any]]]):
    """The versions of models, with their states."""


def render_error(problem: Problem) -> Reply:
    """Return `{"error": ...}`; an invalid input has status 400, as Triton answers it."""
    status = problem.status.value
    return error_reply(
        problem,
        {"error": problem.detail},
        status=400 if status == 422 else status,  # noqa: PLR2004
    )


OIP = Protocol("oip", OipError, render_error)


async def show_server(request: HttpRequest) -> Reply:
    """Show the name of the server and the extensions of the protocol that it supports."""
    return _json(describe.SERVER)


async def show_live(request: HttpRequest) -> Reply:
    """Answer 200 as long as the process can answer at all."""
    return _json({"live": True})


async def show_ready(request: HttpRequest) -> Reply:
    """Answer 200 when every wanted model can answer, else 503."""
    context = request.context
    is_ready = not (
        context.lifecycle.shutting_down or context.registry.not_ready() or context.device_problem()
    )
    return _json({"ready": is_ready}, 200 if is_ready else 503)


async def show_model_ready(request: HttpRequest) -> Reply:
    """Answer 200 when the model can answer."""
    name = request.path_params["model"]
    with suppress(NotResidentError):  # a request loads it
        request.context.registry.named(name, _version(request))
    return _json({"name": name, "ready": True})


async def show_metadata(request: HttpRequest) -> Reply:
    """Show the inputs and outputs of a model."""
    return _json(describe.metadata_of(await _pipeline(request)))


async def show_config(request: HttpRequest) -> Reply:
    """Show the configuration of a model as Triton does."""
    return _json(describe.config_of(await _pipeline(request)))


async def show_statistics(request: HttpRequest) -> Reply:
    """Show what a model, or every model, has answered."""
    if "model" in request.path_params:
        pipelines: Sequence[Pipeline[Any, Any]] = [await _pipeline(request)]
    else:
        pipelines = describe.serving(request.context.registry)
    return _json({"model_stats": [describe.statistics_of(one) for one in pipelines]})


async def show_index(request: HttpRequest) -> Reply:
    """List the versions of models, with their states."""
    asked = parse_object(await request.read_body())
    return _json(describe.index_of(request.context.registry, asked.get("ready") is True))


async def load_model(request: HttpRequest) -> Reply:
    """Load the newest version of a model and swap it in; for administrators."""
    require_administrator(request)
    asked = parse_object(await request.read_body())
    if asked.get("parameters"):
        raise InvalidInputError(
            "configurations and files are not taken from requests: put them into the repository"
        )
    model, registry = request.path_params["model"], request.context.registry
    state = versions_of(registry, model)
    await audited(request.caller, "load", model, state, registry.load(model))
    return _json({})


async def unload_model(request: HttpRequest) -> Reply:
    """Take a model out of service; for administrators."""
    require_administrator(request)
    parse_object(await request.read_body())
    model, registry = request.path_params["model"], request.context.registry
    state = versions_of(registry, model)
    await audited(request.caller, "unload", model, state, registry.unload(model))
    return _json({})


async def infer_model(request: HttpRequest) -> Reply:
    """Run a model on tensors.

    Texts and images for the models of the tasks are BYTES: `text` or `image` of shape [n].
    """
    context, asked = request.context, request.without_transport()
    name, version = request.path_params["model"], _version(request)
    with suppress(NotResidentError):  # clients that ask for what is not there need no valid body
        context.registry.named(name, version)
    header_length = _header_length(request)
    body = await request.read_body()
    if header_length == 0:
        call = InferCall(name, version, inputs=raw_inputs(await _pipeline(request), body))
    elif len(body) <= _ON_LOOP:
        call = parse_call(name, version, body, header_length)
    else:
        call = await asyncio.to_thread(parse_call, name, version, body, header_length)
    del body
    if call.parameters and (seconds := seconds_of(call.parameters)) is not None:
        until = asyncio.get_running_loop().time() + seconds
        request.deadline = min(request.deadline, until)
        asked = replace(asked, deadline=request.deadline)
    work = infer(context.registry, asked, call, context.limits)
    result = await request.while_connected(work)
    return await _rendered(request, result, call, True if header_length == 0 else None)


async def _rendered(
    request: HttpRequest, result: InferResult, call: InferCall, is_binary: bool | None
) -> Reply:
    size = sum(array.nbytes for array in result.outputs.values())
    if size <= _ON_LOOP:
        body, length = render_result(result, call, is_binary)
    else:
        body, length = await asyncio.to_thread(render_result, result, call, is_binary)
    headers = []
    content_type = b"application/json"
    if length is not None:
        content_type = b"application/octet-stream"
        headers.append((_LENGTH, b"%d" % length))
    if result.answers.cache is not None:
        headers.append((b"x-cache", result.answers.cache.encode()))
    return Reply(body, content_type=content_type, headers=headers)


def _header_length(request: HttpRequest) -> int | None:
    given = request.given.get(_LENGTH)
    if given is None:
        return None
    if not (given.isdigit() and len(given) < 12):  # noqa: PLR2004
        raise MalformedRequestError("Inference-Header-Content-Length is not a number of bytes")
    return int(given)


def _version(request: HttpRequest) -> int | None:
    return parse_version(request.path_params.get("version"))


async def _pipeline(request: HttpRequest) -> Pipeline[Any, Any]:
    named = request.context.registry.named
    find = partial(named, request.path_params["model"], _version(request))
    return await found(find, request.without_transport())


def _json(body: Mapping[str, Any] | Sequence[Any], status: int = 200) -> Reply:
    return Reply(orjson.dumps(body), status)


def _key_place(ending: str) -> KeyPlace:
    return "none" if ending == "/ready" else "headers"


_STARTER = {"model": "news-topics", "version": "1"}
_EXAMPLE = {
    "inputs": [
        {
            "name": "text",
            "datatype": "BYTES",
            "shape": [1],
            "data": ["Central bank raises interest rates again"],
        }
    ]
}


def oip_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    shown = {
        "": show_metadata,
        "/ready": show_model_ready,
        "/config": show_config,
        "/stats": show_statistics,
    }
    bodies = (OipInferBody, OipInferResponse)
    repository = "/v2/repository/"
    plain = (OipObject, OipObject)
    return [
        get("/v2", OIP, show_server, OipObject),
        get("/v2/health/live", OIP, show_live, OipObject, key_place="none"),
        get("/v2/health/ready", OIP, show_ready, OipObject, key_place="none"),
        get("/v2/models/stats", OIP, show_statistics, OipObject),
        post_unread(repository + "index", OIP, show_index, (OipObject, OipIndex), {}, {}),
        *(
            post_unread(f"{repository}models/{{model:path}}/{name}", OIP, act, plain, _STARTER, {})
            for name, act in {"load": load_model, "unload": unload_model}.items()
        ),
        *(
            post_unread(f"{path}/infer", OIP, infer_model, bodies, _STARTER, _EXAMPLE)
            for path in (_VERSION, _MODEL)
        ),
        # A name may hold a slash, so the paths with more behind the name come first.
        *(
            get(path + ending, OIP, show, OipObject, _STARTER, _key_place(ending))
            for ending, show in sorted(shown.items(), reverse=True)
            for path in (_VERSION, _MODEL)
        ),
    ]
