"""The one middleware: every HTTP request passes it, and whatever went wrong leaves through it.

It is plain ASGI and stands alone before the router: FastAPI's own stack would add six layers
that answer errors in other forms.
"""

import asyncio
import time

from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import Problem, log_unexpected
from service.api.http_request import REFUSED, ApiContext, HttpRequest
from service.errors import OverloadedError, ShuttingDownError
from service.telemetry.metrics import (
    HTTP_DISCONNECTS,
    HTTP_REQUEST_SECONDS,
    HTTP_REQUESTS,
    HTTP_STREAM_SECONDS,
)

CALL = "quartet.call"
"""Where in the ASGI scope the routes find the `HttpRequest`."""

UNKNOWN_ROUTE = "_unknown_"
UNREADABLE = "_unreadable_"
"""Counted in place of a route where the head of a request is not valid HTTP."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LEFT = 499
"""Counted in place of a status when the client did not wait for one, as nginx does."""


class RequestMiddleware:
    """Request id, limits, deadline, refusal at shutdown, errors, headers and metrics."""

    def __init__(self, app: ASGIApp, context: ApiContext) -> None:
        self._app = app
        self._context = context
        # `labels()` costs more than counting; the keys are as bounded as the labels are.
        self._counters: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = scope[CALL] = HttpRequest(scope, receive, send, self._context)
        try:
            await self._run(call)
        except ClientDisconnect:
            call.status, call.code = _LEFT, "client_left"
            HTTP_DISCONNECTS.labels(_route(scope)).inc()
        finally:
            call.let_go()
            self._count(call)
            del scope[CALL]  # which refers to the scope: only the garbage collector would find both

    async def _run(self, call: HttpRequest) -> None:
        try:
            self._admit(call)
            await self._app(call.scope, call.receive, call.send_with_headers)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:
            # The server gives up waiting for us at shutdown; the client may still hear of it.
            if call.status or not self._context.lifecycle.shutting_down:
                raise
            await _refuse(call, ShuttingDownError("the service stopped before the answer"))
        except Exception as error:
            log_unexpected(error, call.request_id)
            if call.status:
                raise
            await _refuse(call, error)

    def _admit(self, call: HttpRequest) -> None:
        call.check()
        if self._context.lifecycle.shutting_down and call.scope["method"] not in ("GET", "HEAD"):
            call.must_close = True
            raise ShuttingDownError("the service is shutting down")

    def _count(self, call: HttpRequest) -> None:
        method = call.scope["method"]
        key = (_route(call.scope), method if method in _METHODS else "_other_", call.status)
        if key not in self._counters:
            self._counters[key] = HTTP_REQUESTS.labels(*key), HTTP_REQUEST_SECONDS.labels(key[0])
        requests, seconds = self._counters[key]
        requests.inc()
        spent = time.perf_counter() - call.started
        if call.is_stream:  # which takes as long as its text is
            seconds = HTTP_STREAM_SECONDS.labels(key[0])
        seconds.observe(spent)
        if self._context.observer is not None:
            self._context.observer.ended(call, key[0], spent)


async def _refuse(call: HttpRequest, error: Exception) -> None:
    problem = Problem.of(error)
    call.code = problem.code
    if isinstance(error, OverloadedError):  # its code alone does not tell which limit it was
        call.detail = problem.detail
    reply = problem.response(call.request_id)
    await reply(call.scope, call.receive, call.send_with_headers)


def _route(scope: Scope) -> str:
    """Return the route's template; whatever matched none counts under one name."""
    if (route := scope.get("route")) is None and REFUSED in scope:
        return UNREADABLE
    return getattr(route, "path", UNKNOWN_ROUTE)
