"""Answers that are told as they come: server-sent events, or a line of JSON for each."""

import asyncio
import time
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
from service.telemetry.metrics import HTTP_STREAM_FIRST_SECONDS, HTTP_STREAMS

EventBody: TypeAlias = Mapping[str, Any]
"""What an event says; its member `event` says of which kind it is."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """A way to write events."""

    media_type: bytes
    encode: Callable[[EventBody], bytes]


def _line(event: EventBody) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _server_sent(event: EventBody) -> bytes:
    return b"event: %s\ndata: %s\n" % (str(event["event"]).encode(), _line(event))


LINES = StreamForm(b"application/x-ndjson", _line)
SERVER_SENT = StreamForm(b"text/event-stream", _server_sent)


def wished_form(call: HttpRequest) -> StreamForm | None:
    """Return the form that the request accepts, the one it names first; None if it names none."""
    accepted = call.given.get(b"accept", b"").lower().split(b",")
    named = [part.partition(b";")[0].strip() for part in accepted]
    forms = {form.media_type: form for form in (LINES, SERVER_SENT)}
    return next((forms[media_type] for media_type in named if media_type in forms), None)


class StreamReply(Response):
    """A response that is sent event by event. Who leaves ends the work behind it."""

    def __init__(
        self,
        call: HttpRequest,
        events: AsyncGenerator[EventBody, None],
        form: StreamForm,
        needed: AbstractContextManager[object],
    ) -> None:
        """Make a response.

        Args:
            call: what it answers.
            events: what it says.
            form: how.
            needed: is left when the stream has ended, in whichever way.
        """
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", form.media_type + b"; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # a proxy that waits for the end would spoil it
        ]
        self._call, self._events, self._form, self._needed = call, events, form, needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it all.

        Raises:
            ClientDisconnect: the client left, or did not read on before the deadline or a stop.
        """
        open_now = HTTP_STREAMS.labels(scope["route"].path)
        open_now.inc()
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            with self._needed:
                await send(start)
                await self._call.while_wanted(self._tell(send))
        except DeadlineExceededError:  # it was told by the events, if anybody had read them
            raise ClientDisconnect from None
        except asyncio.CancelledError:
            if self._call.is_given_up:  # the same
                raise ClientDisconnect from None
            raise
        finally:
            open_now.dec()

    async def _tell(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                body = self._form.encode(event)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def note_first(call: HttpRequest) -> None:
    """Take the time of a stream's first piece."""
    if call.first_seconds is None:
        call.first_seconds = time.perf_counter() - call.started
        HTTP_STREAM_FIRST_SECONDS.labels(call.scope["route"].path).observe(call.first_seconds)
