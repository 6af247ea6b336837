"""Routes whose functions take the `HttpRequest` and return a finished response."""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply, problem_reply

HTTP_REQUEST = "quartet.request"
"""Key in the ASGI scope of the `HttpRequest`, while the router looks for the route."""

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route that FastAPI documents and matches, and does nothing else for.

    FastAPI would also read the body, solve dependencies and validate the response, which is half
    of the cost of a small request.
    """

    schemas: Sequence[type[BaseModel]] = ()
    """Models that the documentation of the route refers to by name."""

    def __init__(self, path: str, endpoint: Endpoint, **documentation: Any) -> None:
        super().__init__(path, endpoint, response_model=None, **documentation)
        self.methods = set(self.methods or ())
        if "GET" in self.methods:  # the server sends no body in response to HEAD
            self.methods.add("HEAD")
        self.answer = endpoint
        self.app = self._answer_from_router

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
