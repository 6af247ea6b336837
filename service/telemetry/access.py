"""The access log: one line per request, up to a number of lines per second.

A line contains nothing that a client wrote, except a request id of safe characters: no text, no
path and no header. It has the client's address only if `server.forwarded_allow_ips` is set.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from service.telemetry.record import PROBES, RequestRecord, Timings

_log = logging.getLogger(__name__)


_STEPS = tuple(Timings.__slots__)
_MICROSECONDS = 6


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """How many lines to write per second."""

    requests_per_second: int
    """Lines about requests that succeeded."""
    failures_per_second: int
    """Lines about requests that failed or were slow."""
    slow_seconds: float


class Allowance:
    """Grants a number of lines per second and counts the lines it refuses."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._until = 0.0
        self._left = 0
        self._refused = 0

    def take(self, now: float) -> int | None:
        """Return the number refused since the last grant, or None to refuse this one too."""
        if now >= self._until:
            self._until, self._left = now + 1.0, self._per_second
        if not self._left:
            self._refused += 1
            return None
        self._left -= 1
        refused, self._refused = self._refused, 0
        return refused


class AccessLog:
    """Writes lines about ended requests, as many per second as its options allow."""

    def __init__(self, options: AccessOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._slow = options.slow_seconds
        self._ordinary = Allowance(options.requests_per_second)
        self._notable = Allowance(options.failures_per_second)
        self._clock = clock

    def ended(
        self, request: RequestRecord, route: str, seconds: float, trace_id: str | None
    ) -> None:
        """Write a line, or count the request in the `unlogged` field of the next line of its kind.

        Probes that succeed are neither logged nor counted.
        """
        is_good = HTTPStatus.OK <= request.status < HTTPStatus.BAD_REQUEST
        failed = not is_good or request.code != "ok"  # a stream says 200 before it fails
        # The duration of a stream depends on its text, so its time to the first segment counts.
        if failed or (request.first_seconds or seconds) >= self._slow:
            allowance = self._notable
        elif route in PROBES:
            return
        else:
            allowance = self._ordinary
        if (unlogged := allowance.take(self._clock())) is None:
            return
        # A probe that fails while models load is expected; a failed load logs an event of its own.
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
    """Return whether the service, not the client, caused this status."""
    return not status or status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500  # noqa: PLR2004


# Fields of a line that are left out when there is nothing to say, and where each comes from.
_KNOWN = {
    "detail": "detail",
    "key": "key",
    "client": "client",
    "items": "item_count",
    "segments": "segment_count",
}


def _fields(request: RequestRecord, route: str, seconds: float) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "request_id": request.request_id,
        "method": request.method,
        "route": route,
        "status": request.status,
        "outcome": request.code,
        "seconds": round(seconds, _MICROSECONDS),
    }
    fields |= {name: value for name in _KNOWN if (value := getattr(request, _KNOWN[name]))}
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
    """Exports traces."""

    def ended(self, request: RequestRecord, route: str, seconds: float) -> str | None:
        """Record a request, and return its trace id if it has one."""
        ...

    def close(self) -> None:
        """Export what is pending, within a few seconds. Blocking."""
        ...


class Telemetry:
    """Passes ended requests to the access log and to traces; catches what they raise."""

    def __init__(self, access: AccessLog | None, traces: Traces | None) -> None:
        self._access = access
        self._traces = traces

    def ended(self, request: RequestRecord, route: str, seconds: float) -> None:
        """Record a request. Raises nothing."""
        try:
            traces, access = self._traces, self._access
            trace_id = None if traces is None else traces.ended(request, route, seconds)
            if access is not None:
                access.ended(request, route, seconds, trace_id)
        except Exception:  # the response has been sent; only this record is lost
            _log.exception("request not recorded", extra={"request_id": request.request_id})
