"""What a trace says of a request: which stages, when, and under which names. Knows no SDK."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from service.pipeline import Timings
from service.telemetry.record import EndedRequest

BILLION = 1_000_000_000

Attributes: TypeAlias = dict[str, str | int]

_STEPS = tuple(Timings.__slots__)
_FIRST_SERVER_ERROR = 500
_FIRST_ERROR = 400
_LEFT = "client_left"


class Stage(NamedTuple):
    """One part of a request's time, in nanoseconds since 1970."""

    name: str
    start: int
    end: int


def stages(request: EndedRequest, start: int, end: int) -> Iterator[Stage]:
    """Return where a request's time went, laid end to end.

    The pipeline says how long each step took, not when it began: the steps follow one another
    from the moment the body had been read. Of several items the longest of each step is known;
    together they may be longer than the request was, and are cut off at its end.

    Args:
        request: what is known of it.
        start: when its head had come, in nanoseconds since 1970.
        end: when it ended.
    """
    if not request.read_at:
        return
    at = min(end, start + int((request.read_at - request.started) * BILLION))
    yield Stage("receive", start, at)
    if request.timings is None:
        return
    for step in _STEPS:
        spent = int(getattr(request.timings, step) * BILLION)
        if spent > 0:
            until = min(end, at + spent)
            yield Stage(step, at, until)
            at = until


def attributes(request: EndedRequest, route: str) -> Attributes:
    """Return what is said of a request, by OpenTelemetry's conventions where they have a name.

    The path, the query, the headers and the address of the client are left out: a client may
    have put into them what is nobody's business.
    """
    scope = request.scope
    said: Attributes = {
        "http.request.method": scope["method"],
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
        "http.request.body.size": request.received,
        "http.response.body.size": request.sent,
        "quartet.request_id": request.request_id,
        "quartet.outcome": request.code,
        "quartet.items": request.item_count,
    }
    if route.startswith("/"):  # the path matched one
        said["http.route"] = route
    if request.status and request.code != _LEFT:
        said["http.response.status_code"] = request.status
    if request.status >= _FIRST_ERROR or not request.status:
        said["error.type"] = request.code
    if request.model is not None:
        said["quartet.model.name"] = request.model.name
        said["quartet.model.version"] = request.model.version
    if request.cache is not None:
        said["quartet.cache"] = str(request.cache)
    return said


def is_error(request: EndedRequest) -> bool:
    """Tell whether the service failed; who asked for too much, or left, is no error of a server."""
    return not request.status or request.status >= _FIRST_SERVER_ERROR
