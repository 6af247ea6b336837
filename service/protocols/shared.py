"""A path of a native route that a protocol claims too."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply, problem_reply
from service.api.routes import Endpoint
from service.errors import ServiceError
from service.protocols.bodies import parse_object, read_body
from service.protocols.protocol import Operation, ProtocolRoute


class SharedRoute(ProtocolRoute):
    """Answers bodies of a protocol on the path of a native route, and all others natively.

    The document of OpenAPI shows the native route alone.
    """

    def __init__(
        self,
        path: str,
        native: Endpoint,
        mark: bytes,
        claims: Callable[[Mapping[str, Any]], bool],
        operation: Operation,
    ) -> None:
        """Take the endpoint of the native route.

        Args:
            path: of the native route.
            native: reads the body again.
            mark: what every body of the protocol contains; others are not parsed here.
            claims: tells whether a body belongs to the protocol.
            operation: answers these.
        """
        self._native, self._mark, self._claims = native, mark, claims
        self._operation = operation
        super().__init__(
            path, self._endpoint, [operation.protocol], methods=["POST"], include_in_schema=False
        )

    async def _endpoint(self, request: HttpRequest) -> Response:
        protocol = self._operation.protocol
        body = await request.peek_body()
        if self._mark not in body or not self._claims(self._members(request, body)):
            return await self._native(request)
        request.record.protocol = protocol.name
        return await self._operation.answer(request, await read_body(request, protocol.reading))

    def refuse(self, request: HttpRequest, problem: Problem) -> Reply:
        """Return an error in the shape of the protocol if it claimed the body."""
        protocol = self._operation.protocol
        if request.record.protocol == protocol.name:
            return protocol.render_error(problem)
        return problem_reply(request, problem)

    def _members(self, request: HttpRequest, body: bytes) -> Mapping[str, Any]:
        """Return the members of a JSON object; none of what the native route will refuse."""
        most = self._operation.protocol.reading.most_values
        try:
            return parse_object(body, request.context.limits, most)
        except ServiceError:
            return {}
