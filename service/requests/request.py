"""One request without its transport: its deadline, its priority, and the model it selects."""

from dataclasses import dataclass, field

from service.access.caller import Caller
from service.cache.responses import CacheMode
from service.telemetry.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Request:
    """How to handle the items of a request. Nothing in it changes an answer.

    A transport makes it, and cancels the coroutine that it awaits when its client disconnects.
    """

    id: str = ""
    """Appears in the log."""
    deadline: float | None = None
    """Absolute event loop time after which the answer is of no use."""
    priority: int = 0
    """Requests with a higher priority are computed first."""
    cache: CacheMode = CacheMode.USE
    record: RequestRecord = field(default_factory=RequestRecord)
    """What telemetry will know about the request. `answer` and streams fill in their part."""
    caller: Caller | None = None
    """Whose key it has; None without a keys file. `answer` and streams charge it for the items."""
    sticky: str = ""
    """Requests of the same value get the same of several versions; with "", the id decides."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which model to ask."""

    model: str | None = None
    """None selects the default model of the task and modality."""
    version: int | None = None
    """None selects the version that serves."""
