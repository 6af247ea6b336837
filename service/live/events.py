"""What happens in a live stream."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from service.errors import ServiceError
from service.live.readers import Skipped
from service.requests.pipeline import Outcome
from service.requests.video import VideoProgress
from service.transforms.spans import Span
from service.transforms.vision.frames import VideoInfo
from service.transforms.vision.tracking import Tracked
from service.types import ModelIdentity


class State(StrEnum):
    """What a stream does."""

    CONNECTING = "connecting"
    RUNNING = "running"
    WAITING = "waiting"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Changed:
    """The stream is in another state."""

    state: State
    error: ServiceError | None = None
    """Why it waits or has ended."""
    retry_in: float | None = None
    """Seconds, of one that waits."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A frame was analysed, or failed."""

    index: int
    seconds: float
    """Since the first frame of the connection."""
    result: Outcome[Any] | ServiceError
    tracked: Tracked | None
    """The objects with their ids, if they are followed."""
    age: float
    """Seconds from the reception of the frame to the result."""
    dropped: int
    """Frames that were dropped since the last one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The source sends frames."""

    info: VideoInfo
    model: ModelIdentity


LiveEvent: TypeAlias = Opened | Changed | LiveFrame | Span
ReadEvent: TypeAlias = LiveEvent | Skipped | VideoProgress
