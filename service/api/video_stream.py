"""The events of a video as JSON objects."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.api.classify import ScoredLabel, encode_classification
from service.api.detect import FoundObject, encode_detections
from service.api.embed import encode_embedding
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.openapi import ProblemBody
from service.api.run import encode_results, with_ids
from service.api.streaming import EventBody, steps
from service.errors import ServiceError, ShuttingDownError
from service.requests.video import (
    Event,
    FrameResult,
    VideoAnalysis,
    VideoEnd,
    VideoProgress,
    VideoStart,
)
from service.requests.workflow import StepResults
from service.tasks import Classification
from service.transforms.spans import Span
from service.transforms.vision.frames import VideoInfo
from service.transforms.vision.tracking import Tracked
from service.types import ModelIdentity


class VideoBeginning(BaseModel):
    """The first event of a stream."""

    event: Literal["start"]
    model: str
    version: int
    container: str = Field(description="Format of the file, by FFmpeg's name.")
    codec: str
    width: int = Field(description="Pixels of a frame, after rotation.")
    height: int
    fps: float | None = Field(description="Frames per second on average.")
    frames: int | None = Field(description="Frames in the file, if its header says so.")
    seconds: float | None = Field(description="Duration, if the header says so.")


class TrackedObject(FoundObject):
    """An object; its id is null until it was seen in three frames, and absent without `track`."""

    id: int | None = None


class VideoFrame(BaseModel):
    """A frame was analysed. One member holds the result, by the task."""

    event: Literal["frame"]
    index: int = Field(description="Number of the frame in the video, from 0.")
    time: float = Field(description="Seconds from the beginning of the video.")
    width: int | None = None
    height: int | None = None
    objects: list[TrackedObject] | None = Field(None, description="Of detect.")
    entered: list[int] | None = Field(None, description="Of track: ids of new objects.")
    left: list[int] | None = Field(None, description="Of track: ids not seen for two seconds.")
    labels: list[ScoredLabel] | None = Field(None, description="Of classify.")
    embedding: list[float] | None = Field(None, description="Of embed.")
    steps: dict[str, dict[str, Any]] | None = Field(
        None, description="Of a workflow: as in the results of `/v1/run`."
    )
    failed: int | None = Field(None, description="Of a workflow: steps that failed.")


class VideoSegment(BaseModel):
    """A time in which one label was the best. Sent when it has ended."""

    event: Literal["segment"]
    label: str
    start: float = Field(description="Seconds from the beginning of the video.")
    end: float
    score: float = Field(description="Mean score of the label in its frames.")


class VideoHeartbeat(BaseModel):
    """Nothing else was sent for some seconds."""

    event: Literal["progress"]
    frames: int = Field(description="Frames analysed so far.")
    seconds: float = Field(description="Time in the video of the last one.")


class VideoFault(ProblemBody):
    """A frame that failed, or the error that ended the stream early."""

    event: Literal["error"]
    index: int | None = Field(None, description="Of the frame; absent for the video itself.")
    time: float | None = None


class VideoEnding(BaseModel):
    """The last event of a stream."""

    event: Literal["end"]
    frames: int = Field(description="Frames analysed.")
    failed: int = Field(description="Frames that failed.")
    seconds: float = Field(description="Time in the video of the last frame.")
    elapsed: float = Field(description="Seconds since the arrival of the request.")
    longest: dict[str, float] = Field(description="Longest seconds of each step over all frames.")
    complete: bool = Field(description="Whether all wanted frames were analysed.")
    counts: dict[str, int] | None = Field(None, description="Of track: objects by label.")
    entries: int | None = Field(None, description="Of track: objects that came.")
    exits: int | None = Field(None, description="Of track: objects that left before the end.")


VIDEO_EVENTS: tuple[type[BaseModel], ...] = (
    VideoBeginning,
    VideoFrame,
    VideoSegment,
    VideoHeartbeat,
    VideoFault,
    VideoEnding,
)

_ENCODE: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "detect": encode_detections,
    "classify": encode_classification,
    "embed": encode_embedding,
}


async def bodies(
    request: HttpRequest, analysis: VideoAnalysis, task: str, top_k: int | None
) -> AsyncGenerator[EventBody, None]:
    """Yield every event as a JSON object."""
    render = _Renderer(request, analysis, task, top_k)
    try:
        async with aclosing(analysis.events()) as events:
            async for event in events:
                for rendered in render(event):
                    yield rendered
    except asyncio.CancelledError:
        if not request.is_given_up:
            raise
        # The client is still connected, and what is left to send does not wait for anything.
        error = ShuttingDownError("the service stopped before the end of the video")
        for rendered in render(analysis.end(error)):
            yield rendered


@dataclass(frozen=True, slots=True)
class _Renderer:
    """Makes the JSON objects of each event of a stream."""

    request: HttpRequest
    analysis: VideoAnalysis
    task: str
    top_k: int | None

    def __call__(self, event: Event) -> Sequence[EventBody]:
        match event:
            case VideoStart(info):
                return [start_body(self.analysis.pipeline.model, info)]
            case FrameResult():
                return [self._frame(event)]
            case Span():
                return [{"event": "segment", **asdict(event)}]
            case VideoProgress():
                return [{"event": "progress", **asdict(event)}]
            case VideoEnd(error=error):
                end = self._end(event)
                return [end] if error is None else [{"event": "error", **self._problem(error)}, end]

    def _frame(self, event: FrameResult) -> EventBody:
        place = {"index": event.frame.index, "time": round(event.frame.seconds, 6)}
        if isinstance(event.result, ServiceError):
            return {"event": "error", **place, **self._problem(event.result)}
        members = answer_members(event.result.answer, event.tracked, self.task, self.top_k)
        return {"event": "frame", **place, **members}

    def _end(self, event: VideoEnd) -> EventBody:
        tracker = self.analysis.tracker
        followed = {}
        if tracker is not None:
            counts = dict(tracker.counts.most_common())
            followed = {"counts": counts, "entries": tracker.entries, "exits": tracker.exits}
        return {
            "event": "end",
            "frames": event.progress.frames,
            "failed": event.failed,
            "seconds": event.progress.seconds,
            "elapsed": event.elapsed,
            "longest": steps(event.timings),
            "complete": event.error is None and not event.failed,
            **followed,
        }

    def _problem(self, error: ServiceError) -> Mapping[str, Any]:
        return Problem.of(error).members(self.request.request_id)


def start_body(model: ModelIdentity, info: VideoInfo) -> EventBody:
    """Return the event that says what comes."""
    return {
        "event": "start",
        "model": model.name,
        "version": model.version,
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "fps": info.rate,
        "frames": info.frames,
        "seconds": info.seconds,
    }


def answer_members(
    answer: Any, tracked: Tracked | None, task: str, top_k: int | None
) -> Mapping[str, Any]:
    """Return the answer for a frame as members of its event.

    Args:
        answer: of the model, or the results of a workflow.
        tracked: the objects with their ids, if they are followed.
        task: what was asked of the model.
        top_k: how many labels to show; None shows all.
    """
    came_and_went = {}
    if tracked is not None:
        came_and_went = {"entered": tracked.entered, "left": tracked.left}
    if isinstance(answer, StepResults):
        return {**encode_results(answer, tracked), **came_and_went}
    if tracked is not None:
        members = _ENCODE[task](replace(answer, objects=tuple(tracked.objects)))
        return {**members, "objects": with_ids(tracked, members["objects"]), **came_and_went}
    if isinstance(answer, Classification):
        answer = replace(answer, labels=answer.labels[:top_k])
    return _ENCODE[task](answer)
