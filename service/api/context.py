"""What the HTTP border is given by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass, field

from service.api.body_room import BodyRoom
from service.api.limits import ApiLimits
from service.registry import Registry
from service.telemetry.record import RequestObserver


@dataclass(slots=True)
class Lifecycle:
    """Whether this process still takes new work. The composition root sets it."""

    shutting_down: bool = False


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything the routes need; nothing else reaches them."""

    registry: Registry
    lifecycle: Lifecycle
    limits: ApiLimits = field(default_factory=ApiLimits)
    admin_token: str | None = None
    """Without one nobody may load or unload models."""
    observer: RequestObserver | None = None
    """Hears of every request that has ended."""
    device_problem: Callable[[], str | None] = lambda: None
    """Says why the device computes nothing, if it does not."""
    bodies: BodyRoom = field(default_factory=BodyRoom)
