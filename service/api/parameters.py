"""Headers and parameters of paths, as OpenAPI documents them."""

from collections.abc import Mapping
from typing import Any


def header(name: str, description: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the documentation of a header."""
    return {"name": name, "in": "header", "description": description, "schema": schema}


MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "example": "news-topics",
}
WORKFLOW = {
    "name": "workflow",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[^/]+$"},
    "example": "cards",
}
STREAM = {
    "name": "stream",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"},
}
ALIAS = {
    "name": "alias",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"},
    "example": "prod",
}
TASK_HEADERS = (
    header(
        "X-Request-Timeout-Ms",
        "Milliseconds after which the answer is of no use. The default is 30 seconds; a value over "
        "the longest deadline of the service is reduced to it.",
        {"type": "integer", "minimum": 1},
    ),
    header(
        "X-Request-Priority",
        "Higher is served first.",
        {"type": "integer", "minimum": -10, "maximum": 10, "default": 0},
    ),
    header(
        "Cache-Control",
        "`no-cache` computes the answer again and stores it; `no-store` bypasses the cache.",
        {"type": "string", "examples": ["no-cache", "no-store"]},
    ),
    header(
        "X-Sticky-Key",
        "Requests of the same value get the same of several versions of a model.",
        {"type": "string"},
    ),
    header(
        "X-Request-Id",
        "Returned in the response and logged if it is 1 to 128 letters, digits, dots, dashes and "
        "underscores; else a new id is used.",
        {"type": "string"},
    ),
)
