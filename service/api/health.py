"""GET /health/live and /health/ready, for whoever restarts processes and routes to them."""

import asyncio
from typing import Any

import orjson
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from service.api.errors import Problem, Reply
from service.api.http_request import HttpRequest
from service.errors import ModelNotReadyError, ServiceError, ShuttingDownError


async def metrics(call: HttpRequest) -> Reply:
    """Return every metric as Prometheus text, or as OpenMetrics where that is accepted."""
    encode, content_type = choose_encoder(call.given.get(b"accept", b"").decode("latin-1"))
    # In a thread: hundreds of series take milliseconds, which no item should wait for.
    body = await asyncio.to_thread(encode, REGISTRY)
    return Reply(body, content_type=content_type.encode())


class HealthResponse(BaseModel):
    """Whether the process lives, or its models are ready."""

    status: str


_LIVE = orjson.dumps({"status": "live"})
_READY = orjson.dumps({"status": "ready"})


async def live(call: HttpRequest) -> Reply:
    """Answer 200 as long as the process can answer at all."""
    return Reply(_LIVE)


async def ready(call: HttpRequest) -> Reply:
    """Answer 200 when every wanted model can answer; else 503, and why not."""
    if call.context.lifecycle.shutting_down:
        return _not_ready(call, ShuttingDownError("the service is shutting down"), {})
    if reasons := call.context.registry.not_ready():
        error = ModelNotReadyError("some models cannot answer yet")
        return _not_ready(call, error, {"models": dict(reasons)})
    if problem := call.context.device_problem():
        return _not_ready(call, ModelNotReadyError(problem), {})
    return Reply(_READY)


def _not_ready(call: HttpRequest, error: ServiceError, extra: dict[str, Any]) -> Reply:
    problem = Problem.of(error)
    call.code = problem.code
    return problem.response(call.request_id, extra=extra)
