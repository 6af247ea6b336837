"""The FastAPI application: the entrance of every HTTP request, its routing, and its errors."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match
from starlette.staticfiles import StaticFiles
from starlette.types import Lifespan, Receive, Scope, Send

from service.api.around import CLIENT
from service.api.context import GUILTY, ApiContext
from service.api.errors import Problem
from service.api.http_request import REFUSED, HttpRequest
from service.api.openapi import (
    ASSETS,
    ASSETS_PATH,
    OPENAPI_PATH,
    RELATIVE,
    completed,
    show_docs,
)
from service.api.replies import Reply, compress, problem_reply
from service.api.route import HTTP_REQUEST, DirectRoute
from service.api.routes import REQUESTS, model_routes, operation_routes, task_routes
from service.api.schemas import add_key, add_limits
from service.api.stream_routes import stream_routes
from service.errors import InferenceError, OverloadedError, ServiceError, ShuttingDownError
from service.requests.answer import as_service_error
from service.telemetry.request_metrics import (
    HTTP_DISCONNECTS,
    HTTP_REQUEST_SECONDS,
    HTTP_REQUESTS,
    HTTP_STREAM_SECONDS,
)

_DESCRIPTION = (
    "Texts and images in; labels, translations, boxes and vectors out. Images are sent in "
    "base64 or as a data URI in JSON, as files of a form, or as the whole body."
)

_UNKNOWN_ROUTE = "_unknown_"
"""Route label of requests whose path matches no route."""
_UNREADABLE = "_unreadable_"
"""Route label of requests whose head is not valid HTTP."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LEFT = 499
"""Status label of requests whose client disconnected before the response, as in nginx."""
_MATCHES, _MATCHED_LENGTH = 128, 200
"""The most matches of paths with templates that are kept, and characters of such a path."""


class Api(FastAPI):
    """FastAPI's routing and OpenAPI, with the handling of requests and errors of this service.

    FastAPI's middleware is not used: it would add six layers to every request, and answer errors in
    other forms.
    """

    def __init__(self, context: ApiContext, lifespan: Lifespan[Any] | None) -> None:
        super().__init__(
            title="Quartet",
            version="1",
            description=_DESCRIPTION,
            lifespan=lifespan,
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.context = context
        self._direct: dict[tuple[str, str], DirectRoute] = {}
        self._templates: dict[str, list[DirectRoute]] = {}
        """Routes with parameters in their path, by its first part."""
        self._match_again = lru_cache(_MATCHES)(self._match)
        self._documented: list[DirectRoute] = []
        # `labels()` costs more than counting. There are as many keys as label values.
        self._counters: dict[tuple[str, str, int, str], tuple[Counter, Histogram]] = {}

    def add_routes(self, routes: Sequence[BaseRoute]) -> None:
        """Add routes. The router only answers what none of them accepts, and mounts.

        It tries all routes in order, with regular expressions. That costs an eighth of a small
        request, and more with the routes of protocols.
        """
        if self.context.access is not None:
            routes = [
                route.requiring_key() if isinstance(route, DirectRoute) else route
                for route in routes
            ]
        for route in routes:
            if isinstance(route, DirectRoute) and "{" not in route.path:
                for method in route.methods or ():
                    self._direct[method, route.path] = route
            elif isinstance(route, DirectRoute):
                self._templates.setdefault(route.path.split("/")[1], []).append(route)
        self._documented += (route for route in routes if isinstance(route, DirectRoute))
        self.router.routes += routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        scope["app"] = self
        if scope["type"] != "http":
            await self.router(scope, receive, send)
            return
        request = HttpRequest(scope, receive, send, self.context)
        request.record.client = scope.get(CLIENT)
        try:
            await self._answer(request)
        except ClientDisconnect:
            request.record.status, request.record.code = _LEFT, "client_left"
            HTTP_DISCONNECTS.labels(_route_of(scope)).inc()
        finally:
            request.release_body()
            self._count(request)

    async def _answer(self, request: HttpRequest) -> None:
        try:
            route = self._find(request.scope)
            self._admit(request, route is not None and route.is_upload)
            await self._route(request, route)
        except ClientDisconnect:
            raise
        except asyncio.CancelledError:
            # The grace period of a stop is over. The client may still receive a response.
            if request.record.status or not self.context.lifecycle.shutting_down:
                raise
            await self._refuse(request, ShuttingDownError("the service stopped before the answer"))
        except Exception as error:
            # No variable of this frame may keep the error, whose traceback holds the frame: the
            # cycle would keep the body until the garbage collector runs.
            if request.record.status:
                _known(error, request)
                raise
            await self._refuse(request, _known(error, request))

    def _find(self, scope: Scope) -> DirectRoute | None:
        """Return the route of a method and a path; note the path's parameters."""
        method, path = scope["method"], scope["path"]
        if (route := self._direct.get((method, path))) is not None:
            return route
        if "//" in path or path.endswith("/"):  # a client's base URL ends with a slash, or its path
            scope["path"] = path = "/" + "/".join(part for part in path.split("/") if part)
            if (route := self._direct.get((method, path))) is not None:
                return route
        match = self._match_again if len(path) <= _MATCHED_LENGTH else self._match
        route, parameters = match(method, path)
        if parameters:
            scope["path_params"] = parameters
        return route

    def _match(self, method: str, path: str) -> tuple[DirectRoute | None, Mapping[str, Any]]:
        """Return the route whose template matches a path, and the parameters in it."""
        for route in self._templates.get(path[1:].partition("/")[0], ()):
            if method in (route.methods or ()) and (found := route.path_regex.match(path)):
                convertors, values = route.param_convertors, found.groupdict()
                return route, {name: convertors[name].convert(values[name]) for name in values}
        return None, {}

    def _admit(self, request: HttpRequest, is_upload: bool) -> None:
        request.check(is_upload)
        stopping = self.context.lifecycle.shutting_down
        if stopping and request.scope["method"] not in ("GET", "HEAD"):
            request.must_close = True
            raise ShuttingDownError("the service is shutting down")
        if is_upload and GUILTY in request.scope:
            raise InferenceError("the processes that had this request have ended")

    async def _route(self, request: HttpRequest, route: DirectRoute | None) -> None:
        scope = request.scope
        if route is None:
            scope[HTTP_REQUEST] = request
            try:
                await self.router(scope, request.receive, request.send_with_headers)
            finally:
                del scope[HTTP_REQUEST]  # refers to the scope
            return
        scope["route"] = route
        response = await route.answer(request)
        if (accepted := request.given.get(b"accept-encoding")) is not None:
            await compress(response, accepted, self.context.limits.min_compress_bytes)
        await response(scope, request.receive, request.send_with_headers)

    async def _refuse(self, request: HttpRequest, error: ServiceError | HTTPException) -> None:
        problem = Problem.of(error)
        request.record.code = problem.code
        if isinstance(error, OverloadedError):  # the code alone does not say which limit it was
            request.record.detail = problem.detail
        route = self._route_of_refused(request.scope)
        reply = problem_reply(request, problem) if route is None else route.refuse(request, problem)
        await reply(request.scope, request.receive, request.send_with_headers)

    def _route_of_refused(self, scope: Scope) -> DirectRoute | None:
        """Return the route of a path, also if the request was refused before it was routed."""
        found = scope.get("route")
        if found is None and REFUSED not in scope:
            matches = [(route.matches(scope)[0], route) for route in self.routes]
            best = max(match.value for match, _ in matches)
            found = next(route for match, route in matches if match.value == best)
            if best == Match.NONE.value:
                found = None
        return found if isinstance(found, DirectRoute) else None

    def _count(self, request: HttpRequest) -> None:
        method, record = request.scope["method"], request.record
        route = _route_of(request.scope)
        known = method if method in _METHODS else "_other_"
        key = (route, known, record.status, record.protocol)
        if key not in self._counters:
            self._counters[key] = HTTP_REQUESTS.labels(*key), HTTP_REQUEST_SECONDS.labels(route)
        requests, histogram = self._counters[key]
        requests.inc()
        seconds = time.perf_counter() - record.started
        if request.is_stream:  # its duration depends on its text
            histogram = HTTP_STREAM_SECONDS.labels(route)
        histogram.observe(seconds)
        if self.context.observer is not None:
            self.context.observer.ended(record, route, seconds)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        routes = [route.documented() for route in self._documented]
        document = get_openapi(
            title=self.title, version=self.version, description=self.description, routes=routes
        )
        schemas = [*REQUESTS, *chain.from_iterable(route.schemas for route in routes)]
        document = deepcopy(completed(document, schemas))  # the routes share parts of it
        add_limits(document, self.context.limits)
        if self.context.root_path is not None:
            document["servers"] = [{"url": self.context.root_path}]
        if self.context.access is not None:
            add_key(document)
        return document

    async def show_openapi(self, request: HttpRequest) -> Reply:
        """Return the OpenAPI document.

        By default it names no server, which means the root of the host, or the one of
        `root_path`. With `?relative` the server is the folder of the document, for browsers behind
        a proxy that strips a prefix.
        """
        query = request.scope["query_string"]
        return Reply(self._relative_document if query == RELATIVE else self._document)

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(self.openapi(), option=orjson.OPT_NON_STR_KEYS)

    @cached_property
    def _relative_document(self) -> bytes:
        document = {**self.openapi(), "servers": [{"url": "."}]}
        return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)


def _known(error: Exception, request: HttpRequest) -> ServiceError | HTTPException:
    """Return the error for the client; log what it cannot see."""
    if isinstance(error, HTTPException):
        return error
    return as_service_error(error, request.request_id)


def _route_of(scope: Scope) -> str:
    """Return the template of the route, or the label of requests without one."""
    if (route := scope.get("route")) is None and REFUSED in scope:
        return _UNREADABLE
    return getattr(route, "path_format", _UNKNOWN_ROUTE)


def build_api(
    context: ApiContext,
    lifespan: Lifespan[Any] | None = None,
    more_routes: Sequence[BaseRoute] = (),
) -> FastAPI:
    """Return the application. Nothing is opened before its lifespan starts.

    Args:
        context: what the routes need.
        lifespan: opens and closes what the context refers to.
        more_routes: routes of other packages, such as the page.
    """
    api = Api(context, lifespan)
    ours = [*task_routes(), *stream_routes(), *model_routes(), *operation_routes()]
    api.add_routes([*ours, *more_routes])
    api.add_routes(
        [
            DirectRoute(
                OPENAPI_PATH, api.show_openapi, "none", methods=["GET"], include_in_schema=False
            ),
            DirectRoute("/docs", show_docs, "none", methods=["GET"], include_in_schema=False),
        ]
    )
    api.mount(ASSETS_PATH, StaticFiles(directory=ASSETS))
    return api
