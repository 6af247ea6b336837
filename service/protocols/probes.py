"""GET /health, /info, /ping and /.well-known, which several protocols have: one answer for all."""

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from pydantic import BaseModel

from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.errors import ModelNotReadyError, ShuttingDownError
from service.protocols.protocol import ProtocolRoute, get, rendered
from service.protocols.tei import BELOW_MODEL, TEI
from service.protocols.tei_tokens import selection, text_model
from service.requests.answer import NotResidentError
from service.requests.pipeline import Pipeline
from service.tasks import ComposedTask, Task

_EXAMPLE = {"model": "emoji"}
_POOLINGS = {"lasttoken": "last_token"}
"""Names of text-embeddings-inference that differ."""


class HealthAnswer(BaseModel):
    """The service answers."""

    status: Literal["ok"]
    unix: float


class PingAnswer(BaseModel):
    """The process lives."""

    status: Literal["Healthy"]


class InfoAnswer(BaseModel):
    """The model of a server of text-embeddings-inference, and the name of the service."""

    name: str
    version: str
    uuid: str
    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool


async def health(request: HttpRequest) -> Reply:
    """Answer 200 when every wanted model, or the model in the path, can answer; else 503."""
    if request.context.lifecycle.shutting_down:
        raise ShuttingDownError("the service is shutting down")
    registry = request.context.registry
    if (name := selection(request).model) is not None:
        with suppress(NotResidentError):  # a request loads it
            registry.named(name)
    elif reasons := registry.not_ready():
        raise ModelNotReadyError(f"some models cannot answer yet: {', '.join(reasons)}")
    if problem := request.context.device_problem():
        raise ModelNotReadyError(problem)
    return rendered({"status": "ok", "unix": time.time()})


async def ping(request: HttpRequest) -> Reply:
    """Answer 200 as long as the process can answer at all."""
    return rendered({"status": "Healthy"})


async def info(request: HttpRequest) -> Reply:
    """Describe the model in the path, else the default text embedder or classifier."""
    pipeline = await text_model(request)
    (status,) = (
        status
        for status in request.context.registry.status(pipeline.model.name)
        if status.version == pipeline.model.version
    )
    longest = pipeline.family.traits.max_tokens or 0
    states = [engine.statistics() for engine in pipeline.engines.values()]
    ceiling = min(state.ceiling for state in states)
    return rendered(
        {
            "name": "quartet",
            "version": _own_version(),
            "uuid": pipeline.model.digest,
            "model_id": pipeline.model.name,
            "model_sha": pipeline.model.digest,
            "model_dtype": status.precision or "",
            "served_model_name": pipeline.model.name,
            "model_type": _model_type(pipeline, status.labels),
            "max_concurrent_requests": min(state.most_pending for state in states),
            "max_input_length": longest,
            "max_batch_tokens": longest * ceiling,
            "max_batch_requests": ceiling,
            "max_client_batch_size": request.context.limits.max_items,
            "auto_truncate": True,
        }
    )


def probe_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    return [
        get("/health", TEI, health, HealthAnswer, key_place="none"),
        get("/ping", TEI, ping, PingAnswer, key_place="none"),
        get("/.well-known/ready", TEI, health, HealthAnswer, key_place="none"),
        get("/.well-known/live", TEI, ping, PingAnswer, key_place="none"),
        get("/info", TEI, info, InfoAnswer),
        get(f"{BELOW_MODEL}/health", TEI, health, HealthAnswer, _EXAMPLE, key_place="none"),
        get(f"{BELOW_MODEL}/info", TEI, info, InfoAnswer, _EXAMPLE),
        get(BELOW_MODEL, TEI, health, HealthAnswer, _EXAMPLE, key_place="none"),
    ]


def _model_type(pipeline: Pipeline[Any, Any], labels: Sequence[str]) -> dict[str, Any]:
    if pipeline.task is Task.EMBED:
        pooling = pipeline.family.traits.pooling
        return {"embedding": {"pooling": _POOLINGS.get(pooling, pooling)}}
    kind = "reranker" if (ComposedTask.RERANK, "text") in pipeline.abilities else "classifier"
    by_number = {str(number): label for number, label in enumerate(labels)}
    return {kind: {"id2label": by_number, "label2id": {v: int(k) for k, v in by_number.items()}}}


@cache
def _own_version() -> str:
    try:
        return version("quartet")
    except PackageNotFoundError:
        return "0"
