"""The record of one request, and the protocol of what receives it when the request has ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.types import ModelIdentity


@dataclass(slots=True)
class Timings:
    """Where an item's time went, in seconds."""

    cache: float = 0.0
    preprocess: float = 0.0
    queue: float = 0.0
    compute: float = 0.0
    postprocess: float = 0.0


def longest(timings: Sequence[Timings]) -> Timings:
    """Return the longest of each step, of items that ran at the same time."""
    if len(timings) == 1:
        return timings[0]
    found = Timings()
    for each in timings:
        for step in Timings.__slots__:
            setattr(found, step, max(getattr(found, step), getattr(each, step)))
    return found


PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes that monitoring requests every few seconds."""


@dataclass(slots=True)
class RequestRecord:
    """What telemetry knows about a request. The transport fills it in while it answers."""

    request_id: str = ""
    started: float = 0.0
    """When the head of the request arrived, on the clock of `time.perf_counter`."""
    method: str = ""
    scheme: str = "http"
    protocol_version: str = "1.1"
    metadata: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    """Headers by lower-case name. Only the trace context of the caller is read from them."""
    protocol: str = "native"
    """Name of the protocol that the client speaks; a constant of `service/protocols/`."""
    status: int = 0
    """Of the response; 499 if the client disconnected, 0 if nothing was sent for another reason."""
    code: str = "ok"
    """`ok`, or the code of the error in the response."""
    detail: str = ""
    """Which limit was reached, for an `overloaded` response. Contains no text of the client."""
    model: ModelIdentity | None = None
    client: str | None = None
    """Address of the client; None unless the operator asks for it by trusting proxies."""
    key: str | None = None
    """Name of the key in the keys file; None without one."""
    item_count: int = 0
    segment_count: int = 0
    """Segments answered, of texts that were split."""
    first_seconds: float | None = None
    """Seconds from `started` to the first segment of a stream."""
    cache: str | None = None
    """Value of the `X-Cache` header."""
    received: int = 0
    """Bytes of the request body that were read."""
    sent: int = 0
    """Bytes of the response body."""
    read_at: float = 0.0
    """When the body had been read, on the clock of `started`; 0 if it was not read."""
    timings: Timings | None = None
    """None unless an item was answered."""


class RequestObserver(Protocol):
    """Receives every request that has ended, on the event loop."""

    def ended(self, request: RequestRecord, route: str, seconds: float) -> None:
        """Record a request. Must be quick, and raises nothing.

        Args:
            request: the record, complete.
            route: the template of the path.
            seconds: from the arrival of the request's head until now.
        """
        ...
