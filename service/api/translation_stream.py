"""The events of a streamed translation as JSON objects."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from service.api.content import TaskRequest
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.streaming import EventBody, StreamForm, StreamReply, steps
from service.errors import ServiceError, ShuttingDownError
from service.requests.request import Selection
from service.requests.segment_stream import SegmentGrowth
from service.requests.translation_stream import (
    Detail,
    Event,
    Progress,
    SegmentResult,
    Splitter,
    StreamEnd,
    StreamError,
    StreamStart,
    TranslationStream,
    open_translation_stream,
)
from service.tasks import GenerateItem, TranslateItem
from service.telemetry.request_metrics import HTTP_STREAM_FIRST_SECONDS

Encode: TypeAlias = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a stream contains, and how it is written."""

    detail: Detail
    form: StreamForm
    encode: Encode


async def stream_reply(
    request: HttpRequest,
    body: TaskRequest,
    items: Sequence[TranslateItem | GenerateItem | ServiceError],
    documents: Splitter,
    options: StreamOptions,
) -> StreamReply:
    """Begin to translate or generate, and return the response that streams the texts.

    Raises:
        ServiceError: no model can answer the request, none of its texts can be translated, or the
            queue is full.
        ClientDisconnect: the client disconnected.
    """
    request.become_stream()
    selection = Selection(body.model, body.version)
    stream = await request.while_connected(
        open_translation_stream(
            request.context.registry,
            request.without_transport(),
            selection,
            items,
            documents,
            options.detail,
        )
    )
    events = _bodies(request, stream, options.encode)
    return StreamReply(request, events, options.form, stream)


async def _bodies(
    request: HttpRequest, stream: TranslationStream, encode: Encode
) -> AsyncGenerator[EventBody, None]:
    """Yield every event as a JSON object."""
    render = _Renderer(request, encode)
    try:
        async with aclosing(stream.events()) as events:
            async for event in events:
                yield render(event)
    except asyncio.CancelledError:
        if not request.is_given_up:
            raise
        # The client is still connected, and what is left to send does not wait for anything.
        for event in stream.end(ShuttingDownError("the service stopped before the end")):
            yield render(event)


class _Renderer:
    """Makes the JSON object of each event of a stream."""

    def __init__(self, request: HttpRequest, encode: Encode) -> None:
        self._request, self._encode = request, encode
        self._has_segment = False

    def __call__(self, event: Event) -> EventBody:
        match event:
            case SegmentResult():
                return self._segment(event)
            case SegmentGrowth(piece, text):
                return {"event": "tokens", "item": piece.item, "index": piece.index, "text": text}
            case StreamError(error, progress, item):
                place = {} if item is None else {"item": item}
                return {"event": "error", **place, **self._problem(error), **asdict(progress)}
            case StreamStart(model, items, progress):
                named = {"model": model.name, "version": model.version, "items": items}
                return {"event": "start", **named, **asdict(progress)}
            case StreamEnd():
                return _end(event)
            case Progress():
                return {"event": "progress", **asdict(event)}

    def _segment(self, event: SegmentResult) -> EventBody:
        self._note_first()
        piece, result = event.piece, event.result
        if isinstance(result, ServiceError):
            kind, members = "error", self._problem(result)
        else:
            kind, members = "segment", {**self._encode(result.answer), "cache": result.cache}
        segment = piece.segment
        return {
            "event": kind,
            "item": piece.item,
            "index": piece.index,
            "start": segment.start,
            "end": segment.end,
            "before": segment.before,
            "after": piece.after,
            **members,
            **asdict(event.progress),
        }

    def _note_first(self) -> None:
        seconds = self._request.record.first_seconds
        if not self._has_segment and seconds is not None:
            self._has_segment = True
            HTTP_STREAM_FIRST_SECONDS.labels(self._request.scope["route"].path).observe(seconds)

    def _problem(self, error: ServiceError) -> Mapping[str, Any]:
        return Problem.of(error).members(self._request.request_id)


def _end(event: StreamEnd) -> EventBody:
    return {
        "event": "end",
        **asdict(event.progress),
        "failed": event.failed,
        "truncated": event.truncated,
        "cache": {str(kind): count for kind, count in event.cache.items()},
        "seconds": event.seconds,
        "longest": steps(event.timings),
    }
