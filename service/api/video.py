"""POST /v1/video: a video file to the labels, objects or vectors of its frames, as a stream."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack, aclosing
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from service.api.classify import ScoredLabel, encode_classification
from service.api.content import TaskRequest, validated
from service.api.detect import FoundObject, Ratio, encode_detections
from service.api.embed import encode_embedding
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.openapi import ProblemBody
from service.api.streaming import LINES, EventBody, StreamReply, accepted_form
from service.api.uploads import Upload, UploadKind, receive_upload
from service.errors import ServiceError, ShuttingDownError
from service.requests.request import Selection
from service.requests.video import (
    Event,
    FrameResult,
    ToItem,
    Video,
    VideoAnalysis,
    VideoEnd,
    VideoProgress,
    VideoStart,
)
from service.tasks import ClassifyItem, DetectItem, EmbedItem, Task
from service.transforms.vision.frames import Sampling, VideoReader

UPLOAD = UploadKind("video", (b"video/", b"image/gif", b"application/octet-stream"))

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class VideoRequest(TaskRequest):
    """The fields of the form other than the file, or the parameters of the query."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["detect", "classify", "embed"] = Field(
        "detect", description="What to do with each frame."
    )
    fps: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None, description="At most this many frames per second of the video. The default is all."
    )
    every: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Analyse each n-th frame; excludes `fps`."
    )
    start: Seconds = Field(0.0, description="Second of the video to begin at.")
    end: Seconds | None = Field(None, description="Second of the video to end before.")
    threshold: Ratio | None = Field(None, description="Lowest score of an object.")
    iou: Ratio | None = Field(
        None, description="Boxes of the same label that overlap more than this are one object."
    )
    max_detections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="How many objects of a frame to return, best first."
    )
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many labels of a frame to return, best first."
    )

    @model_validator(mode="after")
    def _agrees(self) -> "VideoRequest":
        if self.fps is not None and self.every is not None:
            raise ValueError("give either fps or every")
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        return self

    @property
    def sampling(self) -> Sampling:
        """Return which frames to analyse."""
        return Sampling(self.fps, self.every, self.start, self.end)

    @property
    def to_item(self) -> ToItem:
        """Return what makes an item of a frame."""
        match self.task:
            case "detect":
                chosen = (self.threshold, self.iou, self.max_detections)
                return lambda frame: DetectItem(frame, *chosen)
            case "classify":
                return lambda frame: ClassifyItem(frame, self.top_k)
            case "embed":
                return EmbedItem


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


class VideoFrame(BaseModel):
    """A frame was analysed. One member holds the result, by the task."""

    event: Literal["frame"]
    index: int = Field(description="Number of the frame in the video, from 0.")
    time: float = Field(description="Seconds from the beginning of the video.")
    width: int | None = None
    height: int | None = None
    objects: list[FoundObject] | None = Field(None, description="Of detect.")
    labels: list[ScoredLabel] | None = Field(None, description="Of classify.")
    embedding: list[float] | None = Field(None, description="Of embed.")


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
    complete: bool = Field(description="Whether all wanted frames were analysed.")


VIDEO_EVENTS: tuple[type[BaseModel], ...] = (
    VideoBeginning,
    VideoFrame,
    VideoHeartbeat,
    VideoFault,
    VideoEnding,
)

_ENCODE: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "detect": encode_detections,
    "classify": encode_classification,
    "embed": encode_embedding,
}


async def analyse_video(request: HttpRequest) -> Response:
    """Label, detect objects in, or embed the frames of a video file.

    The file is sent as the field `video` of a form, or as the body with its own Content-Type; then
    the parameters are in the query. The response is a stream of events: lines of JSON, or
    server-sent events if the Accept header asks for them.
    """
    context, limits = request.context, request.context.limits
    request.become_stream()
    with ExitStack() as stack:
        context.videos.take(limits.max_videos)
        stack.callback(context.videos.give_back)
        upload = await receive_upload(request, UPLOAD, limits.max_video_bytes, limits.video_folder)
        stack.callback(upload.remove)
        body = validated(upload.values, VideoRequest)
        analysis = await _opened(request, body, upload, stack)
        events = _bodies(request, analysis, body.task)
        return StreamReply(request, events, accepted_form(request) or LINES, stack.pop_all())


async def _opened(
    request: HttpRequest, body: VideoRequest, upload: Upload, stack: ExitStack
) -> VideoAnalysis:
    """Open the video and hold its model. Raises ServiceError."""
    limits = request.context.limits
    selection = Selection(body.model, body.version)
    pipeline = request.context.registry.find(
        Task(body.task), "image", selection.model, selection.version
    )
    if request.caller is not None:
        await request.caller.spend(pipeline.task, (pipeline.model.name,), [])
    stack.enter_context(pipeline.held())
    open_reader = partial(VideoReader, upload.path, limits.max_pixels)
    video = stack.enter_context(await request.while_connected(Video.open(open_reader)))
    upload.remove()  # it stays on the disk until the reader has closed it
    return VideoAnalysis(
        request.without_transport(),
        video,
        pipeline,
        body.sampling,
        body.to_item,
        limits.request_timeout_seconds,
    )


async def _bodies(
    request: HttpRequest, analysis: VideoAnalysis, task: str
) -> AsyncGenerator[EventBody, None]:
    """Yield every event as a JSON object."""
    try:
        async with aclosing(analysis.events()) as events:
            async for event in events:
                for body in _rendered(request, analysis, task, event):
                    yield body
    except asyncio.CancelledError:
        if not request.is_given_up:
            raise
        # The client is still connected, and what is left to send does not wait for anything.
        error = ShuttingDownError("the service stopped before the end of the video")
        for body in _rendered(request, analysis, task, analysis.end(error)):
            yield body


def _rendered(
    request: HttpRequest, analysis: VideoAnalysis, task: str, event: Event
) -> list[EventBody]:
    match event:
        case VideoStart(info):
            model = analysis.pipeline.model
            return [
                {
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
            ]
        case FrameResult(frame, result):
            place = {"index": frame.index, "time": round(frame.seconds, 6)}
            if isinstance(result, ServiceError):
                return [{"event": "error", **place, **_problem(request, result)}]
            return [{"event": "frame", **place, **_ENCODE[task](result.answer)}]
        case VideoProgress(frames, seconds):
            return [{"event": "progress", "frames": frames, "seconds": seconds}]
        case VideoEnd():
            end = {
                "event": "end",
                "frames": event.progress.frames,
                "failed": event.failed,
                "seconds": event.progress.seconds,
                "elapsed": event.elapsed,
                "complete": event.error is None and not event.failed,
            }
            if event.error is None:
                return [end]
            return [{"event": "error", **_problem(request, event.error)}, end]


def _problem(request: HttpRequest, error: ServiceError) -> Mapping[str, Any]:
    return Problem.of(error).members(request.request_id)
