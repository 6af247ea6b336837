"""What can go wrong, as one tree.

ServiceError
├── InvalidInputError          the caller's fault; this request will never succeed
├── LimitExceededError         well formed, but over a limit (body, items, characters, pixels)
├── UnsupportedMediaTypeError  a body or an image of a kind we do not read
├── UnauthorizedError          a key or the administrator's token is missing or wrong
├── ForbiddenError             the key may not use this model, task or route
├── RateLimitedError           the key has sent too much; try again later
├── QuotaExceededError         the key has used up what it has for a day
├── AdministrationDisabledError  no administrator's token is set
├── ModelNotFoundError         no such model or version in the repository
├── ModelRequiredError         several models could answer, none is the default, none is named
├── ModelNotReadyError         known, but still loading, failed or being unloaded
├── ModelLoadError             a version could not be loaded; the old one keeps serving
├── ConflictError              cannot be done in the present state (a load is already running)
├── OverloadedError            the queue is full; try again later
├── DeadlineExceededError      not finished, or not to be finished, in time
├── ShuttingDownError          this process is stopping and takes nothing new
├── DeviceUnavailableError     the device asked for cannot be had
├── DeviceMemoryError          the device ran out of memory even for one item
├── InferenceError             the model raised; a bug or a bad artefact
└── InternalError              anything unexpected; a bug

An error says what happened (`code`), never which HTTP status that is.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

ErrorT = TypeVar("ErrorT", bound=BaseException)


class ServiceError(Exception):
    """Anything this service refuses or fails on purpose."""

    code: ClassVar[str] = "service_error"

    retry_after: float | None = None
    """Seconds after which the same request may succeed, where that is known."""


class InvalidInputError(ServiceError):
    """The input is malformed; sending it again will not help."""

    code = "invalid_input"


class LimitExceededError(ServiceError):
    """The input is over one of the limits."""

    code = "limit_exceeded"


class UnsupportedMediaTypeError(ServiceError):
    """The body or the image is of a kind that is not read here."""

    code = "unsupported_media_type"


class UnauthorizedError(ServiceError):
    """The key or the administrator's token is missing or wrong."""

    code = "unauthorized"


class ForbiddenError(ServiceError):
    """The key is known, but may not use this model, task or route."""

    code = "forbidden"


class RateLimitedError(ServiceError):
    """The key has sent too much in a second or a minute."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceededError(ServiceError):
    """The key has used up its quota of the day."""

    code = "quota_exceeded"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AdministrationDisabledError(ServiceError):
    """No administrator's token is set."""

    code = "administration_disabled"


class ModelNotFoundError(ServiceError):
    """No such model, version, or model for this task."""

    code = "model_not_found"


class StreamNotFoundError(ServiceError):
    """No such live stream."""

    code = "stream_not_found"


class ModelRequiredError(ServiceError):
    """The request names no model, and several could answer: name one of those in the message."""

    code = "model_required"


class ModelNotReadyError(ServiceError):
    """The model is known but cannot answer now."""

    code = "model_not_ready"


class ModelLoadError(ServiceError):
    """A version could not be loaded; the message says why."""

    code = "model_load_failed"


class ConflictError(ServiceError):
    """The action does not fit the present state."""

    code = "conflict"


class OverloadedError(ServiceError):
    """The queue is full, or large bodies have taken all their room."""

    code = "overloaded"

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceededError(ServiceError):
    """The answer would come, or came, too late."""

    code = "deadline_exceeded"


class ShuttingDownError(ServiceError):
    """The process is stopping."""

    code = "shutting_down"


class DeviceUnavailableError(ServiceError):
    """The device asked for is not here; never replaced by another in silence."""

    code = "device_unavailable"


class DeviceMemoryError(ServiceError):
    """There is no memory left for the request, on the device or in the process."""

    code = "device_memory"
    retry_after = 1.0


class InferenceError(ServiceError):
    """The model raised."""

    code = "inference_failed"


class InternalError(ServiceError):
    """An unexpected exception: a bug. The message has no details of it; the log has."""

    code = "internal_error"


def fields_of(error: ServiceError) -> dict[str, Any]:
    """Return an error as plain data: its code, its message, and its `retry_after` if it has one."""
    fields: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.retry_after is not None:
        fields["retry_after"] = error.retry_after
    return fields


def error_from(fields: Mapping[str, Any]) -> ServiceError:
    """Return the error that `fields_of` described.

    A subclass without a code of its own becomes the class whose code it has. Raises KeyError for
    an unknown code.
    """
    kind = _kinds()[fields["code"]]
    error = kind.__new__(kind, fields["message"])  # not __init__, which may take more arguments
    if "retry_after" in fields:
        error.retry_after = fields["retry_after"]
    return error


def _kinds(root: type[ServiceError] = ServiceError) -> dict[str, type[ServiceError]]:
    """Return a class and its subclasses by code."""
    kinds = {code: kind for child in root.__subclasses__() for code, kind in _kinds(child).items()}
    return {**kinds, root.code: root}


def is_panic(error: BaseException) -> bool:
    """Return whether Rust code panicked, such as `tokenizers`: what it raises is no Exception."""
    return type(error).__name__ == "PanicException"


def kept(error: ErrorT) -> ErrorT:
    """Return an exception without tracebacks, to be kept as a value: in a list, in a future.

    A traceback refers to frames, and they to their callers and to all values in them. If the list
    or the future is among these, the exception refers to itself, and only the garbage collector
    frees what the frames hold: the whole body of a request.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        if link.__suppress_context__:
            link.__context__ = None
        link = link.__cause__ or link.__context__
    return error


def renewed(error: ErrorT) -> ErrorT:
    """Return an equal exception, to raise one that is kept elsewhere too.

    One instance raised twice would mix its tracebacks, and refer to itself as `kept` says.
    """
    kind = type(error)
    fresh = kind.__new__(kind, *error.args)  # not __init__: it may take other arguments
    fresh.__dict__.update(error.__dict__)
    return fresh


def named(name: str, error: ErrorT) -> ErrorT:
    """Return an equal exception whose message begins with the name of what failed."""
    found = renewed(error)
    found.args = (f"{name}: {error}",)
    return found


def as_inference_error(error: Exception) -> ServiceError:
    """Return a ServiceError as it is, and anything else as an InferenceError."""
    if isinstance(error, ServiceError):
        return error
    failure = InferenceError(f"the model failed on this item: {error}")
    failure.__cause__ = kept(error)
    return failure
