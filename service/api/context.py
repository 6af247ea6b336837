"""What the routes need besides the request."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import CollectorRegistry

from service.access.access import Access
from service.live.streams import LiveStreams
from service.registry.registry import Registry
from service.requests.admission import ApiLimits, BodyRoom, VideoRoom
from service.telemetry.record import RequestObserver

AGE = "quartet.age"
"""Key in the ASGI scope of a request that another process has received: the seconds since then."""

GUILTY = "quartet.guilty"
"""Key in the ASGI scope of a request that has ended other processes, and must not be computed."""


@dataclass(slots=True)
class Lifecycle:
    """Whether this process still accepts requests. `serve_command` sets it at a stop."""

    shutting_down: bool = False
    stop_beside: Callable[[float], Awaitable[None]] | None = None
    """Stops the gRPC server within a number of seconds; None without one."""


class Quarantine(Protocol):
    """Knows the requests that have ended processes."""

    def check(self, path: str, body: bytes, is_guilty: bool) -> None:
        """Raise InferenceError for such a request; remember one that is found guilty."""
        ...


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything that the routes use."""

    registry: Registry
    lifecycle: Lifecycle
    limits: ApiLimits = field(default_factory=ApiLimits)
    admin_token: str | None = None
    """None disables loading and unloading models, unless a key of `access` may."""
    access: Access | None = None
    """The known keys; None asks for no key."""
    observer: RequestObserver | None = None
    """Receives the record of every request that has ended."""
    device_problem: Callable[[], str | None] = lambda: None
    """Returns why the device computes nothing, or None."""
    bodies: BodyRoom = field(default_factory=BodyRoom)
    videos: VideoRoom = field(default_factory=VideoRoom)
    cropped_images: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    """Bounds the images whose pixels workflows keep for their crops."""
    streams: LiveStreams = field(default_factory=LiveStreams)
    metrics: Callable[[], Awaitable[CollectorRegistry]] | None = None
    """Returns the metrics of all processes; None if there is only this one."""
    quarantine: Quarantine | None = None
    """Refuses requests that end processes; None if there is only this one."""
    root_path: str | None = None
    """Prefix of the paths that a proxy strips; None without one."""
