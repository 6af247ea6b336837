"""Streamed responses: server-sent events, or one line of JSON per event."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.http_request import HttpRequest
from service.errors import DeadlineExceededError
from service.telemetry.record import Timings
from service.telemetry.request_metrics import (
    HTTP_STREAMS,
)

EventBody: TypeAlias = Mapping[str, Any]
"""One event as a JSON object. Its member `event` names its kind."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """A format of events."""

    media_type: bytes
    encode: Callable[[Any], bytes]

    @property
    def content_type(self) -> bytes:
        """Return the media type, with the charset of texts."""
        is_text = self.media_type in (b"application/x-ndjson", b"text/event-stream")
        return self.media_type + b"; charset=utf-8" if is_text else self.media_type


def _line(event: EventBody) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _server_sent(event: EventBody) -> bytes:
    return b"event: %s\ndata: %s\n" % (str(event["event"]).encode(), _line(event))


LINES = StreamForm(b"application/x-ndjson", _line)
SERVER_SENT = StreamForm(b"text/event-stream", _server_sent)


def steps(timings: Timings) -> Mapping[str, float]:
    """Return the time of each step as members of an event."""
    return {f"{step}_seconds": getattr(timings, step) for step in Timings.__slots__}


def accepted_form(request: HttpRequest) -> StreamForm | None:
    """Return the format that the Accept header names first; None if it names none."""
    accepted = request.given.get(b"accept", b"").lower().split(b",")
    named = [part.partition(b";")[0].strip() for part in accepted]
    forms = {form.media_type: form for form in (LINES, SERVER_SENT)}
    return next((forms[media_type] for media_type in named if media_type in forms), None)


class StreamReply(Response):
    """A response that is sent event by event. Its work ends when the client disconnects."""

    def __init__(
        self,
        request: HttpRequest,
        events: AsyncGenerator[Any, None],
        form: StreamForm,
        source: AbstractContextManager[object],
    ) -> None:
        """Make a response.

        Args:
            request: the request it answers.
            events: the events to send.
            form: their format.
            source: left when the stream has ended, even if it failed.
        """
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", form.content_type),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # else nginx would buffer the whole response
        ]
        self._request, self._events, self._form, self._source = request, events, form, source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events.

        Raises:
            ClientDisconnect: the client disconnected, or had not read them when the deadline
                passed or the service stopped.
        """
        open_now = HTTP_STREAMS.labels(scope["route"].path)
        open_now.inc()
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            with self._source:
                await send(start)
                await self._request.while_connected(self._send_events(send))
        except DeadlineExceededError:  # the client has not read the event that says so
            raise ClientDisconnect from None
        except asyncio.CancelledError:
            if self._request.is_given_up:  # the same
                raise ClientDisconnect from None
            raise
        finally:
            open_now.dec()

    async def _send_events(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                body = self._form.encode(event)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
