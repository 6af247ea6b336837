"""/v1/classify, which is the native route's and SGLang's: the key `input` tells them apart."""

from typing import Any

import httpx
import pytest

TEXTS = ["dog face", "狗脸"]


async def test_a_body_with_input_gets_the_form_of_sglang(client: httpx.AsyncClient) -> None:
    body = {"model": "news-topics", "input": TEXTS, "encoding_format": "float"}
    response = await client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    same = await client.post("/classify", json=body)
    assert response.json()["data"] == same.json()["data"]
    assert [one["index"] for one in response.json()["data"]] == [0, 1]
    bare = await client.post("/v1/classify", content=response.request.content)  # no Content-Type
    assert bare.json()["data"] == same.json()["data"]


@pytest.mark.parametrize(
    "body",
    [
        {"text": TEXTS},
        {"text": "input"},
        {"text": 'the "input": of a model', "top_k": 1},
        {"text": "a", "labels": ["input", "output"]},
    ],
)
async def test_other_bodies_are_answered_natively(client: httpx.AsyncClient, body: Any) -> None:
    response = await client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["results"]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"input": "a", "text": "b"}', 422, "invalid_input"),
        (b'{"input": "a"', 400, "malformed_request"),
        (b'["input"]', 422, "invalid_input"),
        (b"[" * 50_000 + b'"input"', 400, "malformed_request"),
        (b"{}", 422, "invalid_input"),
    ],
)
async def test_what_is_not_sglangs_is_refused_natively(
    client: httpx.AsyncClient, content: bytes, status: int, code: str
) -> None:
    headers = {"content-type": "application/json"}
    response = await client.post("/v1/classify", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("input_", "status"), [("", 422), ([1, 2], 422), ("overloaded", 429), ("bug", 500)]
)
async def test_what_is_sglangs_is_refused_in_its_shape(
    client: httpx.AsyncClient, input_: Any, status: int
) -> None:
    response = await client.post("/v1/classify", json={"input": input_})
    assert (response.status_code, response.json()["error"]["code"]) == (status, status)
    assert response.headers["content-type"] == "application/json"


async def test_a_wrong_type_or_method_is_still_refused_natively(client: httpx.AsyncClient) -> None:
    plain = await client.post("/v1/classify", content=b"a", headers={"content-type": "text/plain"})
    assert (plain.status_code, plain.json()["code"]) == (415, "unsupported_media_type")
    wrong = await client.get("/v1/classify")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
