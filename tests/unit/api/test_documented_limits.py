"""OpenAPI tells the same bounds as the service: what one refuses the other refuses, and no more.

Inputs are made at each bound of the document, and at each limit of the settings, just inside and
just outside; a small reader of JSON schemas says which of them the document allows.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from service.settings import Settings
from service.tasks import Task
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import PNG
from tests.unit.api.test_content import BASE64

LIMITS = ApiLimits(
    max_items=3, max_characters=20, max_document_characters=50, max_body_bytes=50_000
)
REGISTRY = FakeRegistry()
REGISTRY.pipelines[Task.TRANSLATE, "text"].is_in_flight = True
API = build_api(ApiContext(REGISTRY, Lifecycle(), LIMITS, admin_token=TOKEN))
DOCUMENT = API.openapi()
LOAD = "/v1/models/digits/load"
SMALLEST: Mapping[str, Mapping[str, Any]] = {
    "/v1/classify": {"text": "a"},
    "/v1/translate": {"text": "a"},
    "/v1/embed": {"text": "a"},
    "/v1/detect": {"image": BASE64},
    "/v1/similarity": {"source_text": "a", "text": "b"},
    LOAD: {},
}
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
    "boolean": bool,
}
BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minLength": lambda bound, value: len(value) >= bound,
    "maxLength": lambda bound, value: len(value) <= bound,
    "pattern": lambda bound, value: re.search(bound, value) is not None,
    "minimum": lambda bound, value: value >= bound,
    "maximum": lambda bound, value: value <= bound,
    "exclusiveMaximum": lambda bound, value: value < bound,
    "contentEncoding": lambda bound, value: value == BASE64,  # what else is tried is no image
    "minItems": lambda bound, value: len(value) >= bound,
    "maxItems": lambda bound, value: len(value) <= bound,
    "maxProperties": lambda bound, value: len(value) <= bound,
    "required": lambda bound, value: set(bound) <= set(value),
    "uniqueItems": lambda _, value: len(set(map(str, value))) == len(value),
    "items": lambda bound, value: all(allows(bound, one) for one in value),
    "propertyNames": lambda bound, value: all(allows(bound, name) for name in value),
}
"""Of values of the keyword's own kind."""
COMBINING: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": lambda bound, value: (
        isinstance(value, TYPES[bound]) and isinstance(value, bool) == (bound == "boolean")
    ),
    "enum": lambda bound, value: value in bound,
    "const": lambda bound, value: bool(value == bound),
    "anyOf": lambda bound, value: any(allows(one, value) for one in bound),
    "oneOf": lambda bound, value: sum(allows(one, value) for one in bound) == 1,
    "not": lambda bound, value: not allows(bound, value),
    "then": lambda bound, value: True,  # looked at with `if`
}
KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "contentEncoding"), (str,)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMaximum"), (int, float)),
    **dict.fromkeys(("minItems", "maxItems", "uniqueItems", "items"), (list,)),
    **dict.fromkeys(("maxProperties", "required", "propertyNames"), (dict,)),
}
SIZES = [
    *("minLength", "maxLength", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMaximum"),
]
NOTES = {"title", "description", "default", "format"}


def schema_of(path: str, kind: str = "application/json") -> Mapping[str, Any]:
    operation = DOCUMENT["paths"][path.replace("digits", "{model}")]["post"]
    schema = operation["requestBody"]["content"][kind]["schema"]
    name = schema.get("$ref", "").rpartition("/")[2]
    return DOCUMENT["components"]["schemas"][name] if name else schema


def allows(schema: Any, value: Any) -> bool:
    """Tell whether a JSON schema, of the keywords that the document uses, allows a value."""
    if isinstance(schema, bool):
        return schema
    return all(_allows(schema, keyword, value) for keyword in schema if keyword not in NOTES)


def _allows(schema: Mapping[str, Any], keyword: str, value: Any) -> bool:
    bound, fields = schema[keyword], value if isinstance(value, dict) else {}
    if keyword in COMBINING:
        return COMBINING[keyword](bound, value)
    if keyword == "if":
        return not allows(bound, value) or allows(schema["then"], value)
    if keyword == "properties":
        return all(allows(bound[name], one) for name, one in fields.items() if name in bound)
    if keyword == "additionalProperties":
        others = set(fields) - set(schema.get("properties", {}))
        return all(allows(bound, fields[name]) for name in others)
    return not isinstance(value, KINDS[keyword]) or BOUNDS[keyword](bound, value)


def at_bounds(schema: Any) -> Iterator[Any]:
    """Yield values at every bound of a schema: inside, outside, and of other types."""
    yield from (None, True, "", " ", "a\0", 0, -1, [], {})
    for one in schema.get("anyOf", [schema]):
        yield from _at_bounds(one)


def _at_bounds(schema: Mapping[str, Any]) -> Iterator[Any]:
    if "anyOf" in schema:
        yield from at_bounds(schema)
    yield from schema.get("enum", [])
    around = {name: range(schema[name] - 1, schema[name] + 2) for name in SIZES if name in schema}
    for name, numbers in around.items():
        yield from (numbers if schema["type"] in ("integer", "number") else ())
        yield from ("5" * max(n, 0) for n in numbers if name.endswith("Length"))
    if "contentEncoding" in schema:
        yield BASE64
    if schema.get("type") == "array":
        yield from ([one] for one in _at_bounds(schema["items"]))
        allowed = [one for one in _at_bounds(schema["items"]) if allows(schema["items"], one)]
        inside = min(allowed, key=lambda one: len(str(one)))  # all of them together are limited
        yield from ([inside] * n for name, ns in around.items() if "Items" in name for n in ns)
    if schema.get("type") == "object":
        yield from _objects(schema)


def _objects(schema: Mapping[str, Any]) -> Iterator[Any]:
    names = schema.get("properties", {})
    yield {"text": "a", "text_pair": "b", "more": 1}
    for name, own in names.items():
        rest = dict.fromkeys(set(names) - {name}, "a")
        yield rest
        yield from ({**rest, name: one} for one in at_bounds(own))
    if "propertyNames" in schema:
        for one in at_bounds(schema["propertyNames"]):
            yield from ({name: "a"} for name in [one] if isinstance(name, str))
            yield {"a": one}
        for more in (0, 1):
            yield {f"{n}x": "a" for n in range(schema["maxProperties"] + more)}


def bodies(path: str) -> Iterator[dict[str, Any]]:
    smallest = dict(SMALLEST[path])
    yield from ({}, {"nothing": 1}, smallest)
    properties = schema_of(path)["properties"]
    for name, schema in properties.items():
        rest = {} if name in ("text", "image") else smallest
        yield from ({**rest, name: value} for value in at_bounds(schema))
    for one in ({"text": "a"}, {"image": BASE64}, {"text": "a", "image": BASE64}):
        fields: Mapping[str, Any] = one
        if set(fields) <= set(properties):
            yield from (fields, {**dict.fromkeys(("text", "image") & properties.keys()), **fields})
            yield from ({**fields, name: None} for name in properties if name not in fields)
            if "prompt_name" in properties:
                yield {**fields, "prompt_name": "query"}
    if "split" in properties:
        whole = [LIMITS.max_characters, LIMITS.max_characters + 1]
        yield from ({"text": "五" * n, "split": by} for n in whole for by in ("none", "auto"))
        yield from ({"text": ["五" * n], "split": "none"} for n in whole)
        yield {"text": "a", "max_length": 5, "max_new_tokens": 5}
        yield {"text": "a", "max_length": 5, "max_new_tokens": None}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(API)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://quartet", headers=headers
    ) as client:
        yield client


@pytest.mark.parametrize("path", list(SMALLEST))
async def test_the_document_allows_what_the_service_answers(
    client: httpx.AsyncClient, path: str
) -> None:
    differences, count, refused = [], 0, 0
    for body in bodies(path):
        if body.get("precision") not in (None, "fp32", "int8") and path == LOAD:
            continue  # the version lacks it, which no document can say
        response = await client.post(path, json=body)
        count, refused = count + 1, refused + (not response.is_success)
        if response.status_code == 404:
            continue  # no document knows the models
        if allows(schema_of(path), body) != response.is_success:
            differences.append((body, response.status_code, response.text[:300]))
        assert response.status_code < 500
    assert differences == []
    assert count > 20
    assert refused > 5


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embed", "/v1/detect"])
async def test_a_form_is_documented_as_it_is_read(client: httpx.AsyncClient, path: str) -> None:
    schema = schema_of(path, "multipart/form-data")
    image, properties = ("image", ("a.png", PNG)), schema["properties"]
    for texts in range(LIMITS.max_items + 2):
        for images in range(LIMITS.max_items + 2):
            if texts + images > LIMITS.max_items and 0 not in (texts, images):
                continue  # the limit is of both together, which no schema can say
            files: list[Any] = [("text", (None, "a"))] * texts + [image] * images
            value = {"text": ["a"] * texts, "image": ["..."] * images}
            value = {name: listed for name, listed in value.items() if listed}
            response = await client.post(path, files=files or [("model", (None, "digits"))])
            wanted = allows(schema, value)
            assert response.is_success == wanted, (value, response.text)
    enough: list[Any] = [image] if path == "/v1/detect" else [("text", (None, "a"))]
    for name, own in properties.items():
        for bound in ("minimum", "maximum", "exclusiveMaximum"):
            for more in (-1, 0, 1) if bound in own and name != "version" else ():
                number = own[bound] + more
                response = await client.post(path, files=[*enough, (name, (None, str(number)))])
                assert response.is_success == allows(own, number), (name, number, response.text)


@pytest.mark.parametrize("name", ["X-Request-Timeout-Ms", "X-Request-Priority"])
async def test_headers_are_documented_as_they_are_read(
    client: httpx.AsyncClient, name: str
) -> None:
    parameters = DOCUMENT["paths"]["/v1/classify"]["post"]["parameters"]
    [schema] = [each["schema"] for each in parameters if each["name"] == name]
    bounds = [schema[bound] for bound in ("minimum", "maximum") if bound in schema]
    numbers = [bound + more for bound in bounds for more in (-1, 0, 1)]
    for number in [*numbers, 1000] + ([10**9 + 1, 10**30] if "maximum" not in schema else []):
        response = await client.post(
            "/v1/classify", json={"text": "a"}, headers={name: str(number)}
        )
        assert response.is_success == allows(schema, number), (number, response.text)


@pytest.mark.parametrize("control", ["no-cache", "no-store", "max-age=0", "private, x=1"])
async def test_other_headers_are_documented_as_free(
    client: httpx.AsyncClient, control: str
) -> None:
    parameters = DOCUMENT["paths"]["/v1/classify"]["post"]["parameters"]
    schemas = {each["name"]: each["schema"] for each in parameters}
    headers = {"cache-control": control, "x-request-id": "any thing, really"}
    response = await client.post("/v1/classify", json={"text": "a"}, headers=headers)
    assert response.is_success
    assert not {"enum", "pattern"} & {*schemas["Cache-Control"], *schemas["X-Request-Id"]}


def test_the_limits_of_the_settings_are_in_the_document() -> None:
    limits = ApiLimits(**Settings().limits.model_dump())
    document = build_api(ApiContext(FakeRegistry(), Lifecycle(), limits)).openapi()
    schemas = document["components"]["schemas"]
    for name, most in (
        ("ClassifyRequest", limits.max_characters),
        ("EmbedRequest", limits.max_characters),
        ("TranslateRequest", limits.max_document_characters),
    ):
        text = schemas[name]["properties"]["text"]
        assert allows(text, "五" * most)
        assert not allows(text, "五" * (most + 1))
        assert allows(text, ["五"] * limits.max_items)
        assert not allows(text, ["五"] * (limits.max_items + 1))


def lists_in(schema: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the schemas of lists within one, with their places."""
    if isinstance(schema, dict):
        if schema.get("type") == "array":
            yield path, schema
        for name, part in schema.items():
            if name != "then":  # it bounds the texts in a list, which has its bounds elsewhere
                yield from lists_in(part, f"{path}.{name}")
    elif isinstance(schema, list):
        for part in schema:
            yield from lists_in(part, path)


def test_every_list_of_a_request_has_a_bound() -> None:
    found = {}
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            for kind, media in content.items():
                name = media["schema"].get("$ref", "").rpartition("/")[2]
                schema = DOCUMENT["components"]["schemas"][name] if name else media["schema"]
                found |= dict(lists_in(schema, f"{path} {kind}"))
    assert len(found) > 12
    assert {place for place, schema in found.items() if "maxItems" not in schema} == set()
