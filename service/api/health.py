"""GET /health/live and /health/ready, for whoever restarts processes and routes to them."""

from typing import Any

import orjson
from pydantic import BaseModel

from service.api.call import Call
from service.api.errors import Problem
from service.api.reply import Reply
from service.errors import ModelNotReadyError, ServiceError, ShuttingDownError


class HealthResponse(BaseModel):
    """Whether the process lives, or its models are ready."""

    status: str


_LIVE = orjson.dumps({"status": "live"})
_READY = orjson.dumps({"status": "ready"})


async def live(call: Call) -> Reply:
    """Answer 200 as long as the process can answer at all."""
    return Reply(_LIVE)


async def ready(call: Call) -> Reply:
    """Answer 200 when every wanted model can answer; else 503, and why not."""
    if call.context.lifecycle.shutting_down:
        return _not_ready(call, ShuttingDownError("the service is shutting down"), {})
    if reasons := call.context.registry.not_ready():
        error = ModelNotReadyError("some models cannot answer yet")
        return _not_ready(call, error, {"models": dict(reasons)})
    if problem := call.context.device_problem():
        return _not_ready(call, ModelNotReadyError(problem), {})
    return Reply(_READY)


def _not_ready(call: Call, error: ServiceError, extra: dict[str, Any]) -> Reply:
    problem = Problem.of(error)
    call.code = problem.code
    return problem.response(call.request_id, extra=extra)
