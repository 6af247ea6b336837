"""What goes wrong, as HTTP says it: the only place that knows both.

Every refusal of this service is an `application/problem+json` (RFC 9457) with a stable `code`.
"""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service import errors
from service.errors import DeviceMemoryError, InvalidInputError, ServiceError

Header: TypeAlias = tuple[bytes, bytes]


class Reply(Response):
    """Starlette's response without what it would work out again: headers, length, encoding."""

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


logger = logging.getLogger(__name__)


class MalformedRequestError(InvalidInputError):
    """The request cannot even be read: broken JSON, broken form, a header that is no number."""

    code = "malformed_request"


class RequestTimeoutError(ServiceError):
    """The body did not arrive before the request's deadline."""

    code = "request_timeout"


class NotImplementedHereError(ServiceError):
    """The request asks for a part of HTTP that this server does not have."""

    code = "not_implemented"


class HttpVersionError(ServiceError):
    """The request is of a version of HTTP that is not spoken here."""

    code = "http_version_not_supported"


STATUS: Mapping[type[ServiceError], HTTPStatus] = {
    ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    MalformedRequestError: HTTPStatus.BAD_REQUEST,
    RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    NotImplementedHereError: HTTPStatus.NOT_IMPLEMENTED,
    HttpVersionError: HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    errors.InvalidInputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.LimitExceededError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.AdministrationDisabledError: HTTPStatus.FORBIDDEN,
    errors.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.ModelRequiredError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ModelNotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelLoadError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.OverloadedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceededError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.ShuttingDownError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeviceUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeviceMemoryError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.InferenceError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

HTTP_ERROR = "http_error"
"""Code of what the framework refuses for a reason of its own."""

INTERNAL_ERROR = "internal_error"
"""Code of whatever was not foreseen: a bug."""

_MEMORY_DETAIL = "the process had no memory left for this request"
_INTERNAL_DETAIL = "this is a fault of the service; its log has more under the request id"
FRAMEWORK: Mapping[int, tuple[str, str]] = {
    HTTPStatus.NOT_FOUND: ("not_found", "there is nothing at this path"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "this path does not take that method"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One item of a request that could not be answered."""

    index: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a client sees it."""

    status: HTTPStatus
    code: str
    detail: str
    headers: Sequence[Header] = field(default=())

    @classmethod
    def of(cls, error: Exception) -> "Problem":
        """Return what to tell a client about any exception; nothing internal leaks."""
        match error:
            case ServiceError():
                return cls(_status(error), error.code, str(error), tuple(_headers(error)))
            case HTTPException():
                status = HTTPStatus(error.status_code)
                code, detail = FRAMEWORK.get(status, (HTTP_ERROR, status.description))
                headers = (error.headers or {}).items()
                return cls(
                    status, code, detail, [(k.lower().encode(), v.encode()) for k, v in headers]
                )
            case MemoryError():
                return cls.of(DeviceMemoryError(_MEMORY_DETAIL))
            case _:
                return cls(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL_ERROR, _INTERNAL_DETAIL)

    def members(self, request_id: str) -> dict[str, Any]:
        """Return what every problem says."""
        return {
            "type": f"urn:quartet:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status.value,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }

    def response(
        self,
        request_id: str,
        faults: Sequence[Fault] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Return the problem+json; `extra` are further members of it."""
        body = self.members(request_id)
        if faults:
            body["errors"] = faults
        return Reply(
            orjson.dumps(body | dict(extra or {}), option=orjson.OPT_SERIALIZE_NUMPY),
            self.status.value,
            b"application/problem+json",
            self.headers,
        )


def log_unexpected(error: Exception, request_id: str) -> None:
    """Record what will be answered by a bare `internal_error`; others are told to the client."""
    if isinstance(error, MemoryError):  # in one line: its traceback would hold what memory there is
        logger.error(_MEMORY_DETAIL, extra={"request_id": request_id})
    elif not isinstance(error, ServiceError | HTTPException):
        logger.error("request failed", exc_info=error, extra={"request_id": request_id})


def retry_after(error: Exception) -> float | None:
    """Return after how many seconds the request may succeed, where that is known."""
    if isinstance(error, MemoryError):
        return DeviceMemoryError.retry_after
    return error.retry_after if isinstance(error, ServiceError) else None


def retry_after_header(seconds: float) -> Header:
    """Return Retry-After in whole seconds, rounded up and at least one."""
    return (b"retry-after", b"%d" % max(1, math.ceil(seconds)))


def _status(error: ServiceError) -> HTTPStatus:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _headers(error: ServiceError) -> Iterable[Header]:
    if error.retry_after is not None:
        yield retry_after_header(error.retry_after)
    if isinstance(error, errors.UnauthorizedError):
        yield (b"www-authenticate", b'Bearer realm="quartet"')
