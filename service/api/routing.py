"""How a path leads to its function, without what FastAPI would do in between."""

from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any

from fastapi.routing import APIRoute, APIRouter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http_request import HttpRequest
from service.api.middleware import CALL

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route whose function takes the `HttpRequest` and returns a finished response.

    FastAPI documents it and matches its path. It does not read the body, solve dependencies or
    validate the response: that is half of what a small request costs.
    """

    def __init__(self, path: str, endpoint: Endpoint, **documentation: Any) -> None:
        super().__init__(path, endpoint, response_model=None, **documentation)
        self.methods = set(self.methods or ())
        if "GET" in self.methods:  # the server sends no body in answer to HEAD
            self.methods.add("HEAD")
        self.app = _direct(endpoint)

    def documented(self) -> "DirectRoute":
        """Return the route as OpenAPI lists it: HEAD, which every GET answers, is left out."""
        route = copy(self)
        route.methods = set(self.methods or ()) - {"HEAD"}
        return route


class ExactRoutes:
    """Goes straight to a route whose path has no parameters; the router finds the others.

    The router tries its routes in turn, by regular expressions: an eighth of a small request.
    """

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        self._routes = {
            (method, route.path): route
            for route in router.routes
            if isinstance(route, DirectRoute) and "{" not in route.path
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request, or the lifespan, on."""
        route = self._routes.get((scope["method"], scope["path"])) if "method" in scope else None
        if route is None:
            await self._router(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)


def _direct(endpoint: Endpoint) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(scope[CALL])
        await response(scope, receive, send)

    return app
