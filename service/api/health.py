"""GET /health/live, /health/ready and /metrics."""

import asyncio
from typing import Any

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.replies import Reply, problem_reply
from service.errors import ModelNotReadyError, ServiceError, ShuttingDownError


async def metrics(request: HttpRequest) -> Reply:
    """Return all metrics as Prometheus text, or as OpenMetrics if the client accepts it."""
    encode, content_type = choose_encoder(request.given.get(b"accept", b"").decode("latin-1"))
    of_all = request.context.metrics
    registry = REGISTRY if of_all is None else await of_all()
    # In a thread, because hundreds of series take milliseconds.
    body = await asyncio.to_thread(encode, registry)
    return Reply(body, content_type=content_type.encode())


class HealthResponse(BaseModel):
    """Whether the process lives, or its models are ready."""

    status: str


_LIVE = orjson.dumps({"status": "live"})
_READY = orjson.dumps({"status": "ready"})


async def live(request: HttpRequest) -> Reply:
    """Answer 200 as long as the process can answer at all."""
    return Reply(_LIVE)


async def ready(request: HttpRequest) -> Reply:
    """Answer 200 when every wanted model can answer; else 503, and why not."""
    if request.context.lifecycle.shutting_down:
        return _not_ready(request, ShuttingDownError("the service is shutting down"), {})
    if reasons := request.context.registry.not_ready():
        error = ModelNotReadyError("some models cannot answer yet")
        return _not_ready(request, error, {"models": dict(reasons)})
    if problem := request.context.device_problem():
        return _not_ready(request, ModelNotReadyError(problem), {})
    return Reply(_READY)


def _not_ready(request: HttpRequest, error: ServiceError, extra: dict[str, Any]) -> Reply:
    return problem_reply(request, Problem.of(error), extra)
