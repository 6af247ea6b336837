"""The methods of GRPCInferenceService."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.json_format import ParseDict

from service.api.audit import audited, versions_of
from service.api.context import ApiContext
from service.errors import (
    InvalidInputError,
    ModelNotFoundError,
    ModelNotReadyError,
    ServiceError,
    ShuttingDownError,
)
from service.protocols.oip import describe
from service.protocols.oip.inference import InferCall, infer, parse_version, seconds_of
from service.protocols.oip.rpc.calls import SERVICE, Call, Serving, answering
from service.protocols.oip.rpc.messages import parse_call, pb, response, response_of
from service.protocols.oip.rpc.streaming import translated
from service.requests.answer import NotResidentError, found
from service.requests.pipeline import Pipeline
from service.tasks import Task

_Method = Callable[[Call, Any], Awaitable[Any]]


def is_ready(context: ApiContext) -> bool:
    """Return whether every wanted model can answer."""
    return not (
        context.lifecycle.shutting_down or context.registry.not_ready() or context.device_problem()
    )


def is_model_ready(context: ApiContext, model: str, version: str) -> bool:
    """Return whether a model can answer. Raises InvalidInputError."""
    try:
        context.registry.named(model, parse_version(version))
    except NotResidentError:  # a request loads it
        return True
    except (ModelNotFoundError, ModelNotReadyError):
        return False
    return True


async def _server_live(call: Call, message: Any) -> Any:
    return pb.ServerLiveResponse(live=True)


async def _server_ready(call: Call, message: Any) -> Any:
    return pb.ServerReadyResponse(ready=is_ready(call.context))


async def _model_ready(call: Call, message: Any) -> Any:
    ready = is_model_ready(call.context, message.name, message.version)
    return pb.ModelReadyResponse(ready=ready)


async def _server_metadata(call: Call, message: Any) -> Any:
    return pb.ServerMetadataResponse(**describe.SERVER)


async def _model_metadata(call: Call, message: Any) -> Any:
    return ParseDict(
        describe.metadata_of(await _pipeline(call, message)), pb.ModelMetadataResponse()
    )


async def _model_config(call: Call, message: Any) -> Any:
    config = dict(describe.config_of(await _pipeline(call, message)))
    config["model_transaction_policy"] = {"decoupled": False}
    return ParseDict({"config": config}, pb.ModelConfigResponse())


async def _model_statistics(call: Call, message: Any) -> Any:
    registry = call.context.registry
    pipelines = [await _pipeline(call, message)] if message.name else describe.serving(registry)
    found = {"model_stats": [describe.statistics_of(pipeline) for pipeline in pipelines]}
    return ParseDict(found, pb.ModelStatisticsResponse(), ignore_unknown_fields=True)


async def _repository_index(call: Call, message: Any) -> Any:
    found = {"models": describe.index_of(call.context.registry, message.ready)}
    return ParseDict(found, pb.RepositoryIndexResponse())


async def _load(call: Call, message: Any) -> Any:
    call.require_administrator()
    if message.parameters:
        raise InvalidInputError(
            "configurations and files are not taken from requests: put them into the repository"
        )
    model, registry = message.model_name, call.context.registry
    state = versions_of(registry, model)
    await audited(call.caller, "load", model, state, registry.load(model))
    return pb.RepositoryModelLoadResponse()


async def _unload(call: Call, message: Any) -> Any:
    call.require_administrator()
    model, registry = message.model_name, call.context.registry
    state = versions_of(registry, model)
    await audited(call.caller, "unload", model, state, registry.unload(model))
    return pb.RepositoryModelUnloadResponse()


async def _infer(call: Call, message: Any) -> Any:
    asked, context = parse_call(message), call.context
    request = call.request(seconds_of(asked.parameters))
    answer = response_of(await infer(context.registry, request, asked, context.limits))
    call.record.sent = answer.ByteSize()
    return answer


_METHODS: Final[Mapping[str, tuple[_Method, Any]]] = {
    "ServerLive": (_server_live, pb.ServerLiveRequest),
    "ServerReady": (_server_ready, pb.ServerReadyRequest),
    "ModelReady": (_model_ready, pb.ModelReadyRequest),
    "ServerMetadata": (_server_metadata, pb.ServerMetadataRequest),
    "ModelMetadata": (_model_metadata, pb.ModelMetadataRequest),
    "ModelInfer": (_infer, pb.ModelInferRequest),
    "ModelConfig": (_model_config, pb.ModelConfigRequest),
    "ModelStatistics": (_model_statistics, pb.ModelStatisticsRequest),
    "RepositoryIndex": (_repository_index, pb.RepositoryIndexRequest),
    "RepositoryModelLoad": (_load, pb.RepositoryModelLoadRequest),
    "RepositoryModelUnload": (_unload, pb.RepositoryModelUnloadRequest),
}
_PROBES: Final = frozenset({"ServerLive", "ServerReady", "ModelReady"})
"""Methods that need no key, as over REST."""


def handlers(serving: Serving) -> Any:
    """Return the handler of every method of the service."""
    methods = {
        name: grpc.unary_unary_rpc_method_handler(
            _unary(serving, name, act),
            request_deserializer=request.FromString,
            response_serializer=_serialized,
        )
        for name, (act, request) in _METHODS.items()
    }
    methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
        _stream(serving),
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=_serialized,
    )
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _unary(serving: Serving, name: str, act: _Method) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(message: Any, rpc: Any) -> Any:
        size, needs_key = message.ByteSize(), name not in _PROBES
        async with answering(serving, rpc, name, size=size, needs_key=needs_key) as call:
            return await act(call, message)

    return answer


def _stream(serving: Serving) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def answer(messages: Any, rpc: Any) -> AsyncIterator[Any]:
        async with answering(serving, rpc, "ModelStreamInfer", is_stream=True) as call:
            while (message := await _next(serving, messages)) is not None:
                call.record.received += message.ByteSize()
                async for one in _streamed(call, message):
                    yield one

    return answer


async def _next(serving: Serving, messages: Any) -> Any | None:
    """Return the next request of a stream; None at its end.

    Raises:
        ShuttingDownError: the server began to stop before there was one.
    """
    reading = asyncio.ensure_future(anext(messages, None))
    ending = asyncio.ensure_future(serving.ended.wait())
    try:
        await asyncio.wait([reading, ending], return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise ShuttingDownError("the service is shutting down")
        return reading.result()
    finally:
        reading.cancel()
        ending.cancel()
        del reading  # its exception refers to this frame


async def _streamed(call: Call, message: Any) -> AsyncIterator[Any]:
    """Yield the responses to one request of a stream; an error ends the request only."""
    try:
        asked = parse_call(message)
        named = partial(call.context.registry.named, asked.model, asked.version)
        pipeline = await found(named, call.request(seconds_of(asked.parameters)))
        if pipeline.task is Task.TRANSLATE:
            async for one in translated(call, asked):
                yield pb.ModelStreamInferResponse(infer_response=one)
            return
        yield pb.ModelStreamInferResponse(infer_response=await _whole(call, asked))
    except ServiceError as error:
        failed = pb.ModelInferResponse(id=message.id, model_name=message.model_name[:200])
        failed.parameters["triton_final_response"].bool_param = True
        text = str(error)
        del error
        yield pb.ModelStreamInferResponse(error_message=text, infer_response=failed)


async def _whole(call: Call, asked: InferCall) -> Any:
    context = call.context
    request = call.request(seconds_of(asked.parameters))
    result = await infer(context.registry, request, asked, context.limits)
    return response(result.model, result.version, result.id, result.outputs, is_final=True)


async def _pipeline(call: Call, message: Any) -> Pipeline[Any, Any]:
    named, version = call.context.registry.named, parse_version(message.version)
    return await found(partial(named, message.name, version), call.request())
