"""/v1/streams: live sources whose frames are analysed until the stream is deleted."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import Field
from starlette.responses import Response

from service.api.audit import audited
from service.api.content import read_request
from service.api.context import ApiContext
from service.api.frame_options import FrameOptions
from service.api.http_request import HttpRequest
from service.api.models import require_administrator
from service.api.replies import Reply
from service.api.run import workflow_of_frames
from service.api.stream_events import event_bodies, status_of
from service.api.streaming import SERVER_SENT, StreamReply, accepted_form
from service.live.stream import LiveStream
from service.live.streams import LiveStreams
from service.live.work import FindModels, LiveWork, TaskModels, WorkflowModels
from service.requests.request import Selection
from service.requests.workflow import tracked_from
from service.transforms.vision.tracking import Tracker
from service.transforms.vision.video_file import require_decoder


class StreamRequest(FrameOptions):
    """A source, and what to do with its frames."""

    with_workflow = FrameOptions.with_workflow | {"url"}

    url: Annotated[str, Field(min_length=1)] = Field(
        description="Address of the source: rtsp, http, https or file. The setting "
        "`streams.sources` must allow it."
    )


async def add_stream(request: HttpRequest) -> Reply:
    """Start a live stream: connect to a source, and analyse its newest frames.

    Frames that come while the model is busy are dropped. When the source ends or fails, the stream
    connects again after a while, until it is deleted.
    """
    require_administrator(request)
    body = await read_request(request, StreamRequest)
    context, without_transport = request.context, request.without_transport()
    context.streams.sources.checked(body.url)
    await asyncio.to_thread(require_decoder)
    work = _work(request, body)
    work.new_tracker(None)
    models = await request.while_connected(work.find(without_transport, None))

    async def add() -> LiveStream:
        return context.streams.add(body.url, work, context.limits.max_streams)

    model, state = models.pipelines[0].model.name, partial(_names, context.streams)
    stream = await audited(request.caller, "stream add", model, state, add())
    return _reply(status_of(stream), 201)


def _work(request: HttpRequest, body: StreamRequest) -> LiveWork:
    """Return what to do with the frames. Raises ServiceError."""
    context, find, tracker = request.context, _task_models, body.tracker
    if body.workflow is not None:
        find, tracker = _workflow_models, partial(_tracker_of_workflow, context, body)
    return LiveWork(
        body.task if body.workflow is None else None,
        body.workflow,
        body.top_k,
        find(context, body),
        body.fps,
        body.to_item if body.workflow is None else lambda frame: frame,
        tracker,
        lambda: body.spans,
        request.without_transport(),
        context.limits.request_timeout_seconds,
        context.limits.max_pixels,
    )


def _task_models(context: ApiContext, body: StreamRequest) -> FindModels:
    labels = body.given_labels(context.limits)
    selection = Selection(body.model, body.version)
    asking = partial(body.asking, labels=labels)
    return TaskModels(context.registry, body.asked_task, selection, asking)


def _workflow_models(context: ApiContext, body: StreamRequest) -> FindModels:
    workflow = partial(workflow_of_frames, context.registry.workflows, str(body.workflow))
    images, limits = context.cropped_images, context.limits
    return WorkflowModels(context.registry, partial(workflow, body.track), images, limits)


def _tracker_of_workflow(
    context: ApiContext, body: StreamRequest, rate: float | None
) -> Tracker | None:
    name, workflows = str(body.workflow), context.registry.workflows
    return body.tracker(rate, tracked_from(*workflow_of_frames(workflows, name, body.track)))


async def list_streams(request: HttpRequest) -> Reply:
    """List the live streams."""
    require_administrator(request)
    streams = request.context.streams.all()
    return _reply({"streams": [status_of(stream) for stream in streams]})


async def show_stream(request: HttpRequest) -> Reply:
    """Show one live stream."""
    return _reply(status_of(_found(request)))


async def read_stream(request: HttpRequest) -> Response:
    """Send the events of a live stream from now on.

    A client that reads too slowly loses the oldest events, and an event says how many. The response
    ends with the stream, or at the deadline of streams; then ask again.
    """
    stream = _found(request)
    request.become_stream()
    with ExitStack() as stack:
        reader = stack.enter_context(stream.reading())
        soon = asyncio.get_running_loop().call_at(request.deadline, reader.close)
        stack.callback(soon.cancel)
        events = event_bodies(request.request_id, stream, reader)
        form = accepted_form(request) or SERVER_SENT
        return StreamReply(request, events, form, stack.pop_all())


async def remove_stream(request: HttpRequest) -> Reply:
    """End a live stream and free what it uses."""
    stream = _found(request)
    streams = request.context.streams
    model = stream.model.name if stream.model is not None else ""
    state, removal = partial(_names, streams), streams.remove(stream.id)
    await audited(request.caller, "stream remove", model, state, removal)
    return Reply(b"", status=204)


def _names(streams: LiveStreams) -> str:
    """Return the ids of the streams that run."""
    return ",".join(stream.id for stream in streams.all()) or "none"


def _found(request: HttpRequest) -> LiveStream:
    require_administrator(request)
    return request.context.streams.find(request.path_params["stream"])


def _reply(body: Mapping[str, Any], status: int = 200) -> Reply:
    return Reply(orjson.dumps(body), status=status)
