"""The HTTP status of each error, and the errors that only HTTP has.

Every error response of this service is an `application/problem+json` (RFC 9457) with a stable
`code`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from service import errors
from service.errors import InvalidInputError, ServiceError

Header: TypeAlias = tuple[bytes, bytes]


class MalformedRequestError(InvalidInputError):
    """The request cannot be parsed: broken JSON, a broken form, a header that is not a number."""

    code = "malformed_request"


class RequestTimeoutError(ServiceError):
    """The body did not arrive before the request's deadline."""

    code = "request_timeout"


class NotImplementedHereError(ServiceError):
    """The request uses a part of HTTP that this server does not implement."""

    code = "not_implemented"


class HttpVersionError(ServiceError):
    """The request uses a version of HTTP that this server does not support."""

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
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.RateLimitedError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.QuotaExceededError: HTTPStatus.FORBIDDEN,
    errors.AdministrationDisabledError: HTTPStatus.FORBIDDEN,
    errors.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    errors.StreamNotFoundError: HTTPStatus.NOT_FOUND,
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
    errors.InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_LONGEST_ECHO = 40
"""Characters of a client's own key that a message repeats."""

HTTP_ERROR = "http_error"
"""Code of an error that the framework raised and that has no code of its own."""

FRAMEWORK: Mapping[int, tuple[str, str]] = {
    HTTPStatus.NOT_FOUND: ("not_found", "there is nothing at this path"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "this path does not accept this method"),
}
"""Code and detail of the framework's errors by status."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a client sees it."""

    status: HTTPStatus
    code: str
    detail: str
    headers: Sequence[Header] = field(default=())
    retry_after: float | None = None
    """Seconds after which the same request may succeed; `headers` has it in whole seconds."""

    @classmethod
    def of(cls, error: ServiceError | HTTPException) -> "Problem":
        """Return the problem for an error."""
        if isinstance(error, ServiceError):
            headers = tuple(_headers(error))
            return cls(_status(error), error.code, str(error), headers, error.retry_after)
        status = HTTPStatus(error.status_code)
        code, detail = FRAMEWORK.get(status, (HTTP_ERROR, status.description))
        given = (error.headers or {}).items()
        return cls(status, code, detail, [(k.lower().encode(), v.encode()) for k, v in given])

    def members(self, request_id: str) -> dict[str, Any]:
        """Return the members that every problem has."""
        return {
            "type": f"urn:quartet:problem:{self.code}",
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.status.value,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }


def refusal(error: ValidationError, model: type[BaseModel]) -> InvalidInputError:
    """Return the error for the first invalid value."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:_LONGEST_ECHO]
    match first["type"]:
        case "json_invalid":
            return MalformedRequestError(first["msg"])
        case "model_type" | "dict_type":
            named = f"{where}:" if where else "the body"
            return InvalidInputError(f"{named} must be a JSON object")
        case "extra_forbidden":
            known = ", ".join(model.model_fields)
            return InvalidInputError(f"unknown key {where!r}; known are {known}")
        case _:
            problem = first["msg"].removeprefix("Value error, ")  # pydantic's, before our own
            return InvalidInputError(f"{where}: {problem}" if where else problem)


def retry_after_header(seconds: float) -> Header:
    """Return Retry-After in whole seconds, rounded up, and at least one."""
    return (b"retry-after", b"%d" % max(1, math.ceil(seconds)))


def _status(error: ServiceError) -> HTTPStatus:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _headers(error: ServiceError) -> Iterable[Header]:
    if error.retry_after is not None:
        yield retry_after_header(error.retry_after)
    if isinstance(error, errors.UnauthorizedError):
        yield (b"www-authenticate", b'Bearer realm="quartet"')
