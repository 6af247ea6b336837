"""The aliases of a model: names that requests use for a version, or for shares of several."""

from collections.abc import Mapping
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.audit import audited
from service.api.content import Version, parse_json
from service.api.http_request import HttpRequest
from service.api.models import require_administrator
from service.api.replies import Reply
from service.registry.aliases import Weights

_Weight = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class AliasRequest(BaseModel):
    """What an alias stands for: one version, or several with weights."""

    model_config = ConfigDict(extra="forbid")

    version: Version | None = Field(None, description="The version that gets all requests.")
    weights: dict[Version, _Weight] | None = Field(
        None,
        description="By version, its weight: requests are divided in proportion.",
        examples=[{"1": 95, "2": 5}],
    )

    @model_validator(mode="after")
    def _is_one(self) -> "AliasRequest":
        if (self.version is None) == (self.weights is None):
            raise ValueError("give version, or weights")
        return self

    @property
    def asked(self) -> Weights:
        """Return the weights."""
        return {self.version: 1.0} if self.version is not None else self.weights or {}


class AliasResponse(BaseModel):
    """An alias, and the weights of its versions."""

    model: str
    alias: str
    weights: dict[int, float]


class AliasesResponse(BaseModel):
    """The aliases of one model; `default` is that of requests that name no version."""

    model: str
    aliases: dict[str, dict[int, float]]


async def show_aliases(request: HttpRequest) -> Reply:
    """Show the aliases of a model."""
    model, registry = request.path_params["model"], request.context.registry
    registry.status(model)  # refuses a model that is not there
    return _reply({"model": model, "aliases": dict(registry.aliases(model))})


async def put_alias(request: HttpRequest) -> Reply:
    """Let an alias stand for other versions, which are loaded first.

    Requests that have found a version finish on it. `default` is the alias of requests that name
    no version.
    """
    require_administrator(request)
    asked = parse_json(await request.read_body(), AliasRequest, request.context.limits).asked
    await _change(request, asked)
    model, alias = request.path_params["model"], request.path_params["alias"]
    weights = request.context.registry.aliases(model)[alias]
    return _reply({"model": model, "alias": alias, "weights": dict(weights)})


async def delete_alias(request: HttpRequest) -> Reply:
    """Remove an alias; versions that nothing names any more are unloaded."""
    require_administrator(request)
    await _change(request, None)
    return Reply(b"", status=204)


async def _change(request: HttpRequest, weights: Weights | None) -> None:
    model, alias = request.path_params["model"], request.path_params["alias"]
    registry = request.context.registry

    def state() -> str:
        found = registry.aliases(model).get(alias, {})
        return "+".join(f"{version}:{weight:g}" for version, weight in found.items()) or "none"

    change = registry.set_alias(model, alias, weights)
    await audited(request.caller, f"alias {alias[:64]}", model, state, change)


def _reply(body: Mapping[str, object]) -> Reply:
    return Reply(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS))
