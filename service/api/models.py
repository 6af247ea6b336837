"""GET /v1/models; loading and unloading with the administrator's token."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.access.caller import Caller
from service.api.audit import audited, versions_of
from service.api.content import Version, parse_json
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.errors import AdministrationDisabledError, InvalidInputError, UnauthorizedError
from service.registry.candidates import Candidate
from service.registry.parity import Parity
from service.registry.status import VersionStatus
from service.repository.manifest import Precision
from service.repository.repository import PrecisionNotFoundError

_BEARER = b"bearer "
# Parity has a path of its own.
_OWN = ("parity", "candidates")


class LoadRequest(BaseModel):
    """Which version to load, in which precision; an empty body takes the defaults."""

    model_config = ConfigDict(extra="forbid")

    version: Version | None = Field(None, description="The newest, if left out.")
    precision: Precision | None = Field(None, description="The device's default, if left out.")


class ListedModel(BaseModel):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"]
    created: int = Field(description="When it was loaded, in Unix seconds.")
    owned_by: str


class ModelsResponse(BaseModel):
    """Every known version, by model and version; and the models that are ready, as OpenAI's."""

    object: Literal["list"]
    data: list[ListedModel]
    models: list[VersionStatus]


class ModelResponse(ListedModel):
    """The known versions of one model; and the model as OpenAI's clients show it."""

    model: str
    versions: list[VersionStatus]


class VersionParity(BaseModel):
    """How one version compares with its recorded goldens; null if it has none, or is not ready."""

    version: int | None
    parity: Parity | None
    candidates: list[Candidate] = Field(
        description="What could compute it, with times and deviations measured at load; empty if "
        "there was nothing to choose."
    )


class ParityResponse(BaseModel):
    """The comparisons of one model's known versions."""

    model: str
    versions: list[VersionParity]


async def list_models(request: HttpRequest) -> Reply:
    """List every known version with its state, digest, precision, device and statistics."""
    statuses = request.context.registry.statuses()
    ready = [status for status in statuses if status.can_answer]
    by_name = {status.model: status for status in ready}  # several versions are one model
    data = [listed_model(status) for status in by_name.values()]
    return _reply({"object": "list", "data": data, "models": _shown(statuses)})


async def show_model(request: HttpRequest) -> Reply:
    """Show the known versions of one model."""
    model = request.path_params["model"]
    statuses = request.context.registry.status(model)
    newest = max(statuses, key=lambda status: status.loaded_at or 0)
    return _reply({**listed_model(newest), "model": model, "versions": _shown(statuses)})


def listed_model(status: VersionStatus) -> Mapping[str, Any]:
    """Return a model in the form of OpenAI's list."""
    created = status.loaded_at or 0
    return {"id": status.model, "object": "model", "created": created, "owned_by": "quartet"}


async def show_parity(request: HttpRequest) -> Reply:
    """Show how the answers of a model compare with its original's, unbatched and in batches."""
    model = request.path_params["model"]
    versions = [
        {
            "version": status.version,
            "parity": status.parity,
            "candidates": list(status.candidates),
        }
        for status in request.context.registry.status(model)
    ]
    return _reply({"model": model, "versions": versions})


async def load_model(request: HttpRequest) -> Reply:
    """Load a version and swap it in; if that fails, the present one goes on serving.

    Answers when the version is ready. It is not stopped by a client that leaves or by a
    deadline: a version half loaded is of no use to anyone.
    """
    require_administrator(request)
    body = await request.read_body()
    wanted = parse_json(body, LoadRequest, request.context.limits) if body else LoadRequest()
    model, registry = request.path_params["model"], request.context.registry
    try:
        change = registry.load(model, wanted.version, wanted.precision)
        state = versions_of(registry, model)
        status = await audited(request.caller, "load", model, state, change)
    except PrecisionNotFoundError as error:
        if wanted.precision is None:  # then it is the operator's setting that asks for it
            raise
        raise InvalidInputError(str(error)) from None
    return _reply(_shown([status])[0])


async def unload_model(request: HttpRequest) -> Reply:
    """Take a model out of service; what it has accepted is answered first."""
    require_administrator(request)
    model, registry = request.path_params["model"], request.context.registry
    state = versions_of(registry, model)
    await audited(request.caller, "unload", model, state, registry.unload(model))
    return Reply(b"", status=204)


def require_administrator(request: HttpRequest) -> None:
    """Raise what `check_administrator` raises for a request."""
    check_administrator(request.caller, request.context.admin_token, request.given)


def check_administrator(
    caller: Caller | None, token: str | None, headers: Mapping[bytes, bytes]
) -> None:
    """Check the key, or without a keys file the administrator's token.

    Args:
        caller: the owner of the key; None without a keys file.
        token: the administrator's.
        headers: of the request, by lower-case name.

    Raises:
        AdministrationDisabledError: there is neither a keys file nor a token.
        ForbiddenError: the key is not an administrator's.
        UnauthorizedError: the token is missing or wrong.
    """
    if caller is not None:
        caller.require_administrator()
        return
    if not token:
        raise AdministrationDisabledError(
            "this is for administrators, and disabled: start the service with an administrator's "
            "token in QUARTET_ADMIN__TOKEN"
        )
    given = headers.get(b"authorization", b"")
    known = hmac.compare_digest(given[len(_BEARER) :], token.encode())
    if not (known and given[: len(_BEARER)].lower() == _BEARER):
        raise UnauthorizedError(
            "the administrator's token is missing or wrong: send the value of QUARTET_ADMIN__TOKEN "
            "as Authorization: Bearer"
        )


def _shown(statuses: Sequence[VersionStatus]) -> Sequence[Mapping[str, Any]]:
    return [
        {
            name: getattr(status, name)
            for name in VersionStatus.__dataclass_fields__
            if name not in _OWN
        }
        for status in statuses
    ]


def _reply(body: Mapping[str, Any]) -> Reply:
    option = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return Reply(orjson.dumps(body, option=option, default=dict))
