"""A route of the API: what FastAPI documents and matches, and nothing else."""

import re
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any, Literal, TypeAlias

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.errors import Problem
from service.api.header_values import key_in
from service.api.http_request import HttpRequest
from service.api.replies import Reply, problem_reply

HTTP_REQUEST = "quartet.request"
"""Key in the ASGI scope of the `HttpRequest`, while the router looks for the route."""

Endpoint = Callable[[HttpRequest], Awaitable[Response]]

KeyPlace: TypeAlias = Literal["headers", "endpoint", "none"]
"""Where a route finds the key of a request, if there is a keys file.

`headers`: before the body is read. `endpoint`: the endpoint calls `HttpRequest.authenticate` with
the key of its body, form or query, unless a key is in the headers. `none`: it needs no key.
"""


class DirectRoute(APIRoute):
    """A route that FastAPI documents and matches, and does nothing else for.

    FastAPI would also read the body, solve dependencies and validate the response, which is half
    of the cost of a small request.
    """

    schemas: Sequence[type[BaseModel]] = ()
    """Models that the documentation of the route refers to by name."""

    is_upload = False
    """Whether the endpoint writes the body to the disk, up to the limit of videos."""

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        key_place: KeyPlace = "headers",
        **documentation: Any,
    ) -> None:
        # Any other class would be documented as a body of its own media type.
        documentation["response_class"] = Response
        super().__init__(path, endpoint, response_model=None, **documentation)
        # The end of a line in a name is a wrong name, not another path.
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)
        self.methods = set(self.methods or ())
        if "GET" in self.methods:  # the server sends no body in response to HEAD
            self.methods.add("HEAD")
        self.answer = endpoint
        self._key_place = key_place
        self.app = self._answer_from_router

    def requiring_key(self) -> "DirectRoute":
        """Return the route as it is served with a keys file: requests need a known key."""
        endpoint, place = self.answer, self._key_place
        if place == "none":
            return self

        async def answer(request: HttpRequest) -> Response:
            if place == "headers" or key_in(request.given):
                await request.authenticate()
            return await endpoint(request)

        route = copy(self)
        route.answer = answer
        route.app = route._answer_from_router
        return route

    def refuse(self, request: HttpRequest, problem: Problem) -> Reply:
        """Return the response for an error."""
        return problem_reply(request, problem)

    def documented(self) -> "DirectRoute":
        """Return the route as OpenAPI lists it: without HEAD, which every GET route answers."""
        route = copy(self)
        route.methods = set(self.methods or ()) - {"HEAD"}
        return route

    async def _answer_from_router(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(scope[HTTP_REQUEST])
        await response(scope, receive, send)


def get(path: str, endpoint: Endpoint, **documented: Any) -> DirectRoute:
    """Return a route of GET."""
    return route(path, "GET", endpoint, documented)


def post(path: str, endpoint: Endpoint, **documented: Any) -> DirectRoute:
    """Return a route of POST."""
    return route(path, "POST", endpoint, documented)


def route(path: str, method: str, endpoint: Endpoint, documented: Any) -> DirectRoute:
    """Return a route, named as its endpoint."""
    name = getattr(endpoint, "__name__", None)
    return DirectRoute(path, endpoint, methods=[method], operation_id=name, **documented)
