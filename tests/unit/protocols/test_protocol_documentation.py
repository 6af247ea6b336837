"""The routes of protocols in the OpenAPI document: their examples are answered."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from service.api import ApiContext, Lifecycle, build_api
from service.protocols import protocol_routes
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.test_documentation import members, references

ROUTES = protocol_routes()
OPENAPI = build_api(ApiContext(FakeRegistry(), Lifecycle()), None, ROUTES).openapi()
PATHS = {route.path_format for route in ROUTES}
NEEDS_A_MODEL = ("/tokenize", "/decode", "/info")
"""Ends of the paths that the fake models cannot answer."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            if path in PATHS:
                yield method, path, operation


def examples() -> Iterator[Any]:
    """Yield a request for every example of the protocols that read a body."""
    for method, path, operation in operations():
        parameters = operation.get("parameters", [])
        names = {p["name"]: p["example"] for p in parameters if p["in"] == "path"}
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {}).items():
            if not path.endswith(NEEDS_A_MODEL):
                yield pytest.param(method, path, names, example["value"], id=path + name)


ANOTHER_TASK = pytest.param("post", "/tei/{model}", {"model": "news-topics"}, {"inputs": "a"})


@pytest.mark.parametrize(("method", "path", "names", "body"), [*examples(), ANOTHER_TASK])
async def test_every_example_is_answered_as_described(
    client: httpx.AsyncClient, method: str, path: str, names: dict[str, str], body: Any
) -> None:
    response = await client.request(method, path.format(**names), json=body)
    assert response.is_success, response.text
    content = OPENAPI["paths"][path][method]["responses"]["200"]["content"]
    schema = {**content["application/json"]["schema"], "components": OPENAPI["components"]}
    jsonschema_rs.validator_for(schema).validate(response.json())


@pytest.mark.parametrize("path", ["/tei/%0A", "/hf/a%0Ab/info", "/v2/models/%0A/infer"])
async def test_a_name_with_the_end_of_a_line_is_refused_as_the_protocol_does(
    client: httpx.AsyncClient, path: str
) -> None:
    response = await client.request("GET" if path.endswith("info") else "POST", path, json={})
    assert 400 <= response.status_code < 500
    assert response.headers["content-type"] == "application/json"


def test_every_choice_of_schemas_has_some() -> None:
    assert list(members(OPENAPI, "anyOf"))
    assert all(members(OPENAPI, "anyOf"))


def test_every_reference_leads_somewhere() -> None:
    schemas = OPENAPI["components"]["schemas"]
    for reference in references(OPENAPI):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_every_operation_is_named_tagged_and_described() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names) > 20
    assert all(operation["tags"] and operation["description"] for _, _, operation in operations())
