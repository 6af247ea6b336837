"""Who is told of an ended request, in order: the traces, then the access log."""

import logging
from typing import Protocol

from service.telemetry.access import AccessLog
from service.telemetry.record import EndedRequest

_log = logging.getLogger(__name__)


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
