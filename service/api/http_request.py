"""One HTTP request: its headers and body, and whether its client is still connected."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar, cast

import starlette.requests
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.access.caller import Caller
from service.api.codings import inflated
from service.api.context import AGE, GUILTY, ApiContext
from service.api.errors import MalformedRequestError, RequestTimeoutError
from service.api.header_values import cache_mode, key_in, priority, request_id_in, seconds
from service.cache.responses import CacheMode
from service.errors import DeadlineExceededError, LimitExceededError, OverloadedError, ServiceError
from service.requests.request import Request
from service.telemetry.record import RequestRecord

ResultT = TypeVar("ResultT")

WHOLE_BODY = "quartet.whole_body"
"""Key in the ASGI scope, set once the whole body has been received."""

# Class and message, not the error itself: its traceback would refer to the scope.
REFUSED = "quartet.refused"
"""Key in the ASGI scope of a request that is not valid HTTP."""

# For a pipeline that does not return: others keep the deadline, and answer what was in time.
_GRACE = 0.1
"""Seconds after the deadline at which the work is cancelled."""

_DISCARDED = 4
"""Read and discard up to this many times the limit, so that the client can receive the 413."""

# Requests for texts are accepted while large bodies have taken all the room.
_SMALL_BODY = 16 * 1024
"""Bytes of a body that is not counted in the room for bodies."""

_ROOM_SECONDS = 1.0
"""`Retry-After` of a process that has no room for a body."""

_SERVER_TIMING = (
    b"cache;dur=%.3f, preprocess;dur=%.3f, queue;dur=%.3f, compute;dur=%.3f, "
    b"postprocess;dur=%.3f, total;dur=%.3f"
)


class HttpRequest(starlette.requests.Request):
    """Starlette's request, with the record for telemetry and the limits of this service."""

    # A second task costs a tenth of what the event loop does for a small request.
    watch_after = 0.2
    """Seconds of work after which to watch whether the client is still connected."""
    is_stream = False
    caller: Caller | None = None
    """Owner of the key; None without a keys file, and until `authenticate`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: ApiContext) -> None:
        super().__init__(scope, receive, send)
        self.context = context
        self.given: dict[bytes, bytes] = dict(scope["headers"])
        """Headers by lower-case name; the last one if a name is repeated."""
        known = request_id_in(self.given) if b"x-request-id" in self.given else None
        self.request_id = known or new_id()
        self.record = RequestRecord(
            self.request_id,
            time.perf_counter(),
            scope.get("method", ""),
            scope.get("scheme", "http"),
            scope.get("http_version", "1.1"),
            self.given,
        )
        self._arrived = asyncio.get_running_loop().time() - scope.get(AGE, 0.0)
        self.deadline = self._arrived + context.limits.request_timeout_seconds
        self.must_close = False
        """Whether to close the connection, because the rest of the body was not read."""
        self._held = 0
        """Bytes of the body that are counted in the room for bodies."""
        self._watcher: asyncio.Task[None] | None = None
        # Not the exception itself, which would refer to this object by its traceback.
        self._cut: Callable[[], Exception] | None = None
        """Makes the exception to raise in place of the cancellation."""

    def check(self, is_upload: bool = False) -> None:
        """Read the deadline header, and refuse a body that is announced as too long.

        Args:
            is_upload: the route writes the body to the disk, up to the limit of videos.

        Raises:
            MalformedRequestError: a header is not the number it has to be.
            LimitExceededError: Content-Length is over the limit.
            ServiceError: the request is not valid HTTP.
        """
        if REFUSED in self.scope:
            raise self._refusal()
        limits = self.context.limits
        if (wished := self._wished_seconds()) is not None:
            self.deadline = self._arrived + min(wished, limits.max_timeout_seconds)
        length = self.given.get(b"content-length", b"0")
        if not length.isdigit():
            raise MalformedRequestError("Content-Length is not a number")
        most = limits.max_video_bytes if is_upload else limits.max_body_bytes
        if int(length) > most:
            self.must_close = is_upload or int(length) > most * _DISCARDED
            raise LimitExceededError(f"the body is over the limit of {most} bytes")

    def become_stream(self) -> None:
        """Take the deadline of a stream. Raises MalformedRequestError."""
        longest, wished = self.context.limits.stream_timeout_seconds, self._wished_seconds()
        self.is_stream = True
        self.deadline = self._arrived + (longest if wished is None else min(wished, longest))

    async def authenticate(self, key: str | bytes | None = None) -> None:
        """Find the caller and count the request, if there is a keys file. Call it once.

        Args:
            key: from the body, a form or the query, if the protocol puts it there. A key in the
                headers comes first.

        Raises:
            UnauthorizedError: there is no key, or it is not known.
            RateLimitedError: the key has sent too many requests.
        """
        if (access := self.context.access) is not None and self.caller is None:
            self.caller = access.caller(key_in(self.given) or key)
            self.record.key = self.caller.name
            await self.caller.begin()

    def without_transport(self) -> Request:
        """Return the request as the layers below HTTP take it.

        Raises:
            MalformedRequestError: a header is not the number it has to be.
            UnauthorizedError: a key is needed, and nothing has authenticated the request.
        """
        if self.caller is None and self.context.access is not None:
            self.context.access.caller(None)
        wished = self.given.get(b"x-request-priority")
        urgency = 0 if wished is None else priority(wished)
        wished = self.given.get(b"cache-control")
        cache = CacheMode.USE if wished is None else cache_mode(wished)
        sticky = self.given.get(b"x-sticky-key", b"").decode("latin-1")
        return Request(
            self.request_id, self.deadline, urgency, cache, self.record, self.caller, sticky
        )

    def _wished_seconds(self) -> float | None:
        wished = self.given.get(b"x-request-timeout-ms")
        return None if wished is None else seconds(wished)

    def _refusal(self) -> ServiceError:
        self.must_close = True
        kind, detail = self.scope[REFUSED]
        return cast("ServiceError", kind(detail))

    async def read_body(self) -> bytes:
        """Return the whole body, decompressed if it is sent in gzip, deflate or zstd.

        Raises:
            LimitExceededError: it is longer than the limit, whatever Content-Length says.
            OverloadedError: other large bodies have taken the room for bodies.
            RequestTimeoutError: it was not complete at the deadline.
            ServiceError: it is not valid HTTP, or not in the coding of its header.
            ClientDisconnect: the client disconnected before its end.
        """
        if WHOLE_BODY in self.scope:
            body = await self._receive_all()
        else:
            body = await self.before_deadline(self._receive_all())
        self.record.received, self.record.read_at = len(body), time.perf_counter()
        if (codings := self.given.get(b"content-encoding")) is not None:
            body = await inflated(body, codings, self.context.limits.max_body_bytes)
            if not self.finds_room(len(body)):
                raise OverloadedError("too many large bodies at once", _ROOM_SECONDS)
        if (quarantine := self.context.quarantine) is not None:
            quarantine.check(self.scope["path"], body, GUILTY in self.scope)
        return body

    def before_deadline(self, work: Awaitable[ResultT]) -> Coroutine[Any, Any, ResultT]:
        """Await `work`, which reads the body. Raises RequestTimeoutError at the deadline."""
        return self._until_cut(work, self.deadline, self._expire)

    def while_connected(self, work: Awaitable[ResultT]) -> Coroutine[Any, Any, ResultT]:
        """Await `work`; cancel it when the client disconnects or the deadline passes.

        Read the body before: watching the client discards what it sends.

        Raises:
            ClientDisconnect: the client disconnected.
            DeadlineExceededError: the work went on after the deadline.
        """
        soon = asyncio.get_running_loop().time() + self.watch_after
        return self._until_cut(work, soon, self._start_watching)

    def release_body(self) -> None:
        """Give back the room for the body."""
        if self._held:
            self.context.bodies.give_back(self._held)
            self._held = 0

    def finds_room(self, size: int) -> bool:
        """Take room for `size` bytes of the body in all; if there is none, give back all of it."""
        if size <= _SMALL_BODY:
            return True
        if not self.context.bodies.take(size - self._held, self.context.limits.max_bodies_bytes):
            self.release_body()
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
            has_room = has_room and size <= most and self.finds_room(size)
            if has_room:
                body += chunk
            else:  # read on without keeping it, so that the client can receive the refusal
                body.clear()
        self.must_close = more
        if REFUSED in self.scope:
            raise self._refusal()
        if size > most:
            raise LimitExceededError(f"the body is over the limit of {most} bytes")
        if not has_room:
            raise OverloadedError("too many large bodies at once", _ROOM_SECONDS)
        return bytes(body)

    async def _until_cut(
        self,
        work: Awaitable[ResultT],
        when: float,
        act: Callable[[asyncio.Task[Any]], None],
    ) -> ResultT:
        """Await work in this task; at loop time `when` call `act`, which may cancel the task.

        Like `asyncio.timeout`, with more than one reason to cancel, and at a third of its cost.
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
                self._watcher = None  # it refers to the exception, and so to this request
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
            self._cut = partial(DeadlineExceededError, "the deadline passed before the answer")
        work.cancel()

    @property
    def is_given_up(self) -> bool:
        """Return whether a cancellation comes from the server, whose grace period is over."""
        return self.context.lifecycle.shutting_down and self._cut is None

    async def send_with_headers(self, message: Message) -> None:
        """Send an ASGI message; add the headers that every response has to its start."""
        if message["type"] == "http.response.start":
            self.record.status = message["status"]
            headers = [
                *message["headers"],
                (b"x-request-id", self.request_id.encode()),
                (b"server-timing", self._server_timing()),
            ]
            if self.caller is not None:
                headers += self.caller.fields()
            if self.must_close:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.record.sent += len(message.get("body", b""))
        await self._send(message)

    def _server_timing(self) -> bytes:
        total = (time.perf_counter() - self.record.started) * 1000
        if (spent := self.record.timings) is None:
            return b"total;dur=%.3f" % total
        first = (spent.cache * 1000, spent.preprocess * 1000, spent.queue * 1000)
        return _SERVER_TIMING % (*first, spent.compute * 1000, spent.postprocess * 1000, total)


def new_id() -> str:
    """Return a random id, at a tenth of the cost of a UUID; it need not be hard to guess."""
    return f"{random.getrandbits(128):032x}"
