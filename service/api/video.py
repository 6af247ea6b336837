"""POST /v1/video: a video file to the labels, objects or vectors of its frames, as a stream."""

from contextlib import ExitStack
from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from starlette.responses import Response

from service.api.content import ModelName, TaskRequest, as_text, validated
from service.api.detect import Ratio
from service.api.http_request import HttpRequest
from service.api.run import open_run
from service.api.streaming import LINES, StreamReply, accepted_form
from service.api.uploads import Upload, UploadKind, receive_upload
from service.api.video_stream import bodies
from service.errors import InvalidInputError
from service.requests.admission import ApiLimits
from service.requests.answer import Ask, ask_pipeline
from service.requests.open_video import Video
from service.requests.video import ToItem, VideoAnalysis
from service.requests.zero_shot import GivenLabels, asking
from service.tasks import ClassifyItem, ComposedTask, DetectItem, EmbedItem, MaskForm, Task
from service.transforms.spans import Spans
from service.transforms.vision.frames import Sampling, VideoReader
from service.transforms.vision.tracking import LOWEST_SCORE, Tracker

UPLOAD = UploadKind(
    "video", (b"video/", b"image/gif", b"application/octet-stream"), frozenset({"labels"})
)

_TRACKED_FROM = 0.5
"""Default of `threshold` with `track`: the score from which a box begins a track."""
_USUAL_RATE = 25.0

_OF_ALL = {"workflow", "fps", "every", "start", "end"}
"""Parameters that do not depend on what is done with a frame."""

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class VideoRequest(TaskRequest):
    """The fields of the form other than the file, or the parameters of the query."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["detect", "classify", "embed"] = Field(
        "detect", description="What to do with each frame."
    )
    workflow: ModelName | None = Field(
        None, description="Run the steps of this workflow on each frame, in place of a task."
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
    masks: MaskForm = Field("none", description="How to write masks, for a model that finds them.")
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many labels of a frame to return, best first."
    )
    labels: list[str] | None = Field(
        None, description="Of classify: choose among these labels (zero-shot)."
    )
    hypothesis_template: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Of labels: the text around each; `{}` is the place of the label."
    )
    multi_label: bool | None = Field(
        None, description="Of labels: whether each is scored by itself."
    )
    track: bool = Field(
        False, description="Of detect: follow objects, which get an `id`; count them by label."
    )
    segments: bool = Field(
        False, description="Of classify: also send the time spans in which a label is the best."
    )
    smoothing: Annotated[float, Field(ge=0, le=60)] = Field(
        0.5,
        description="Of segments: seconds after which an earlier frame counts a third.",
    )

    @model_validator(mode="after")
    def _agrees(self) -> "VideoRequest":
        if self.fps is not None and self.every is not None:
            raise ValueError("give either fps or every")
        if self.end is not None and self.end <= self.start:
            raise ValueError("end must be after start")
        if self.track and self.task != "detect":
            raise ValueError("track is of task detect")
        if self.segments and self.task != "classify":
            raise ValueError("segments are of task classify")
        if self.labels is not None and self.task != "classify":
            raise ValueError("labels are of task classify")
        others = self.model_fields_set - _OF_ALL
        if self.workflow is not None and others:
            raise ValueError(f"with a workflow, {min(others)} is of no use")
        return self

    @property
    def sampling(self) -> Sampling:
        """Return which frames to analyse."""
        return Sampling(self.fps, self.every, self.start, self.end)

    @property
    def asked_task(self) -> Task | ComposedTask:
        """Return what the model must be able to do."""
        return Task(self.task) if self.labels is None else ComposedTask.ZERO_SHOT

    def given_labels(self, limits: ApiLimits) -> GivenLabels | None:
        """Return what to choose among; None for the model's own labels.

        Raises:
            InvalidInputError: a label or the template is not valid.
            LimitExceededError: there are too many labels, or one is too long.
        """
        if self.labels is None:
            return None
        for place, label in enumerate(self.labels):
            as_text(label, limits, f"labels[{place}]")
        return GivenLabels(tuple(self.labels), self.hypothesis_template, self.multi_label)

    @property
    def _least(self) -> float:
        return _TRACKED_FROM if self.threshold is None else self.threshold

    def tracker(self, rate: float | None) -> Tracker | None:
        """Return what follows objects in a video of this rate, if it is wanted."""
        return Tracker(self._least, rate or _USUAL_RATE) if self.track else None

    @property
    def spans(self) -> Spans | None:
        """Return what finds time spans, if it is wanted."""
        return Spans(self.smoothing) if self.segments else None

    @property
    def to_item(self) -> ToItem:
        """Return what makes an item of a frame."""
        match self.task:
            case "detect":
                # A tracker needs the uncertain boxes, too.
                least = min(self._least, LOWEST_SCORE) if self.track else self.threshold
                chosen = (least, self.iou, self.max_detections, self.masks)
                return lambda frame: DetectItem(frame, *chosen)
            case "classify":
                return lambda frame: ClassifyItem(frame, None if self.segments else self.top_k)
            case "embed":
                return EmbedItem


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
    pipeline = request.context.registry.find(body.asked_task, "image", body.model, body.version)
    if request.caller is not None:
        await request.caller.spend(body.asked_task, (pipeline.model.name,), [])
    stack.enter_context(pipeline.held())
    ask: Ask = ask_pipeline
    if labels is not None:
        scoring = asking(pipeline, without_transport, labels, "image")
        ask = await request.while_connected(scoring)
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
    workflow = request.context.registry.workflows.find(name)
    if workflow.input != "image":
        raise InvalidInputError(f"workflow {name!r} takes {workflow.input}")
    run = await request.while_connected(open_run(request, workflow, stack))
    return VideoAnalysis(
        run.request,
        await _opened_video(request, upload, stack),
        run.first.task,
        run.first,
        body.sampling,
        lambda frame: frame,
        request.context.limits.request_timeout_seconds,
        ask=run.ask,
        charges=False,
    )


async def _opened_video(request: HttpRequest, upload: Upload, stack: ExitStack) -> Video:
    """Open the video until the stack is closed. Raises ServiceError."""
    open_reader = partial(VideoReader, upload.path, request.context.limits.max_pixels)
    opening = Video.open(open_reader, request.context.videos.begin_thread())
    video = stack.enter_context(await request.while_connected(opening))
    upload.remove()  # it stays on the disk until the reader has closed it
    return video
