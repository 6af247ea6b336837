"""The FastAPI application, put together."""

from collections.abc import Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from service.api.errors import Reply
from service.api.http_request import ApiContext, HttpRequest
from service.api.middleware import RequestMiddleware
from service.api.openapi import (
    ASSETS,
    ASSETS_PATH,
    OPENAPI_PATH,
    RELATIVE,
    add_limits,
    completed,
    show_docs,
)
from service.api.routes import REQUESTS, model_routes, operation_routes, task_routes
from service.api.routing import DirectRoute, ExactRoutes

_DESCRIPTION = (
    "Texts and images in; labels, translations, boxes and vectors out. Images are sent in "
    "base64 or as a data URI in JSON, as files of a form, or as the whole body."
)


class Api(FastAPI):
    """FastAPI with its routes and its OpenAPI, and our middleware in place of its own."""

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

    def build_middleware_stack(self) -> ASGIApp:
        """Return what stands before the router: it answers every error itself."""
        return RequestMiddleware(ExactRoutes(self.router), self.context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Skip FastAPI's own, which looks in the environment for telemetry at every request."""
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        routes = [r.documented() for r in self.routes if isinstance(r, DirectRoute)]
        document = get_openapi(
            title=self.title, version=self.version, description=self.description, routes=routes
        )
        document = deepcopy(completed(document, REQUESTS))  # the routes keep parts of it
        add_limits(document, self.context.limits)
        return document

    async def show_openapi(self, call: HttpRequest) -> Reply:
        """Return the OpenAPI document.

        The server is left out, which means the root of the host. With `?relative` it is the folder
        of this document: the browser knows the prefix that a proxy has stripped, we do not.
        """
        query = call.scope["query_string"]
        return Reply(self._relative_document if query == RELATIVE else self._document)

    @cached_property
    def _document(self) -> bytes:
        return orjson.dumps(self.openapi(), option=orjson.OPT_NON_STR_KEYS)

    @cached_property
    def _relative_document(self) -> bytes:
        document = {**self.openapi(), "servers": [{"url": "."}]}
        return orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)


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
    api.router.routes += [*task_routes(), *model_routes(), *operation_routes(), *more_routes]
    api.router.routes += [
        DirectRoute(OPENAPI_PATH, api.show_openapi, methods=["GET"], include_in_schema=False),
        DirectRoute("/docs", show_docs, methods=["GET"], include_in_schema=False),
    ]
    api.mount(ASSETS_PATH, StaticFiles(directory=ASSETS))
    return api
