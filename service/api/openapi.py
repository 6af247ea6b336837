"""The OpenAPI document of the routes, with examples that work, and the page that shows it.

The script and style of the page come from a Python package; nothing is loaded from elsewhere.
"""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from service.api.http_request import HttpRequest
from service.api.parameters import MODEL, STREAM, TASK_HEADERS

ASSETS = Path(fastapi_offline.__file__).parent / "static"
ASSETS_PATH = "/docs/assets"
OPENAPI_PATH = "/openapi.json"
RELATIVE = b"relative"
"""The query with which the document names the server relative to itself."""

_SCHEMAS = "#/components/schemas/{model}"
_SAMPLES = files("service.page") / "samples"

Documentation = Mapping[str, Any]
Examples = Mapping[str, Any]


class FaultBody(BaseModel):
    """One item that could not be answered."""

    index: int = Field(description="Index of the item in the request, from 0.")
    code: str
    detail: str


class StepModel(BaseModel):
    """The model that a step of a workflow asked."""

    model: str
    version: int


class ProblemBody(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable: programs may rely on it.")
    request_id: str
    errors: list[FaultBody] | None = Field(None, description="The items that failed, if any did.")
    model: str | None = Field(None, description="The model that answered the other items.")
    version: int | None = None
    dimensions: int | None = None
    results: list[Any] | None = Field(
        None, description="Answers of the other items; null for those that failed."
    )
    workflow: str | None = Field(None, description="The workflow that answered the other items.")
    models: dict[str, str] | dict[str, StepModel] | None = Field(
        None,
        description="From /health/ready: the models that cannot answer yet, and why. From a "
        "workflow: its models, by step.",
    )


PROBLEM = {
    "description": "Refused, or failed; `code` says why.",
    "content": {
        "application/problem+json": {"schema": {"$ref": _SCHEMAS.format(model="ProblemBody")}}
    },
}


def reference(model: type[BaseModel]) -> Mapping[str, Any]:
    """Return the schema that refers to a model's."""
    return {"$ref": _SCHEMAS.format(model=model.__name__)}


def sample(name: str) -> str:
    """Return a sample image in base64."""
    return base64.b64encode((_SAMPLES / name).read_bytes()).decode()


def upload_documentation(
    request: type[BaseModel],
    field: str,
    media_types: Sequence[str],
    events: Sequence[Any],
    examples: Examples,
) -> Documentation:
    """Return the OpenAPI members of a route that takes a file and answers with a stream.

    Args:
        request: schema of the other fields of the form, or of the parameters of the query.
        field: the form's field for the file.
        media_types: of a body that is the file itself.
        events: schemas of the events.
        examples: the other fields of the form, by summary.
    """
    binary: dict[str, Any] = {"type": "string", "format": "binary"}
    others = request.model_json_schema()["properties"]
    form = {name: _without_null(schema) for name, schema in others.items()}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {field: binary, **form},
        "required": [field],
        "additionalProperties": False,
    }
    content = {"multipart/form-data": {"schema": schema, "examples": _examples(examples)}}
    content |= {media_type: {"schema": binary} for media_type in media_types}
    query = [{"name": name, "in": "query", "schema": schema} for name, schema in form.items()]
    return {
        "tags": ["tasks"],
        "responses": {
            200: {"content": {**streamed(events), "video/mp4": {"schema": binary}}},
            "default": PROBLEM,
        },
        "openapi_extra": {
            "requestBody": {"required": True, "content": content},
            "parameters": [*TASK_HEADERS, *query],
        },
    }


def task_documentation(
    request: type[BaseModel],
    response: type[BaseModel],
    examples: Examples,
    events: Sequence[type[BaseModel]] = (),
    path: Sequence[Mapping[str, Any]] = (),
) -> Documentation:
    """Return the OpenAPI members of a task's route.

    Args:
        request: schema of the body.
        response: schema of the response.
        examples: bodies by summary.
        events: schemas of the events of a stream.
        path: the parameters of the path.
    """
    content: dict[str, Any] = {
        "application/json": {
            "schema": {"$ref": _SCHEMAS.format(model=request.__name__)},
            "examples": _examples(examples),
        }
    }
    if "image" in request.model_fields:
        binary = {"type": "string", "format": "binary"}
        others = request.model_json_schema()["properties"]
        form = {name: _without_null(schema) for name, schema in others.items()}
        form["image"] = {"type": "array", "items": binary}
        if "text" in form:  # fields of a form are strings: it holds no pairs
            form["text"] = {"type": "array", "items": {"type": "string"}}
        ways = [{"required": [name]} for name in ("text", "image") if name in form]
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": form,
                "additionalProperties": False,
                "oneOf" if request.model_json_schema().get("oneOf") else "anyOf": ways,
            }
        }
        content["image/*"] = {"schema": binary}
    return {
        "tags": ["tasks"],
        "responses": {200: _answered(response, events), "default": PROBLEM},
        "openapi_extra": {
            "requestBody": {"required": True, "content": content},
            "parameters": [*path, *TASK_HEADERS],
        },
    }


def model_documentation(response: type[BaseModel], of_one: bool) -> Documentation:
    """Return the OpenAPI members of a route that shows models."""
    return {
        "tags": ["models"],
        "responses": {200: {"model": response}, "default": PROBLEM},
        "openapi_extra": {"parameters": [MODEL] if of_one else []},
    }


def administration_documentation(
    request: type[BaseModel] | None,
    success: Mapping[int, Any],
    examples: Examples,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> Documentation:
    """Return the OpenAPI members of a route for administrators.

    Args:
        request: schema of the body; None for no body.
        success: responses by status.
        examples: of bodies.
        parameters: of the path, besides the model.
    """
    all_of_path = [MODEL, *parameters]
    extra: dict[str, Any] = {"parameters": all_of_path, "security": [{"administrator": []}]}
    if request is not None:
        schema = {"$ref": _SCHEMAS.format(model=request.__name__)}
        content = {"application/json": {"schema": schema, "examples": _examples(examples)}}
        extra["requestBody"] = {"content": content}
    return {
        "tags": ["administration"],
        "responses": {**success, "default": PROBLEM},
        "openapi_extra": extra,
    }


def stream_documentation(
    success: Mapping[int, Any],
    of_one: bool,
    request: type[BaseModel] | None = None,
    examples: Examples | None = None,
) -> Documentation:
    """Return the OpenAPI members of a route of live streams.

    Args:
        success: the responses to a request that is not refused.
        of_one: whether the path names a stream.
        request: schema of the body; None without a body.
        examples: bodies by summary.
    """
    extra: dict[str, Any] = {
        "parameters": [STREAM] if of_one else [],
        "security": [{"administrator": []}],
    }
    if request is not None:
        content = {"schema": reference(request), "examples": _examples(examples or {})}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    return {
        "tags": ["streams"],
        "responses": {**success, "default": PROBLEM},
        "openapi_extra": extra,
    }


def operations_documentation(responses: Mapping[int | str, Any]) -> Documentation:
    """Return the OpenAPI members of a route for operators."""
    return {"tags": ["operations"], "responses": {**responses, "default": PROBLEM}}


def completed(openapi: dict[str, Any], requests: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """Add request schemas and the administrator's token to FastAPI's document."""
    models: list[type[BaseModel]] = [*requests, ProblemBody]
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template=_SCHEMAS
    )
    components = openapi.setdefault("components", {})
    components.setdefault("schemas", {}).update(definitions.get("$defs", {}))
    components["securitySchemes"] = {"administrator": {"type": "http", "scheme": "bearer"}}
    return openapi


async def show_docs(request: HttpRequest) -> Response:
    """Return the documentation page. Its links are relative: it may stand behind a prefix."""
    assets = ASSETS_PATH.removeprefix("/")
    return get_swagger_ui_html(
        openapi_url=f"{OPENAPI_PATH.removeprefix('/')}?{RELATIVE.decode()}",
        title="Quartet",
        swagger_js_url=f"{assets}/swagger-ui-bundle.js",
        swagger_css_url=f"{assets}/swagger-ui.css",
        swagger_favicon_url=f"{assets}/favicon.png",
        # Without this, the page sends the document to Swagger's validator.
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
    )


def _answered(response: type[BaseModel], events: Sequence[type[BaseModel]]) -> Mapping[str, Any]:
    if not events:
        return {"model": response}
    return {"model": response, "content": streamed(events)}


def streamed(events: Sequence[type[BaseModel]]) -> Mapping[str, Any]:
    """Return the content of a response that is a stream of events."""
    kinds = [{"$ref": _SCHEMAS.format(model=event.__name__)} for event in events]
    media = {"schema": {"anyOf": kinds, "description": "Of each event; `event` names its kind."}}
    return dict.fromkeys(("application/x-ndjson", "text/event-stream"), media)


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a form's field, which can be left out but cannot be null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return rest | ({"anyOf": kinds} if len(kinds) > 1 else dict(*kinds))


def _examples(bodies: Examples) -> Mapping[str, Any]:
    return {name: {"summary": name, "value": body} for name, body in bodies.items()}
