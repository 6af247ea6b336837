"""The examples of the documentation are run; its schemas are held against real answers."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from service.api import ApiContext, Lifecycle, build_api
from service.api.classify import ClassifyResponse
from service.api.detect import DetectResponse
from service.api.embed import EmbedResponse
from service.api.models import ModelsResponse
from service.api.openapi import ProblemBody
from service.api.translate import TranslateResponse
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry

OPENAPI = build_api(ApiContext(FakeRegistry(), Lifecycle())).openapi()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in OPENAPI["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def examples() -> Iterator[Any]:
    """Yield a request for every example, and one for every operation without any."""
    for method, path, operation in operations():
        if "streams" in operation["tags"]:
            continue  # they need a source: test_streams.py has some
        parameters = operation.get("parameters", [])
        examples = {p["name"]: p["example"] for p in parameters if p["in"] == "path"}
        url = path.format(**examples)
        content = operation.get("requestBody", {}).get("content", {})
        if content and "application/json" not in content:
            continue  # a file: test_video.py sends one
        bodies = content.get("application/json", {}).get("examples", {"": {"value": None}})
        for name, example in bodies.items():
            yield pytest.param(method, url, example["value"], id=f"{method} {path} {name}")


@pytest.mark.parametrize(("method", "path", "body"), list(examples()))
async def test_every_example_answers(
    client: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    response = await client.request(
        method, path, json=body, headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert response.is_success, response.text


def test_every_body_has_examples() -> None:
    for method, path, operation in operations():
        content = operation.get("requestBody", {}).get("content", {})
        assert not content or any("examples" in media for media in content.values()), (method, path)


def test_streams_have_the_media_types_of_streams() -> None:
    content = OPENAPI["paths"]["/v1/video"]["post"]["responses"]["200"]["content"]
    assert list(content) == ["application/x-ndjson", "text/event-stream", "video/mp4"]


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embed"])
def test_the_texts_of_a_form_are_strings(path: str) -> None:
    content = OPENAPI["paths"][path]["post"]["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]["properties"]
    assert (form["text"]["type"], form["text"]["items"]["type"]) == ("array", "string")


def members(node: Any, key: str) -> Iterator[Any]:
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from members(value, key)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from members(value, key)


def references(node: Any) -> Iterator[str]:
    return (value for value in members(node, "$ref") if isinstance(value, str))


def test_every_reference_leads_somewhere() -> None:
    schemas = OPENAPI["components"]["schemas"]
    for reference in references(OPENAPI):
        assert reference.removeprefix("#/components/schemas/") in schemas


def test_every_operation_is_named_tagged_and_described() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(operation["tags"] and operation["description"] for _, _, operation in operations())


def test_every_parameter_of_a_path_is_documented() -> None:
    for _, path, operation in operations():
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == {name.partition(":")[0] for name in re.findall(r"{(.+?)}", path)}


@pytest.mark.parametrize(
    ("model", "path", "body"),
    [
        (ClassifyResponse, "/v1/classify", {"text": ["a", "b"]}),
        (TranslateResponse, "/v1/translate", {"text": "a"}),
        (EmbedResponse, "/v1/embed", {"text": "a"}),
        (ProblemBody, "/v1/embed", {"text": ["a", ""]}),
        (ProblemBody, "/v1/embed", {}),
        (ModelsResponse, "/v1/models", None),
    ],
)
async def test_answers_are_as_documented(
    client: httpx.AsyncClient, model: type[BaseModel], path: str, body: Any
) -> None:
    method = "GET" if body is None else "POST"
    response = await client.request(method, path, json=body)
    model.model_validate_json(response.content)
    assert set(response.json()) <= set(model.model_fields)


async def test_the_sample_photo_is_detected_in_as_documented(client: httpx.AsyncClient) -> None:
    content = OPENAPI["paths"]["/v1/detect"]["post"]["requestBody"]["content"]
    [example] = content["application/json"]["examples"].values()
    response = await client.post("/v1/detect", json=example["value"])
    [result] = DetectResponse.model_validate_json(response.content).results
    assert (result.width, result.height) == (224, 224)


async def test_the_page_and_all_it_loads_come_from_this_service(
    client: httpx.AsyncClient,
) -> None:
    page = (await client.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"docs/assets/{asset}" in page
        assert (await client.get(f"/docs/assets/{asset}")).status_code == 200


async def test_the_document_is_served(api: FastAPI, client: httpx.AsyncClient) -> None:
    served = (await client.get("/openapi.json")).json()
    assert served["paths"].keys() == OPENAPI["paths"].keys()
    assert served == (await client.get("/openapi.json")).json()
