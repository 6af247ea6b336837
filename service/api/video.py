"""POST /v1/video: a video file to the labels, objects or vectors of its frames, as a stream."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from service.api.content import validated
from service.api.frame_options import FrameOptions
from service.api.http_request import HttpRequest
from service.api.run import open_run, workflow_of_frames
from service.api.streaming import LINES, StreamReply, accepted_form
from service.api.uploads import Upload, UploadKind, receive_upload
from service.api.video_stream import bodies
from service.requests.answer import found
from service.requests.open_video import Video
from service.requests.video import VideoAnalysis
from service.requests.workflow import tracked_from
from service.transforms.vision.frames import Sampling, VideoReader

UPLOAD = UploadKind(
    "video", (b"video/", b"image/gif", b"application/octet-stream"), frozenset({"labels"})
)

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class VideoRequest(FrameOptions):
    """The fields of the form other than the file, or the parameters of the query."""

    with_workflow = FrameOptions.with_workflow | {"every", "start", "end"}

    every: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Analyse each n-th frame; excludes `fps`."
    )
    start: Seconds = Field(0.0, description="Second of the video to begin at.")
    end: Seconds | None = Field(None, description="Second of the video to end before.")

    render: bool = Field(
        False,
        description="Of detect and classify: return the analysed frames as an MP4 video with the "
        "results drawn in.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.fps is not None and self.every is not None:
            raise ValueError("give either fps or every")
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if self.render and self.task == "embed":
            raise ValueError("render is of tasks detect and classify")
        return self

    @property
    def sampling(self) -> Sampling:
        """Return which frames to analyse."""
        return Sampling(self.fps, self.every, self.start, self.end)


async def analyse_video(request: HttpRequest) -> Response:
    """Label, detect objects in, or embed the frames of a video file.

    The file is sent as the field `video` of a form, or as the body with its own Content-Type; then
    the parameters are in the query. The response is a stream of events: lines of JSON, or
    server-sent events if the Accept header asks for them. With `render`, it is an MP4 video.
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
        if body.render:
            # Here, because drawing takes memory that most processes do not need.
            from service.api.video_render import MP4, Rendering  # noqa: PLC0415

            pieces = Rendering.of(analysis, body.top_k).pieces()
            return StreamReply(request, pieces, MP4, stack.pop_all())
        events = bodies(request, analysis, body.task, body.top_k)
        return StreamReply(request, events, accepted_form(request) or LINES, stack.pop_all())


async def _opened(
    request: HttpRequest, body: VideoRequest, upload: Upload, stack: ExitStack
) -> VideoAnalysis:
    """Open the video and hold its model. Raises ServiceError."""
    if body.workflow is not None:
        return await _opened_workflow(request, body, body.workflow, upload, stack)
    limits, without_transport = request.context.limits, request.without_transport()
    labels = body.given_labels(limits)
    key = without_transport.sticky or without_transport.id
    find = partial(request.context.registry.find, body.asked_task, "image")
    finding = found(partial(find, body.model, body.version, key), without_transport)
    pipeline = await request.while_connected(finding)
    if request.caller is not None:
        await request.caller.spend(body.asked_task, (pipeline.model.name,), [])
    stack.enter_context(pipeline.held())
    ask = await request.while_connected(body.asking(pipeline, without_transport, labels))
    video = await _opened_video(request, upload, stack)
    return VideoAnalysis(
        without_transport,
        video,
        body.asked_task,
        pipeline,
        body.sampling,
        body.to_item,
        limits.request_timeout_seconds,
        ask=ask,
        tracker=body.tracker(video.reader.info.rate),
        spans=body.spans,
    )


async def _opened_workflow(
    request: HttpRequest, body: VideoRequest, name: str, upload: Upload, stack: ExitStack
) -> VideoAnalysis:
    """Open the video and hold the models of a workflow. Raises ServiceError."""
    workflow, tracked = workflow_of_frames(request.context.registry.workflows, name, body.track)
    run = await request.while_connected(open_run(request, workflow, stack, tracked))
    video = await _opened_video(request, upload, stack)
    return VideoAnalysis(
        run.request,
        video,
        run.first.task,
        run.first,
        body.sampling,
        lambda frame: frame,
        request.context.limits.request_timeout_seconds,
        ask=run.ask,
        tracker=body.tracker(video.reader.info.rate, tracked_from(workflow, tracked)),
        charges=False,
    )


async def _opened_video(request: HttpRequest, upload: Upload, stack: ExitStack) -> Video:
    """Open the video until the stack is closed. Raises ServiceError."""
    open_reader = partial(VideoReader, upload.path, request.context.limits.max_pixels)
    opening = Video.open(open_reader, request.context.videos.begin_thread())
    video = stack.enter_context(await request.while_connected(opening))
    upload.remove()  # it stays on the disk until the reader has closed it
    return video
