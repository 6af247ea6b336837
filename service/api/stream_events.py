"""Live streams and their events as JSON objects."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.api.errors import Problem
from service.api.streaming import EventBody
from service.api.video_stream import (
    VideoBeginning,
    VideoFault,
    VideoFrame,
    VideoHeartbeat,
    VideoSegment,
    answer_members,
    start_body,
)
from service.errors import ServiceError
from service.live.events import Changed, LiveEvent, LiveFrame, Opened, ReadEvent, State
from service.live.readers import Reader, Skipped
from service.live.stream import LiveStream
from service.requests.video import VideoProgress
from service.transforms.spans import Span


class StreamFrames(BaseModel):
    """What became of the frames of a stream since it was made."""

    seen: int = Field(description="Received from the source, at the wanted rate.")
    analysed: int
    failed: int
    dropped: int = Field(description="Replaced by a newer one because the model was busy.")


class StreamSource(BaseModel):
    """What the source sends."""

    container: str
    codec: str
    width: int
    height: int
    fps: float | None = Field(description="Null if the source does not say.")


class StreamStatus(BaseModel):
    """A live stream."""

    id: str
    slot: int = Field(description="Label of its metrics; free again when the stream is deleted.")
    url: str = Field(description="Without user, password and query.")
    task: str | None = Field(description="Null with a workflow.")
    workflow: str | None
    model: str | None = Field(
        description="That answered last; of a workflow, the model of its first step."
    )
    version: int | None
    state: Literal["connecting", "running", "waiting", "ended"]
    since: str = Field(description="When the state began.")
    code: str | None = Field(description="Of the error because of which it waits.")
    detail: str | None
    retry_in: float | None = Field(description="Seconds from `since` to the next connection.")
    connections: int = Field(description="Attempts to connect to the source.")
    source: StreamSource | None
    frames: StreamFrames
    age: float | None = Field(description="Seconds from reception to result, of the last frame.")
    readers: int
    counts: dict[str, int] | None = Field(
        None, description="Of track: objects of the present connection by label."
    )


class StreamsResponse(BaseModel):
    """The live streams, the oldest first."""

    streams: list[StreamStatus]


class StreamFrame(VideoFrame):
    """A frame was analysed."""

    age: float = Field(description="Seconds from the reception of the frame to the result.")
    dropped: int = Field(description="Frames dropped since the last event of a frame.")


class StreamChange(BaseModel):
    """The stream is in another state."""

    event: Literal["state"]
    state: Literal["connecting", "running", "waiting"]
    code: str | None = None
    detail: str | None = None
    retry_in: float | None = None


class StreamSkipped(BaseModel):
    """The client read too slowly."""

    event: Literal["skipped"]
    events: int = Field(description="How many events it lost, the oldest.")


class StreamEnding(StreamFrames):
    """The stream was deleted, or the service stops."""

    event: Literal["end"]


STREAM_EVENTS: tuple[type[BaseModel], ...] = (
    StreamChange,
    VideoBeginning,
    StreamFrame,
    VideoSegment,
    VideoFault,
    VideoHeartbeat,
    StreamSkipped,
    StreamEnding,
)


def status_of(stream: LiveStream) -> Mapping[str, Any]:
    """Return a stream as a JSON object."""
    changed, model, opened = stream.changed, stream.model, stream.opened
    source = None
    if opened is not None:
        shown = start_body(opened.model, opened.info)
        source = {name: shown[name] for name in StreamSource.model_fields}
    return {
        "id": stream.id,
        "slot": stream.slot,
        "url": str(stream.address),
        "task": stream.work.task,
        "workflow": stream.work.workflow,
        "model": None if model is None else model.name,
        "version": None if model is None else model.version,
        "state": changed.state.value,
        "since": datetime.fromtimestamp(stream.since, UTC).isoformat(timespec="milliseconds"),
        **_reason(changed),
        "connections": stream.connections,
        "source": source,
        "frames": _frames(stream),
        "age": stream.age,
        "readers": len(stream.readers),
        "counts": None if stream.tracker is None else dict(stream.tracker.counts.most_common()),
    }


async def event_bodies(
    request_id: str, stream: LiveStream, reader: Reader[LiveEvent]
) -> AsyncGenerator[EventBody, None]:
    """Yield every event of a reader as a JSON object."""
    async with aclosing(stream.events(reader)) as events:
        async for event in events:
            yield _body(request_id, stream, event)


def _body(request_id: str, stream: LiveStream, event: ReadEvent) -> EventBody:
    match event:
        case Changed(state=State.ENDED):
            return {"event": "end", **_frames(stream)}
        case Changed():
            return {"event": "state", "state": event.state.value, **_reason(event)}
        case Opened():
            return start_body(event.model, event.info)
        case LiveFrame():
            return _frame(request_id, stream, event)
        case Span():
            return {"event": "segment", **asdict(event)}
        case VideoProgress() | Skipped():
            name = "skipped" if isinstance(event, Skipped) else "progress"
            return {"event": name, **asdict(event)}


def _frame(request_id: str, stream: LiveStream, event: LiveFrame) -> EventBody:
    place = {"index": event.index, "time": round(event.seconds, 6)}
    if isinstance(event.result, ServiceError):
        problem = Problem.of(event.result).members(request_id)
        return {"event": "error", **place, **problem}
    task, top_k = stream.work.task or "", stream.work.top_k
    members = answer_members(event.result.answer, event.tracked, task, top_k)
    late = {"age": round(event.age, 6), "dropped": event.dropped}
    return {"event": "frame", **place, **members, **late}


def _reason(changed: Changed) -> Mapping[str, Any]:
    problem = None if changed.error is None else Problem.of(changed.error)
    return {
        "code": None if problem is None else problem.code,
        "detail": None if problem is None else problem.detail,
        "retry_in": changed.retry_in,
    }


def _frames(stream: LiveStream) -> Mapping[str, int]:
    return {name: getattr(stream, name) for name in StreamFrames.model_fields}
