"""The access log: a line a request as long as there are few, and every failure that fits.

Nothing that a client wrote is in a line, but for a request id of sane letters: no text, no path,
no header, no address.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from service.telemetry.record import PROBES, EndedRequest
from service.telemetry.timings import Timings

_log = logging.getLogger(__name__)


_STEPS = tuple(Timings.__slots__)
_MICROSECONDS = 6


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """How many lines of which requests."""

    requests_per_second: int
    """Of requests that went well."""
    failures_per_second: int
    """Of those that failed, or were slow."""
    slow_seconds: float


class Allowance:
    """Grants so many a second, and counts what it refuses."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._until = 0.0
        self._left = 0
        self._refused = 0

    def take(self, now: float) -> int | None:
        """Return how many were refused since the last grant; None if this one is refused too."""
        if now >= self._until:
            self._until, self._left = now + 1.0, self._per_second
        if not self._left:
            self._refused += 1
            return None
        self._left -= 1
        refused, self._refused = self._refused, 0
        return refused


class AccessLog:
    """Writes of ended requests as many as its options allow."""

    def __init__(self, options: AccessOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._slow = options.slow_seconds
        self._ordinary = Allowance(options.requests_per_second)
        self._notable = Allowance(options.failures_per_second)
        self._clock = clock

    def ended(
        self, request: EndedRequest, route: str, seconds: float, trace_id: str | None
    ) -> None:
        """Write a line, or count the request as left out in the next line of its kind.

        A probe that went well is not even counted.
        """
        is_good = HTTPStatus.OK <= request.status < HTTPStatus.BAD_REQUEST
        failed = not is_good or request.code != "ok"  # a stream says 200 before it fails
        # A stream takes as long as its text is: it was slow if it was slow to begin.
        if failed or (request.first_seconds or seconds) >= self._slow:
            allowance = self._notable
        elif route in PROBES:
            return
        else:
            allowance = self._ordinary
        if (unlogged := allowance.take(self._clock())) is None:
            return
        # That models are not loaded yet is no news of its own; that one failed has its own event.
        warns = _is_ours(request.status) and route not in PROBES
        level = logging.WARNING if warns else logging.INFO
        if not _log.isEnabledFor(level):
            return
        fields = _fields(request, route, seconds)
        if trace_id is not None:
            fields["trace_id"] = trace_id
        if unlogged:
            fields["unlogged"] = unlogged
        _log.log(level, "request", extra=fields)


def _is_ours(status: int) -> bool:
    """Tell whether a status says that the service, not its client, could not."""
    return not status or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500  # noqa: PLR2004


def _fields(request: EndedRequest, route: str, seconds: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "method": request.scope["method"],
        "route": route,
        "status": request.status,
        "outcome": request.code,
        "seconds": round(seconds, _MICROSECONDS),
    }
    if request.detail:
        fields["detail"] = request.detail
    if request.item_count:
        fields["items"] = request.item_count
    if request.segment_count:
        fields["segments"] = request.segment_count
    if request.first_seconds is not None:
        fields["first_seconds"] = round(request.first_seconds, _MICROSECONDS)
    fields |= {"received": request.received, "sent": request.sent}
    if request.model is not None:
        fields |= {"model": request.model.name, "version": request.model.version}
    if request.cache is not None:
        fields["cache"] = str(request.cache)
    if request.timings is not None:
        fields |= _split(request.timings)
    return fields


def _split(timings: Timings) -> Mapping[str, float]:
    return {f"{step}_seconds": round(getattr(timings, step), _MICROSECONDS) for step in _STEPS}


class Traces(Protocol):
    """Where traces go."""

    def ended(self, request: EndedRequest, route: str, seconds: float) -> str | None:
        """Take note of a request; return the id of its trace, if it has one."""
        ...

    def close(self) -> None:
        """Let go of what was noted, within a few seconds. Blocking."""
        ...


class Telemetry:
    """Tells both, or the one there is, and lets no request suffer from it."""

    def __init__(self, access: AccessLog | None, traces: Traces | None) -> None:
        self._access = access
        self._traces = traces

    def ended(self, request: EndedRequest, route: str, seconds: float) -> None:
        """Take note of a request. Raises nothing."""
        try:
            traces, access = self._traces, self._access
            trace_id = None if traces is None else traces.ended(request, route, seconds)
            if access is not None:
                access.ended(request, route, seconds, trace_id)
        except Exception:  # its answer has been sent; that it is not told of is all that is lost
            _log.exception("request not recorded", extra={"request_id": request.request_id})
