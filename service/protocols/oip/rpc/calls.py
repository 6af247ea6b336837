"""One call over gRPC: its deadline, its key, its record, and the status of its errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import grpc

from service import errors
from service.access.caller import Caller
from service.api.context import ApiContext
from service.api.errors import Problem, retry_after_header
from service.api.header_values import cache_mode, key_in, priority, request_id_in
from service.api.http_request import new_id
from service.api.models import check_administrator
from service.cache.responses import CacheMode
from service.errors import OverloadedError, ServiceError, ShuttingDownError
from service.requests.answer import as_service_error
from service.requests.request import Request
from service.telemetry.record import RequestRecord
from service.telemetry.request_metrics import (
    GRPC_REQUEST_SECONDS,
    GRPC_REQUESTS,
)

SERVICE: Final = "inference.GRPCInferenceService"
_PROTOCOL: Final = "oip_grpc"
_LEFT = 499
_ROOM_SECONDS = 1.0
_SMALL_MESSAGE = 16 * 1024

_CODES: Final[Mapping[type[ServiceError], grpc.StatusCode]] = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.LimitExceededError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedMediaTypeError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelRequiredError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnauthorizedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.AdministrationDisabledError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ModelNotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReadyError: grpc.StatusCode.UNAVAILABLE,
    errors.ShuttingDownError: grpc.StatusCode.UNAVAILABLE,
    errors.DeviceUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.ConflictError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeviceMemoryError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ServiceError: grpc.StatusCode.INTERNAL,
}


@dataclass(slots=True)
class Serving:
    """What the calls of one server share."""

    context: ApiContext
    active: int = 0
    """Calls that are being answered."""
    arrived: int = 0
    """Calls since the start."""
    is_ending: bool = False
    """Whether new calls are refused, because the server stops."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the stop begins: streams that wait for a request end."""


def code_of(error: ServiceError) -> grpc.StatusCode:
    """Return the status of an error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


@dataclass(slots=True)
class Call:
    """A call that is being answered."""

    context: ApiContext
    headers: Mapping[bytes, bytes]
    """Metadata of the call, by lower-case name."""
    record: RequestRecord
    deadline: float
    """Absolute event loop time."""
    caller: Caller | None = None
    held: int = 0
    """Bytes of the message that are counted in the room for large bodies."""

    async def admit(self, size: int, *, is_ending: bool, needs_key: bool) -> None:
        """Check the key of a call and find room for its message. Raises ServiceError."""
        context = self.context
        if is_ending or context.lifecycle.shutting_down:
            raise ShuttingDownError("the service is shutting down")
        if size > _SMALL_MESSAGE:
            if not context.bodies.take(size, context.limits.max_bodies_bytes):
                raise OverloadedError("too many large messages at once", _ROOM_SECONDS)
            self.held = size
        if needs_key and context.access is not None:
            self.caller = context.access.caller(key_in(self.headers))
            self.record.key = self.caller.name
            await self.caller.begin()

    def release(self) -> None:
        """Give back the room for the message."""
        if self.held:
            self.context.bodies.give_back(self.held)
            self.held = 0

    def request(self, seconds: float | None = None) -> Request:
        """Return the request as the layers below take it.

        Args:
            seconds: an earlier deadline than the call's, from now.

        Raises:
            MalformedRequestError: a header is not what it has to be.
        """
        deadline = self.deadline
        if seconds is not None:
            deadline = min(deadline, asyncio.get_running_loop().time() + seconds)
        urgency, cache = 0, CacheMode.USE
        if (wished := self.headers.get(b"x-request-priority")) is not None:
            urgency = priority(wished)
        if (wished := self.headers.get(b"cache-control")) is not None:
            cache = cache_mode(wished)
        name = self.record.request_id
        sticky = self.headers.get(b"x-sticky-key", b"").decode("latin-1")
        return Request(name, deadline, urgency, cache, self.record, self.caller, sticky)

    def require_administrator(self) -> None:
        """Raise ServiceError unless the caller may load and unload models."""
        check_administrator(self.caller, self.context.admin_token, self.headers)


@asynccontextmanager
async def answering(
    serving: Serving,
    rpc: Any,
    method: str,
    *,
    size: int = 0,
    is_stream: bool = False,
    needs_key: bool = True,
) -> AsyncIterator[Call]:
    """Admit a call, end it with the status of the error that its block raises, and record it.

    Args:
        serving: limits, keys and models.
        rpc: the context of gRPC.
        method: name of the method; a constant.
        size: bytes of the message.
        is_stream: whether the call may last as long as a stream.
        needs_key: whether the key is checked, if there is a keys file; no for a probe.
    """
    context = serving.context
    call = _call(context, rpc, is_stream)
    record = call.record
    record.received = size
    status = grpc.StatusCode.OK
    serving.active += 1
    serving.arrived += 1
    try:
        await call.admit(size, is_ending=serving.is_ending, needs_key=needs_key)
        yield call
        record.status = HTTPStatus.OK
    except asyncio.CancelledError:
        record.status, record.code, status = _LEFT, "client_left", grpc.StatusCode.CANCELLED
        raise
    except Exception as error:
        # No variable of this frame may keep the error, whose traceback holds the frame.
        problem, status = _meaning(error, record.request_id)
        record.status, record.code = problem.status.value, problem.code
        await rpc.abort(status, problem.detail, _trailers(problem))
    finally:
        serving.active -= 1
        call.release()
        _ended(context, record, method, status)


def _trailers(problem: Problem) -> tuple[tuple[str, str], ...]:
    trailers = [("quartet-code", problem.code)]
    if problem.retry_after is not None:
        name, value = retry_after_header(problem.retry_after)
        trailers.append((name.decode(), value.decode()))
    return tuple(trailers)


def _call(context: ApiContext, rpc: Any, is_stream: bool) -> Call:
    headers = {
        key.encode(): value if isinstance(value, bytes) else value.encode()
        for key, value in rpc.invocation_metadata() or ()
    }
    limits = context.limits
    longest = limits.stream_timeout_seconds if is_stream else limits.max_timeout_seconds
    default = limits.stream_timeout_seconds if is_stream else limits.request_timeout_seconds
    left = rpc.time_remaining()
    seconds = default if left is None else min(left, longest)
    name = request_id_in(headers) or new_id()
    record = RequestRecord(name, time.perf_counter(), "POST", "grpc", "2", headers, _PROTOCOL)
    return Call(context, headers, record, asyncio.get_running_loop().time() + seconds)


def _meaning(error: Exception, request_id: str) -> tuple[Problem, grpc.StatusCode]:
    known = as_service_error(error, request_id)
    return Problem.of(known), code_of(known)


def _ended(
    context: ApiContext, record: RequestRecord, method: str, status: grpc.StatusCode
) -> None:
    seconds = time.perf_counter() - record.started
    GRPC_REQUESTS.labels(method, status.name).inc()
    GRPC_REQUEST_SECONDS.labels(method).observe(seconds)
    if context.observer is not None:
        context.observer.ended(record, f"/{SERVICE}/{method}", seconds)
