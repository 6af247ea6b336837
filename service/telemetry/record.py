"""A request that has ended, and who wants to hear of it."""

from collections.abc import Mapping
from typing import Any, Protocol

from service.telemetry.timings import Timings
from service.types import ModelIdentity

PROBES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes that are asked every few seconds, by machines, whatever happens."""


class EndedRequest(Protocol):
    """What the HTTP border knows of a request in the end. To be read during the call only."""

    @property
    def request_id(self) -> str:
        """Return the id that the response carried."""
        ...

    @property
    def scope(self) -> Mapping[str, Any]:
        """Return the request's head in the form of ASGI."""
        ...

    @property
    def status(self) -> int:
        """Return the status; 499 if the client left, 0 if nothing was sent for another reason."""
        ...

    @property
    def code(self) -> str:
        """Return "ok", or the code of the problem that was answered."""
        ...

    @property
    def detail(self) -> str:
        """Return which limit an overloaded service was at; empty for other requests."""
        ...

    @property
    def model(self) -> ModelIdentity | None:
        """Return who was to answer; None where no model was asked."""
        ...

    @property
    def item_count(self) -> int:
        """Return how many items were asked for."""
        ...

    @property
    def segment_count(self) -> int:
        """Return how many pieces of split texts were answered; 0 where none was split."""
        ...

    @property
    def first_seconds(self) -> float | None:
        """Return the time to the first piece of a stream; None if it had none, or was none."""
        ...

    @property
    def cache(self) -> str | None:
        """Return what `X-Cache` said."""
        ...

    @property
    def received(self) -> int:
        """Return the bytes of the body that was read."""
        ...

    @property
    def sent(self) -> int:
        """Return the bytes of the body that was answered."""
        ...

    @property
    def started(self) -> float:
        """Return when its head had come, as `time.perf_counter` says it."""
        ...

    @property
    def read_at(self) -> float:
        """Return when the body had been read, likewise; 0 if it was not."""
        ...

    @property
    def timings(self) -> Timings | None:
        """Return where the time went; None unless something was answered."""
        ...


class RequestObserver(Protocol):
    """Hears of every request that has ended, on the event loop."""

    def ended(self, request: EndedRequest, route: str, seconds: float) -> None:
        """Take note of a request. Quick, and raises nothing.

        Args:
            request: what is known of it.
            route: the template of its path.
            seconds: from the arrival of its head to now.
        """
        ...
