"""What request schemas say besides their fields: which exclude one another, and their limits."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.config import JsonDict

from service.requests.admission import ApiLimits

NO_NULL_CHARACTER = r"^[^\u0000]*$"


_ABSENT: JsonDict = {"type": "null"}


_PRESENT: JsonDict = {"not": _ABSENT}


def given(present: str, *absent: str) -> JsonDict:
    """Return the schema of an object that has one field, and not others; null counts as absent."""
    return {
        "required": [present],
        "properties": {present: _PRESENT, **dict.fromkeys(absent, _ABSENT)},
    }


def absent(*names: str) -> JsonDict:
    """Return the schema of an object without these fields; null counts as absent."""
    return {"properties": dict.fromkeys(names, _ABSENT)}


def not_both(one: str, other: str) -> JsonDict:
    """Return the schema of an object that has at most one of two fields."""
    return {
        "not": {"required": [one, other], "properties": {one: _PRESENT, other: _PRESENT}},
    }


def add_limits(document: Mapping[str, Any], limits: ApiLimits) -> None:
    """Write the limits of the settings into an OpenAPI document."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        if name.endswith("Request"):
            is_document = "split" in schema["properties"]
            _limit(schema["properties"], limits, is_document)
            if is_document:
                _limit_whole_texts(schema, limits)
    for path in document["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {})
            if form := content.get("multipart/form-data"):
                _limit(form["schema"]["properties"], limits, False)


def add_key(document: dict[str, Any]) -> None:
    """Write into an OpenAPI document that requests need a key, so that /docs asks for it."""
    schemes = document["components"]["securitySchemes"]
    schemes["key"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    document["security"] = [{"key": []}]


def _limit(properties: Mapping[str, Any], limits: ApiLimits, is_document: bool) -> None:
    most = limits.max_document_characters if is_document else limits.max_characters
    _limit_strings(properties.get("text"), most)
    _limit_strings(properties.get("source_text"), most)
    _limit_strings(properties.get("labels"), limits.max_characters)
    for schema in _within(properties.get("image")):
        if schema.get("type") == "string" and schema.get("format") != "binary":
            schema["minLength"] = 1
    for name in ("text", "image"):
        for schema in _within(properties.get(name)):
            if schema.get("type") == "array":
                schema |= {"minItems": 1, "maxItems": limits.max_items}


def _limit_strings(within: Any, most: int) -> None:
    for schema in _within(within):
        if schema.get("type") == "string":
            schema |= {"minLength": 1, "maxLength": most, "pattern": NO_NULL_CHARACTER}


def _limit_whole_texts(schema: dict[str, Any], limits: ApiLimits) -> None:
    """A text that must not be split has the limit of any other text."""
    text = {"type": "string", "maxLength": limits.max_characters}
    schema["if"] = {"required": ["split"], "properties": {"split": {"const": "none"}}}
    schema["then"] = {"properties": {"text": {"anyOf": [text, {"type": "array", "items": text}]}}}


def _within(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas in it."""
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _within(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _within(part)
