"""One HTTP request on its way through: its id, its deadline, its body, and whether anyone waits.

The middleware makes it; routes take it in place of FastAPI's `Request`, which it is.
"""

import asyncio
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.api.errors import MalformedRequestError, RequestTimeoutError
from service.cache.responses import CacheMode, CacheOutcome
from service.errors import (
    DeadlineExceededError,
    LimitExceededError,
    OverloadedError,
    ServiceError,
)
from service.registry.registry import Registry
from service.requests.admission import ApiLimits, BodyRoom
from service.requests.pipeline import CallOptions
from service.telemetry.record import RequestObserver
from service.telemetry.timings import Timings
from service.types import ModelIdentity


@dataclass(slots=True)
class Lifecycle:
    """Whether this process still takes new work. The composition root sets it."""

    shutting_down: bool = False


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Everything the routes need; nothing else reaches them."""

    registry: Registry
    lifecycle: Lifecycle
    limits: ApiLimits = field(default_factory=ApiLimits)
    admin_token: str | None = None
    """Without one nobody may load or unload models."""
    observer: RequestObserver | None = None
    """Hears of every request that has ended."""
    device_problem: Callable[[], str | None] = lambda: None
    """Says why the device computes nothing, if it does not."""
    bodies: BodyRoom = field(default_factory=BodyRoom)


ResultT = TypeVar("ResultT")

WHOLE_BODY = "quartet.whole_body"
"""In the ASGI scope once all of the body has come: reading it waits for nobody."""

REFUSED = "quartet.refused"
"""In the ASGI scope of a request that is not valid HTTP: the class of the error, and its detail.

Not the error itself: its traceback would refer to the scope, which refers to it.
"""

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_NUMBER = re.compile(rb"-?[0-9]{1,9}")
_MOST_DIGITS = 15
_LOWEST_PRIORITY, _HIGHEST_PRIORITY = -10, 10

_GRACE = 0.1
"""The pipeline keeps the deadline and answers what it can; this long after it is cut off."""

_DISCARDED = 4
"""So many limits of an oversized body are read and dropped, so that the client hears the 413."""

_SMALL_BODY = 16 * 1024
"""Bytes of a body that needs no room: requests for texts pass when large bodies have taken it."""

_ROOM_SECONDS = 1.0
"""When to come back to a process that has no room for a body."""


class HttpRequest(Request):
    """A request, with what this service adds to one."""

    # What is told of it in the end. Of the class until it is known: most of it never is.
    code = "ok"
    """Of the problem that was answered, if one was."""
    detail = ""
    """Why the service was overloaded; nothing of it is the client's text."""
    model: ModelIdentity | None = None
    """Who was to answer."""
    item_count = 0
    cache: CacheOutcome | None = None
    received = 0
    """Bytes of the body that was read."""
    sent = 0
    """Bytes of the body that was answered."""
    read_at = 0.0
    """When the body had been read, in the time of `started`."""
    watch_after = 0.2
    """Seconds of work before the client is watched; quicker answers do not pay for a second task,
    which is a tenth of what the event loop does for a small request."""
    is_stream = False
    """Whether the answer is told as it comes."""
    segment_count = 0
    """Pieces that were translated, or failed, of texts that were split."""
    first_seconds: float | None = None
    """Of a stream, from the arrival of the request to its first piece."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: ApiContext) -> None:
        super().__init__(scope, receive, send)
        self.context = context
        self.given: dict[bytes, bytes] = dict(scope["headers"])
        """The request's headers by lower-case name; of a repeated one the last."""
        wished = self.given.get(b"x-request-id", b"")
        self.request_id = wished.decode() if _SANE_ID.fullmatch(wished) else _new_id()
        self.started = time.perf_counter()
        self._came = asyncio.get_running_loop().time()
        self.deadline = self._came + context.limits.request_timeout_seconds
        self.timings: Timings | None = None
        """Where the time went, once the pipeline has said so."""
        self.status = 0
        """Of the response; 0 before it starts."""
        self.must_close = False
        """Whether the connection is of no further use: an unread body still comes in on it."""
        self._held = 0
        """Bytes of the body that are counted in the process's room for bodies."""
        self._watcher: asyncio.Task[None] | None = None
        self._cut: Callable[[], Exception] | None = None
        """Makes what the work is cut off with. To hold the exception would be to hold oneself:
        it has the frames that it passed."""

    def check(self) -> None:
        """Read the deadline the caller asks for, and refuse a body announced as too long.

        Raises:
            MalformedRequestError: a header is not the number it has to be.
            LimitExceededError: Content-Length is over the limit.
            ServiceError: the request is not valid HTTP.
        """
        if REFUSED in self.scope:
            raise self._refusal()
        limits = self.context.limits
        if (wished := self._wished_seconds()) is not None:
            self.deadline = self._came + min(wished, limits.max_timeout_seconds)
        length = self.given.get(b"content-length", b"0")
        if not length.isdigit():
            raise MalformedRequestError("Content-Length is not a number")
        if int(length) > limits.max_body_bytes:
            self.must_close = int(length) > limits.max_body_bytes * _DISCARDED
            raise self._too_large()

    def become_stream(self) -> None:
        """Be told as it comes, with the deadline of a stream. Raises MalformedRequestError."""
        most, wished = self.context.limits.stream_timeout_seconds, self._wished_seconds()
        self.is_stream = True
        self.deadline = self._came + (most if wished is None else min(wished, most))

    def options(self) -> CallOptions:
        """Return how the caller wants the items answered. Raises MalformedRequestError."""
        priority = 0
        if b"x-request-priority" in self.given:
            priority = self._number(b"x-request-priority", _LOWEST_PRIORITY, _HIGHEST_PRIORITY)
        return CallOptions(self.deadline, priority, self._cache_mode())

    def _cache_mode(self) -> CacheMode:
        wished = self.given.get(b"cache-control")
        if wished is None:
            return CacheMode.USE
        directives = {part.strip() for part in wished.lower().split(b",")}
        if b"no-store" in directives:
            return CacheMode.BYPASS
        return CacheMode.REFRESH if b"no-cache" in directives else CacheMode.USE

    def _wished_seconds(self) -> float | None:
        if b"x-request-timeout-ms" not in self.given:
            return None
        digits = self.given[b"x-request-timeout-ms"].lstrip(b"0")
        if not digits.isdigit():
            raise MalformedRequestError("X-Request-Timeout-Ms must be a whole number from 1")
        # The caller cuts it to the longest deadline; Python refuses to read thousands of digits.
        return int(digits) / 1000 if len(digits) <= _MOST_DIGITS else math.inf

    def _number(self, header: bytes, least: int, most: int) -> int:
        text = self.given[header]
        if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
            name = header.decode().title()
            raise MalformedRequestError(f"{name} must be a whole number from {least} to {most}")
        return int(text)

    def _refusal(self) -> ServiceError:
        self.must_close = True
        kind, detail = self.scope[REFUSED]
        return cast("ServiceError", kind(detail))

    def _too_large(self) -> LimitExceededError:
        most = self.context.limits.max_body_bytes
        return LimitExceededError(f"the body is over the limit of {most} bytes")

    async def read_body(self) -> bytes:
        """Return the whole body.

        Raises:
            LimitExceededError: it is longer than the limit, whatever it announced.
            OverloadedError: the process has no room for it, beside other large bodies.
            RequestTimeoutError: it was not complete at the deadline.
            ServiceError: it is not valid HTTP.
            ClientDisconnect: the client left in the middle of it.
        """
        if WHOLE_BODY in self.scope:
            body = await self._receive_all()
        else:
            body = await self._until_cut(self._receive_all(), self.deadline, self._expire)
        self.received, self.read_at = len(body), time.perf_counter()
        return body

    def while_wanted(self, work: Awaitable[ResultT]) -> Coroutine[Any, Any, ResultT]:
        """Return what `work` returns; cancel it when the client leaves or the deadline is over.

        The body must have been read before: watching for the client takes what it sends.

        Raises:
            ClientDisconnect: the client left.
            DeadlineExceededError: the work went on after the deadline.
        """
        soon = asyncio.get_running_loop().time() + self.watch_after
        return self._until_cut(work, soon, self._start_watching)

    def let_go(self) -> None:
        """Leave the room that the body has taken to others."""
        if self._held:
            self.context.bodies.give_back(self._held)
            self._held = 0

    def _finds_room(self, size: int) -> bool:
        """Take room for so many bytes of the body in all; give back what it has if it can't."""
        if size <= _SMALL_BODY:
            return True
        if not self.context.bodies.take(size - self._held, self.context.limits.max_bodies_bytes):
            self.let_go()
            return False
        self._held = size
        return True

    async def _receive_all(self) -> bytes:
        most = self.context.limits.max_body_bytes
        body, size, more, has_room = bytearray(), 0, True, True
        while more and size <= most * _DISCARDED:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            has_room = has_room and size <= most and self._finds_room(size)
            if has_room:
                body += chunk
            else:  # what still comes is dropped, so that the client hears why
                body.clear()
        self.must_close = more
        if REFUSED in self.scope:
            raise self._refusal()
        if size > most:
            raise self._too_large()
        if not has_room:
            raise OverloadedError("too many large bodies at once", _ROOM_SECONDS)
        return bytes(body)

    async def _until_cut(
        self,
        work: Awaitable[ResultT],
        when: float,
        act: Callable[[asyncio.Task[Any]], None],
    ) -> ResultT:
        """Await work in this task; call `act` at a loop time, which may have it cancelled.

        This is `asyncio.timeout` with more than one reason, at a third of the time.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        timer = asyncio.get_running_loop().call_at(when, act, task)
        try:
            return await work
        except asyncio.CancelledError:
            if self._cut is None:
                raise
            raise self._cut() from None
        finally:
            timer.cancel()
            if self._watcher is not None:
                self._watcher.cancel()
                self._watcher = None  # which keeps what it was cancelled with, and that this call
            if self._cut is not None:
                task.uncancel()

    def _expire(self, work: asyncio.Task[Any]) -> None:
        self.must_close = True
        self._cut = partial(RequestTimeoutError, "the body did not arrive before the deadline")
        work.cancel()

    def _start_watching(self, work: asyncio.Task[Any]) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch(work))

    async def _watch(self, work: asyncio.Task[Any]) -> None:
        try:
            async with asyncio.timeout_at(self.deadline + _GRACE):
                while (await self.receive())["type"] != "http.disconnect":
                    pass
            self._cut = ClientDisconnect
        except TimeoutError:
            self._cut = partial(
                DeadlineExceededError, "the answer did not come before the deadline"
            )
        work.cancel()

    @property
    def is_given_up(self) -> bool:
        """Tell whether a cancellation is the server's, which waits no longer at a stop."""
        return self.context.lifecycle.shutting_down and self._cut is None

    async def send_with_headers(self, message: Message) -> None:
        """Send an ASGI message; a response's start gets the headers every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message["headers"],
                (b"x-request-id", self.request_id.encode()),
                (b"server-timing", self._server_timing()),
            ]
            if self.must_close:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def _server_timing(self) -> bytes:
        total = (time.perf_counter() - self.started) * 1000
        if (spent := self.timings) is None:
            return b"total;dur=%.3f" % total
        return (
            b"cache;dur=%.3f, preprocess;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, "
            b"postprocess;dur=%.3f, total;dur=%.3f"
        ) % (
            spent.cache * 1000,
            spent.preprocess * 1000,
            spent.queue * 1000,
            spent.compute * 1000,
            spent.postprocess * 1000,
            total,
        )


def _new_id() -> str:
    # As unlikely to come twice as a UUID, at a tenth of its time; nobody has to be unable to
    # guess it.
    return f"{random.getrandbits(128):032x}"
